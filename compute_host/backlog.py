"""The operations that a host has taken and not yet ended: one at a time for each instance, so many builds at once,
so many of everything else, and deletes never behind builds."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable

from cell_service.context import Clock
from cell_service.errors import OperationLost
from cell_service.model.operation import Kind, Work

REMEMBERED_SECONDS = 120.0
WAITING_VERBS = 4
"""How many times as many verbs as run at once may be taken, to wait here."""


class Held:
    """One operation that this host holds. `lost`: it has been taken away."""

    __slots__ = ("lost", "running", "work")

    def __init__(self, work: Work) -> None:
        self.work = work
        self.running = False
        self.lost = False

    @property
    def id(self) -> int:
        return self.work.operation.id

    @property
    def uuid(self) -> str:
        return self.work.instance.uuid

    @property
    def is_build(self) -> bool:
        return self.work.operation.kind is Kind.BUILD

    def check(self) -> None:
        """Raises OperationLost when it has been taken away."""
        if self.lost:
            raise OperationLost(operation_id=self.id, fence=self.work.operation.fence)


class Backlog:
    """Thread-safe. `start` is called, without a lock held, with each operation whose turn has come."""

    def __init__(self, clock: Clock, builds: int, verbs: int, start: Callable[[Held], None]) -> None:
        self._clock, self._builds, self._verbs, self._start = clock, builds, verbs, start
        self._lock = threading.Lock()
        self._held: dict[int, Held] = {}
        self._busy: set[str] = set()
        self._ended: deque[tuple[float, str]] = deque()
        self._closed = False
        self._idle = threading.Event()
        self._idle.set()

    def room(self) -> tuple[int, int]:
        """How many more builds, and how many more other operations, may be taken."""
        with self._lock:
            builds = sum(1 for held in self._held.values() if held.is_build)
            verbs = len(self._held) - builds
        return max(0, self._builds - builds), max(0, self._verbs * WAITING_VERBS - verbs)

    def fences(self) -> dict[int, int]:
        """Operation id → fence, of all that is held."""
        with self._lock:
            return {held.id: held.work.operation.fence for held in self._held.values()}

    def add(self, works: Iterable[Work]) -> None:
        """These have been taken. What was held before for the same instance must be over: it counts as lost."""
        with self._lock:
            for work in works:
                for older in self._held.values():
                    if older.uuid == work.instance.uuid and older.id != work.operation.id:
                        older.lost = True
                if work.operation.id not in self._held:
                    self._held[work.operation.id] = Held(work)
        self._go_on()

    def mark_lost(self, ids: Iterable[int]) -> None:
        with self._lock:
            for operation_id in ids:
                held = self._held.get(operation_id)
                if held is not None:
                    held.lost = True

    def overtaken(self) -> set[str]:
        """Instances for which another operation waits while one that was taken away still runs."""
        with self._lock:
            lost = {held.uuid for held in self._held.values() if held.running and held.lost}
            return {held.uuid for held in self._held.values() if not held.running} & lost

    def end(self, held: Held) -> None:
        """The operation is over and told."""
        with self._lock:
            self._held.pop(held.id, None)
            self._busy.discard(held.uuid)
            self._remember(held.uuid)
        self._go_on()

    def reserve(self, uuid: str) -> bool:
        """Keep operations on the instance waiting until `release`. False while one is held."""
        with self._lock:
            if uuid in self._busy or any(held.uuid == uuid for held in self._held.values()):
                return False
            self._busy.add(uuid)
            return True

    def release(self, uuid: str) -> None:
        with self._lock:
            self._busy.discard(uuid)
        self._go_on()

    def touched_after(self, moment: float) -> set[str]:
        """Instances that have operations now, or had after then (on the clock's monotonic)."""
        with self._lock:
            return {held.uuid for held in self._held.values()} | {uuid for at, uuid in self._ended if at > moment}

    def is_busy(self, uuid: str) -> bool:
        """Whether an operation on the instance is held."""
        with self._lock:
            return any(held.uuid == uuid for held in self._held.values())

    def close(self) -> None:
        """Begin nothing any more."""
        with self._lock:
            self._closed = True
        self._go_on()

    def wait_idle(self, seconds: float) -> bool:
        """Wait until nothing runs. False when the time was not enough."""
        return self._clock.wait(self._idle, seconds)

    def _go_on(self) -> None:
        """Start whatever may run now. Operations of one instance begin in the order of their ids."""
        with self._lock:
            ready = []
            running = [held for held in self._held.values() if held.running]
            builds = sum(1 for held in running if held.is_build)
            verbs = len(running) - builds
            for held in () if self._closed else sorted(self._held.values(), key=lambda one: one.id):
                if held.running or held.uuid in self._busy:
                    continue
                if (builds >= self._builds) if held.is_build else (verbs >= self._verbs):
                    continue
                held.running = True
                self._busy.add(held.uuid)
                builds, verbs = builds + held.is_build, verbs + (not held.is_build)
                ready.append(held)
            if ready or running:
                self._idle.clear()
            else:
                self._idle.set()
        for held in ready:
            self._start(held)

    def _remember(self, uuid: str) -> None:
        now = self._clock.monotonic()
        self._ended.append((now, uuid))
        while self._ended and self._ended[0][0] < now - REMEMBERED_SECONDS:
            self._ended.popleft()
