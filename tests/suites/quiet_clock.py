"""A clock for many threads of one process, which jumps to what is due next when all of them wait.

So a period costs no real time. While a thread works, the clock goes on only by the processor time that the process
gets: on a machine that has none to give, nothing becomes late. Waits for something outside of the process (a server, a
socket's time-out) count as waits.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

LEAST_STEP = 0.01
MOST_STEP = 0.25
GLANCE_SECONDS = 0.0005
"""Real seconds between two looks at the threads; during these, other threads have the interpreter."""
GLANCES = 2
BUSY_SECONDS = 0.005
"""Real seconds for which a process that works is left alone."""
BUSY_RATE = 0.5
"""By how much the clock goes on for each second of processor time that is spent at work."""


@dataclass(eq=False, slots=True)
class _Waiter:
    due: float
    condition: threading.Condition


class Threads:
    """The states of this process's other threads, as the kernel tells them (proc(5))."""

    def __init__(self) -> None:
        self._stats: dict[str, int] = {}
        self._busy = ""
        """The thread that was found at work last; as a rule it still is."""

    def all_wait(self) -> bool:
        """Whether no thread but the caller's runs, could run, or reads from a disk."""
        if self._busy and not self._waits(self._busy):
            return False
        own = str(threading.get_native_id())
        alive = os.listdir("/proc/self/task")
        for gone in self._stats.keys() - set(alive):
            os.close(self._stats.pop(gone))
        self._busy = next((thread for thread in alive if thread != own and not self._waits(thread)), "")
        return not self._busy

    def close(self) -> None:
        for stat in self._stats.values():
            os.close(stat)
        self._stats.clear()

    def _waits(self, thread: str) -> bool:
        try:
            if thread not in self._stats:
                self._stats[thread] = os.open(f"/proc/self/task/{thread}/stat", os.O_RDONLY | os.O_CLOEXEC)
            told = os.pread(self._stats[thread], 80, 0)
        except OSError:  # it has just ended
            return True
        state = told[told.rindex(b")") + 2 :][:1]
        return state not in (b"R", b"D")


class QuietClock:
    """Starts at the machine's time, and runs unless it is paused. `close` at the end."""

    def __init__(self) -> None:
        self._began = datetime.now(UTC)
        self._elapsed = 0.0
        self._lock = threading.Lock()
        self._waiters: set[_Waiter] = set()
        self._runs, self._closed = threading.Event(), False
        self._runs.set()
        self._thread = threading.Thread(target=self._turn, name="quiet-clock", daemon=True)
        self._thread.start()

    def now(self) -> datetime:
        return self._began + timedelta(seconds=self._elapsed)

    def monotonic(self) -> float:
        return self._elapsed

    def wait(self, event: threading.Event, seconds: float) -> bool:
        condition: threading.Condition = getattr(event, "_cond")  # noqa: B009  it is private, and wakes the waiters
        waiter = _Waiter(self._elapsed + seconds, condition)
        with self._lock:
            self._waiters.add(waiter)
        try:
            with condition:
                condition.wait_for(lambda: event.is_set() or self._elapsed >= waiter.due)
            return event.is_set()
        finally:
            with self._lock:
                self._waiters.discard(waiter)

    def advance(self, seconds: float) -> None:
        """Turn the clock at once, whoever works."""
        with self._lock:
            self._elapsed += seconds
            due = [waiter for waiter in self._waiters if waiter.due <= self._elapsed]
        for waiter in due:
            with waiter.condition:
                waiter.condition.notify_all()

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Of a clock that is paused: let it run meanwhile."""
        self._runs.set()
        try:
            yield
        finally:
            self.pause()

    def pause(self) -> None:
        self._runs.clear()

    def close(self) -> None:
        """Time passes no more, and all waits end."""
        self._closed = True
        self._runs.set()
        self._thread.join()
        self.advance(float("1e9"))

    def _turn(self) -> None:
        threads, spent = Threads(), time.process_time()
        while not self._closed:
            if not self._runs.is_set():
                self._runs.wait()
                spent = time.process_time()
            if self._is_quiet(threads):
                self.advance(min(max(self._next_due() - self._elapsed, LEAST_STEP), MOST_STEP))
                spent = time.process_time()
                continue
            time.sleep(BUSY_SECONDS)
            worked = (time.process_time() - spent) * BUSY_RATE
            if worked >= LEAST_STEP:
                self.advance(worked)
                spent = time.process_time()
        threads.close()

    def _next_due(self) -> float:
        with self._lock:
            return min((waiter.due for waiter in self._waiters), default=self._elapsed)

    def _is_quiet(self, threads: Threads) -> bool:
        for _ in range(GLANCES):
            time.sleep(GLANCE_SECONDS)
            if not threads.all_wait():
                return False
        return True
