"""Guests of a simulated host that do something by themselves, as their configured faults say."""

from __future__ import annotations

import threading
from collections.abc import Callable

from cell_service.errors import DriverError
from cell_service.model.lifecycle import PowerState
from compute_host.timers import Executor, Timer, Timers
from compute_host.virt.simulated.guests import Guests


class Watch:
    """Checks the faults of one host's guests every `seconds`; calls `happen` with the uuid and what the guest does."""

    def __init__(
        self, guests: Guests, timers: Timers, pool: Executor, seconds: float, happen: Callable[[str, str], None]
    ) -> None:
        self._guests, self._timers, self._pool = guests, timers, pool
        self._seconds, self._happen = seconds, happen
        self._lock = threading.Lock()
        self._timer: Timer | None = None

    def start(self) -> None:
        """Begin to check. A second call changes nothing."""
        with self._lock:
            if self._timer is None:
                self._later()

    def stop(self) -> None:
        """Check no more. Safe to call twice."""
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

    def _later(self) -> None:
        self._timer = self._timers.after(self._seconds, self._pool, self._check)

    def _check(self) -> None:
        """Make guests do what their faults say, and check again later."""
        pace = self._guests.pace
        try:
            if not pace.stopped.is_set() and pace.faults.any_for_guests():
                for guest in self._guests.state.guests():
                    if guest.power_state is PowerState.RUNNING:
                        fault = pace.faults.happening("guest", guest.uuid, guest.name)
                        if fault is not None:
                            self._happen(guest.uuid, fault.does)
        except DriverError:
            return  # stopped, or the guest was removed meanwhile
        finally:
            with self._lock:
                if not pace.stopped.is_set() and self._timer is not None:
                    self._later()
