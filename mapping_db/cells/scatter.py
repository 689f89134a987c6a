"""Work on many cells at once: answers and failures, both values, by one deadline."""

from __future__ import annotations

import queue
import threading
from collections import defaultdict, deque
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from cell_service.context import Deadline
from cell_service.errors import CellUnavailable, PolycellError

T = TypeVar("T")

IDLE_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Gathered(Generic[T]):
    """Answers and failures, by cell id. Every cell is in exactly one of the two."""

    answers: Mapping[int, T]
    failures: Mapping[int, PolycellError]


class Threads:
    """Threads shared by all cells, of which each cell may use `per_cell` at a time. They end when idle."""

    def __init__(self, per_cell: int, backlog: int) -> None:
        self._per_cell, self._most_waiting = per_cell, backlog
        self._lock = threading.Lock()
        self._busy: dict[int, int] = defaultdict(int)
        self._waiting: dict[int, deque[Callable[[], None]]] = defaultdict(deque)
        self._ready: queue.SimpleQueue[tuple[int, Callable[[], None]]] = queue.SimpleQueue()
        self._idle = 0

    def submit(self, cell_id: int, job: Callable[[], None]) -> bool:
        """Run the job (which must not raise) as soon as the cell has a thread. False: too many wait already."""
        with self._lock:
            if self._busy[cell_id] >= self._per_cell:
                if len(self._waiting[cell_id]) >= self._most_waiting:
                    return False
                self._waiting[cell_id].append(job)
                return True
            self._busy[cell_id] += 1
            spawn = self._idle == 0
            if not spawn:
                self._idle -= 1
        if spawn:
            threading.Thread(target=self._work, args=(cell_id, job), name="scatter", daemon=True).start()
        else:
            self._ready.put((cell_id, job))
        return True

    def _work(self, cell_id: int, job: Callable[[], None]) -> None:
        while True:
            job()
            with self._lock:
                waiting = self._waiting[cell_id]
                if waiting:
                    job = waiting.popleft()
                    continue
                self._busy[cell_id] -= 1
                self._idle += 1
            del job  # with all that it refers to
            try:
                cell_id, job = self._ready.get(timeout=IDLE_SECONDS)
            except queue.Empty:
                with self._lock:
                    if self._idle:
                        self._idle -= 1
                        return
                cell_id, job = self._ready.get()  # a job was put just before the thread would have ended


@dataclass(slots=True)
class _Ask(Generic[T]):
    """One scatter under way."""

    missing: set[int]
    answers: dict[int, T] = field(default_factory=dict)
    failures: dict[int, PolycellError] = field(default_factory=dict)
    bug: BaseException | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)
    done: threading.Event = field(default_factory=threading.Event)

    def run(self, cell_id: int, work: Callable[[], T]) -> None:
        with self.lock:
            if cell_id not in self.missing:  # the deadline was over before this cell's work began
                return
        answer: T | None = None
        failure: PolycellError | None = None
        bug: BaseException | None = None
        try:
            answer = work()
        except PolycellError as error:
            failure = error
        except Exception as error:  # noqa: BLE001  the edge of a thread: it is raised in the caller's
            bug = error
        with self.lock:
            if cell_id not in self.missing:
                return
            self.missing.discard(cell_id)
            if bug is not None:
                self.bug = self.bug or bug
            elif failure is not None:
                self.failures[cell_id] = failure
            else:
                self.answers[cell_id] = answer  # type: ignore[assignment]
            if not self.missing or self.bug is not None:
                self.done.set()


class Pending(Generic[T]):
    """One cell's work, and its answer once there is one."""

    def __init__(self, cell_id: int, cell: str) -> None:
        """`cell` is its name, for errors."""
        self._ask: _Ask[T] = _Ask({cell_id})
        self._cell_id, self._cell = cell_id, cell

    def result(self, deadline: Deadline) -> T:
        """The answer. Raises what the work raised, and CellUnavailable when there is none by the deadline."""
        ask = self._ask
        deadline.clock.wait(ask.done, deadline.remaining())
        with ask.lock:
            late, ask.missing = ask.missing, set()
        if ask.bug is not None:
            raise ask.bug
        if late:
            raise CellUnavailable(cell=self._cell, reason="no answer in time")
        failure = ask.failures.get(self._cell_id)
        if failure is not None:
            raise failure
        return ask.answers[self._cell_id]

    def fail(self, failure: PolycellError) -> None:
        """Make this failure the answer."""

        def work() -> T:
            raise failure

        self._ask.run(self._cell_id, work)

    def run(self, work: Callable[[], T]) -> None:
        """Do the work on the caller's thread."""
        self._ask.run(self._cell_id, work)


def begin(cell_id: int, cell: str, work: Callable[[], T], threads: Threads) -> Pending[T]:
    """Begin one cell's work; the caller may wait for its answer later, or never. `cell`: see Pending."""
    pending: Pending[T] = Pending(cell_id, cell)
    if not threads.submit(cell_id, lambda: pending.run(work)):
        pending.fail(CellUnavailable(cell=cell, reason="too many requests wait for it"))
    return pending


def gather(
    works: Mapping[int, Callable[[], T]], threads: Threads, deadline: Deadline, local: Collection[int] = (),
    name: Callable[[int], str] = str,
) -> Gathered[T]:  # fmt: skip
    """Do every cell's work; a cell that has not answered by the deadline is among the failures. `name` gives a cell's,
    for errors.

    A single cell's work is done on the caller's thread, and so is that of `local` cells, which wait for no server.
    An error that is no PolycellError is a bug and propagates.
    """
    ask: _Ask[T] = _Ask(set(works))
    if len(works) == 1:
        for cell_id, work in works.items():
            ask.run(cell_id, work)
    else:
        for cell_id, work in works.items():
            if cell_id in local:
                continue
            if not threads.submit(cell_id, lambda cell_id=cell_id, work=work: ask.run(cell_id, work)):  # type: ignore[misc]
                with ask.lock:
                    ask.missing.discard(cell_id)
                    ask.failures[cell_id] = CellUnavailable(cell=name(cell_id), reason="too many requests wait for it")
        for cell_id in local:
            if deadline.remaining() > 0:
                ask.run(cell_id, works[cell_id])
        if ask.missing:
            deadline.clock.wait(ask.done, deadline.remaining())
    with ask.lock:
        late, ask.missing = ask.missing, set()
    if ask.bug is not None:
        raise ask.bug
    ask.failures.update({cell_id: CellUnavailable(cell=name(cell_id), reason="no answer in time") for cell_id in late})
    return Gathered(ask.answers, ask.failures)
