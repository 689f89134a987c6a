"""The operations that a host has claimed and not yet ended: they run one at a time for each instance, with one limit
for builds and one for all others, so that deletes never wait for builds."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable

from cell_service.context import Clock
from cell_service.errors import OperationLost
from cell_service.model.operation import ClaimedOperation
from cell_service.operations.declaration import Pool
from cell_service.operations.table import declared

REMEMBERED_SECONDS = 120.0
WAITING_VERBS = 4
"""The number of operations (builds apart) that may be claimed to wait here, as a multiple of those that run at once."""


def is_build(claimed: ClaimedOperation) -> bool:
    """Whether the operation counts towards the limit of builds."""
    return declared(claimed.operation).pool is Pool.BUILDS


class Backlog:
    """Thread-safe. `start` is called, without a lock, with each operation that may begin."""

    def __init__(self, clock: Clock, builds: int, verbs: int, start: Callable[[ClaimedOperation], None]) -> None:
        self._clock, self._builds, self._verbs, self._start = clock, builds, verbs, start
        self._lock = threading.Lock()
        self._claimed: dict[int, ClaimedOperation] = {}
        self._running: set[int] = set()
        self._lost: set[tuple[int, int]] = set()
        """Ids and fences of operations that another worker has now."""
        self._busy: set[str] = set()
        self._ended: deque[tuple[float, str]] = deque()
        self._closed = False
        self._idle = threading.Event()
        self._idle.set()

    def capacity(self) -> tuple[int, int]:
        """How many more builds, and how many more other operations, may be claimed."""
        with self._lock:
            builds = sum(1 for each in self._claimed.values() if is_build(each))
            verbs = len(self._claimed) - builds
        return max(0, self._builds - builds), max(0, self._verbs * WAITING_VERBS - verbs)

    def fences(self) -> dict[int, int]:
        """Operation id → fence, of all that is claimed."""
        with self._lock:
            return {key: each.fence for key, each in self._claimed.items()}

    def add(self, claimed: Iterable[ClaimedOperation]) -> None:
        """Add claimed operations. An operation claimed before for the same instance must be over: it counts as lost."""
        with self._lock:
            for new in claimed:
                for older in self._claimed.values():
                    if older.instance.uuid == new.instance.uuid and older.id != new.id:
                        self._lost.add((older.id, older.fence))
                self._claimed.setdefault(new.id, new)
        self._go_on()

    def mark_lost(self, ids: Iterable[int]) -> None:
        with self._lock:
            for operation_id in ids:
                if operation_id in self._claimed:
                    self._lost.add((operation_id, self._claimed[operation_id].fence))

    def check(self, claimed: ClaimedOperation) -> None:
        """Raises OperationLost when another worker has the operation now."""
        with self._lock:
            lost = (claimed.id, claimed.fence) in self._lost
        if lost:
            raise OperationLost(operation_id=claimed.id, fence=claimed.fence)

    def superseded(self) -> set[str]:
        """Instances with an operation that waits while one that was lost still runs."""
        with self._lock:
            lost = {each.instance.uuid for each in self._claimed.values() if self._is_running_in_vain(each)}
            waiting = {each.instance.uuid for key, each in self._claimed.items() if key not in self._running}
            return waiting & lost

    def end(self, claimed: ClaimedOperation) -> None:
        """Remove an operation that has ended and was reported."""
        with self._lock:
            self._claimed.pop(claimed.id, None)
            self._running.discard(claimed.id)
            self._lost.discard((claimed.id, claimed.fence))
            self._busy.discard(claimed.instance.uuid)
            self._remember(claimed.instance.uuid)
        self._go_on()

    def reserve(self, uuid: str) -> bool:
        """Keep operations on the instance waiting until `release`. False while one is claimed."""
        with self._lock:
            if uuid in self._busy or self._has(uuid):
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
            now = {each.instance.uuid for each in self._claimed.values()}
            return now | {uuid for at, uuid in self._ended if at > moment}

    def is_busy(self, uuid: str) -> bool:
        """Whether an operation on the instance is claimed."""
        with self._lock:
            return self._has(uuid)

    def close(self) -> None:
        """Begin no more operations."""
        with self._lock:
            self._closed = True
        self._go_on()

    def wait_idle(self, seconds: float) -> bool:
        """Wait until nothing runs. False when the time was not enough."""
        return self._clock.wait(self._idle, seconds)

    def _has(self, uuid: str) -> bool:
        return any(each.instance.uuid == uuid for each in self._claimed.values())

    def _is_running_in_vain(self, claimed: ClaimedOperation) -> bool:
        return claimed.id in self._running and (claimed.id, claimed.fence) in self._lost

    def _go_on(self) -> None:
        """Start the operations that may run now. Operations of one instance begin in the order of their ids."""
        with self._lock:
            ready = []
            running = [self._claimed[key] for key in self._running]
            builds = sum(1 for each in running if is_build(each))
            verbs = len(running) - builds
            for each in () if self._closed else sorted(self._claimed.values(), key=lambda one: one.id):
                if each.id in self._running or each.instance.uuid in self._busy:
                    continue
                if (builds >= self._builds) if is_build(each) else (verbs >= self._verbs):
                    continue
                self._running.add(each.id)
                self._busy.add(each.instance.uuid)
                builds, verbs = builds + is_build(each), verbs + (not is_build(each))
                ready.append(each)
            if ready or running:
                self._idle.clear()
            else:
                self._idle.set()
        for each in ready:
            self._start(each)

    def _remember(self, uuid: str) -> None:
        now = self._clock.monotonic()
        self._ended.append((now, uuid))
        while self._ended and self._ended[0][0] < now - REMEMBERED_SECONDS:
            self._ended.popleft()
