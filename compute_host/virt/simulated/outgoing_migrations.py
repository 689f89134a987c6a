"""Outgoing migrations of a simulated host's guests: their progress, and how to abort or force-complete them."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

from cell_service.context import Clock
from cell_service.errors import DriverError
from cell_service.model.migration import OutgoingMigration

MIB = 2**20


@dataclass(slots=True)
class Trip:
    """One guest's migration; `steered` is set when it is to end early, `cancelled` if it is aborted."""

    memory_mib: int
    begun: float
    seconds: float
    steered: threading.Event = field(default_factory=threading.Event)
    cancelled: bool = False


class Trips:
    """Thread-safe."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._going: dict[str, Trip] = {}

    @contextlib.contextmanager
    def of(self, uuid: str, memory_mib: int, seconds: float) -> Iterator[Trip]:
        """Mark the guest as being migrated inside the block. Raises DriverError at its end when the migration was
        aborted."""
        trip = Trip(memory_mib, self._clock.monotonic(), seconds)
        with self._lock:
            self._going[uuid] = trip
        try:
            yield trip
        finally:
            with self._lock:
                self._going.pop(uuid, None)
        if trip.cancelled:
            raise DriverError(reason="The live migration was given up.")

    def progress(self, uuid: str) -> OutgoingMigration | None:
        with self._lock:
            trip = self._going.get(uuid)
        if trip is None:
            return None
        total = trip.memory_mib * MIB
        part = min(1.0, (self._clock.monotonic() - trip.begun) / trip.seconds) if trip.seconds else 1.0
        done = int(total * part)
        return OutgoingMigration(total, done, total - done)

    def steer(self, uuid: str, *, finish: bool) -> bool:
        with self._lock:
            trip = self._going.get(uuid)
            if trip is None:
                return False
            trip.cancelled = trip.cancelled or not finish
        trip.steered.set()
        return True

    def stop(self) -> None:
        """End all waits."""
        with self._lock:
            going = list(self._going.values())
        for trip in going:
            trip.steered.set()
