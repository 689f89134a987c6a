"""The time that a simulated host takes for what it does, and the faults that are configured for it."""

from __future__ import annotations

import random
import threading
from pathlib import Path

from cell_service.context import Clock
from cell_service.errors import DriverError
from compute_host.config import HostSettings
from compute_host.virt.simulated import faults
from compute_host.virt.simulated.outgoing_migrations import Trip
from compute_host.virt.simulated.state import Record

FROZEN_LOOK_SECONDS = 0.25


class Pace:
    """One host's. Thread-safe. Every wait ends with DriverError once `stopped` is set."""

    def __init__(self, settings: HostSettings, clock: Clock) -> None:
        self._options, self._clock = settings.simulated, clock
        self._chance = random.Random()
        self.faults = faults.Faults(_fault_files(settings), self._chance)
        self.stopped = threading.Event()

    def await_thaw(self) -> None:
        """Wait until the host is not frozen."""
        while self.faults.frozen():
            self.wait(FROZEN_LOOK_SECONDS)

    def strike(self, verb: str, uuid: str, name: str, image_id: str = "") -> None:
        """Have the fault that is configured for the verb on this guest happen, if there is one."""
        fault = self.faults.happening(verb, uuid, name)
        if fault is not None:
            self.wait(fault.hang_seconds)
            faults.raise_for(fault, image_id)

    def demand_answer(self, verb: str, guest: Record | None = None) -> None:
        """Raises DriverError when the host is frozen, or a fault of this report is configured."""
        if self.faults.frozen():
            raise DriverError(reason="The host does not answer.")
        fault = self.faults.happening(verb, guest.uuid if guest else "", guest.name if guest else "")
        if fault is not None:
            faults.raise_for(fault)

    def take(self, seconds: float) -> None:
        """Wait for the time that something takes."""
        self.wait(self.varied(seconds))

    def varied(self, seconds: float) -> float:
        """The time with the configured jitter."""
        spread = self._options.jitter
        return seconds * self._chance.uniform(1 - spread, 1 + spread)

    def travel(self, trip: Trip) -> None:
        """Wait for the time of the migration, unless it is aborted or force-completed."""
        if trip.seconds > 0 and not self.stopped.is_set():
            self._clock.wait(trip.steered, trip.seconds)
        if self.stopped.is_set():
            raise DriverError(reason="The driver was stopped.")

    def wait(self, seconds: float) -> None:
        if seconds > 0:
            self._clock.wait(self.stopped, seconds)
        if self.stopped.is_set():
            raise DriverError(reason="The driver was stopped.")


def _fault_files(settings: HostSettings) -> tuple[Path, ...]:
    own = settings.state / "faults.json"
    shared = settings.simulated.faults_file
    return (own,) if shared is None else (own, Path(shared))
