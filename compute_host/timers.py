"""Timers for many hosts on few threads: one thread watches the time, pools run the steps."""

from __future__ import annotations

import heapq
import itertools
import logging
import random
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

from cell_service.backoff import Backoff
from cell_service.context import SYSTEM_CLOCK, Clock
from cell_service.errors import PolycellError

log = logging.getLogger(__name__)

Step = Callable[[], None]
_PAUSES = Backoff(first=0.5, longest=15.0)


class Executor(Protocol):
    """A pool on which steps run. `concurrent.futures.ThreadPoolExecutor` is one."""

    def submit(self, fn: Step, /) -> object: ...


class Timer:
    """A step that will run, unless it is cancelled before."""

    __slots__ = ("at", "cancelled", "pool", "step")

    def __init__(self, at: float, pool: Executor, step: Step) -> None:
        self.at, self.pool, self.step, self.cancelled = at, pool, step, False

    def cancel(self) -> None:
        self.cancelled = True


class Timers:
    """Runs steps on pools when they are due. Thread-safe; one thread, whatever the number of timers, or none
    (`threaded` false: the test that advances the clock calls `fire`)."""

    def __init__(self, clock: Clock = SYSTEM_CLOCK, *, threaded: bool = True) -> None:
        self.clock = clock
        self._heap: list[tuple[float, int, Timer]] = []
        self._number = itertools.count()
        self._lock = threading.Lock()
        self._changed = threading.Event()
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="timers", daemon=True)
        if threaded:
            self._thread.start()

    def after(self, seconds: float, pool: Executor, step: Step) -> Timer:
        """Run `step` on `pool` in `seconds`."""
        timer = Timer(self.clock.monotonic() + seconds, pool, step)
        with self._lock:
            heapq.heappush(self._heap, (timer.at, next(self._number), timer))
            first = self._heap[0][2] is timer
        if first:
            self._changed.set()
        return timer

    def stop(self) -> None:
        """Run no more steps. Safe to call twice."""
        self._stopped = True
        self._changed.set()
        if self._thread.is_alive() and threading.current_thread() is not self._thread:
            self._thread.join(5)

    def _run(self) -> None:
        while not self._stopped:
            self._changed.clear()
            pause = self.fire()
            self.clock.wait(self._changed, min(pause, 60.0))

    def fire(self) -> float:
        """Submit the steps that are due to their pools; returns the seconds until the next one."""
        while True:
            with self._lock:
                if not self._heap:
                    return 60.0
                left = self._heap[0][0] - self.clock.monotonic()
                if left > 0:
                    return left
                timer = heapq.heappop(self._heap)[2]
            if not timer.cancelled:
                try:
                    timer.pool.submit(timer.step)
                except RuntimeError:
                    log.info("a step was dropped: its pool is closed")


class Pools:
    """The threads that hosts of one process share: `control` for messages to the cell, `builds`, and `verbs` for
    all other operations, so that they do not wait for builds."""

    def __init__(self, *, control: int = 4, builds: int = 10, verbs: int = 8) -> None:
        self.control = ThreadPoolExecutor(control, thread_name_prefix="control")
        self.builds = ThreadPoolExecutor(builds, thread_name_prefix="build")
        self.verbs = ThreadPoolExecutor(verbs, thread_name_prefix="verb")

    def stop(self, *, wait: bool = False) -> None:
        for pool in (self.control, self.builds, self.verbs):
            pool.shutdown(wait=wait, cancel_futures=True)


class Repeated:
    """A step that runs again and again: `seconds` after it succeeded (None: only when triggered), and after a failure
    soon, with growing pauses.

    It never runs twice at once; `trigger` makes it run now, or once more after the run under way.
    """

    def __init__(self, what: str, timers: Timers, pool: Executor, step: Step, seconds: float | None) -> None:
        self._what, self._timers, self._pool, self._step, self._seconds = what, timers, pool, step, seconds
        self._lock = threading.Lock()
        self._timer: Timer | None = None
        self._running = False
        self._again = False
        self._stopped = False
        self._failures = 0

    def start(self, first_seconds: float | None = None) -> None:
        """Run first after `first_seconds` (None: at a random moment of an interval, so that hosts spread out)."""
        self._schedule(random.uniform(0, self._seconds or 0) if first_seconds is None else first_seconds)

    def trigger(self) -> None:
        with self._lock:
            if self._stopped:
                return
            if self._running:
                self._again = True
                return
            if self._timer is not None:
                self._timer.cancel()
            self._running = True
        self._submit()

    def stop(self) -> None:
        with self._lock:
            self._stopped = True
            if self._timer is not None:
                self._timer.cancel()

    def _schedule(self, seconds: float) -> None:
        with self._lock:
            if not self._stopped:
                self._timer = self._timers.after(seconds, self._pool, self._due)

    def _due(self) -> None:
        with self._lock:
            if self._stopped or self._running:
                return
            self._running = True
        self._run()

    def _submit(self) -> None:
        try:
            self._pool.submit(self._run)
        except RuntimeError:
            self._stopped = True

    def _run(self) -> None:
        failed = not self._went_well()
        self._failures = self._failures + 1 if failed else 0
        with self._lock:
            again, self._again = self._again and not failed, False
            self._running = again and not self._stopped
        if self._running:
            self._submit()
        elif failed:
            self._schedule(_PAUSES.pause(self._failures))
        elif self._seconds is not None:
            self._schedule(self._seconds * random.uniform(0.9, 1.0))

    def _went_well(self) -> bool:
        try:
            self._step()
        except PolycellError as error:
            if self._failures in (0, 10, 100):
                log.warning("%s failed, trying again: %s", self._what, error)
            return False
        except Exception:
            log.exception("%s failed, trying again", self._what)
            return False
        return True


class MakeLoop(Protocol):
    """Makes a repeated step of one host: its name in logs, the step, and the seconds between runs (None: only when
    triggered)."""

    def __call__(self, what: str, step: Step, seconds: float | None, /) -> Repeated: ...
