"""Switching a simulated host off and on. Its power is in its stored state, so that it survives the agent."""

from __future__ import annotations

from collections.abc import Callable

from cell_service.errors import DriverError, Invalid
from cell_service.model.host import PowerAction
from compute_host.timers import Executor, Timers
from compute_host.virt.driver import Returned, unheard
from compute_host.virt.simulated.state import HostPower, State


class Switch:
    """Switches one host off and on; the host takes `seconds` to start. `state` raises DriverError while the driver is
    not connected."""

    def __init__(self, state: Callable[[], State], timers: Timers, pool: Executor, seconds: float) -> None:
        self._state, self._timers, self._pool, self._seconds = state, timers, pool, seconds
        self._returned: Returned = unheard

    def connect(self, state: State, returned: Returned) -> None:
        """`returned` is called when the host has started. A start that was under way is continued."""
        self._returned = returned
        if state.power is HostPower.STARTING:
            self._up_later()

    def operate(self, action: PowerAction) -> None:
        """Switch the host. Raises Invalid, DriverError."""
        state = self._state()
        if action is PowerAction.SHUTDOWN:
            for before in (HostPower.ON, HostPower.STARTING):
                state.switch(HostPower.OFF, source=before)
            return
        source = HostPower.OFF if action is PowerAction.STARTUP else HostPower.ON
        if state.switch(HostPower.STARTING, source=source):
            self._up_later()
        elif action is PowerAction.REBOOT and state.power is HostPower.OFF:
            raise Invalid(reason="The host is off: it cannot reboot.")

    def is_on(self) -> bool:
        return self._state().power is HostPower.ON

    def _up_later(self) -> None:
        self._timers.after(self._seconds, self._pool, self._up)

    def _up(self) -> None:
        try:
            if self._state().switch(HostPower.ON, source=HostPower.STARTING):
                self._returned()
        except DriverError:
            return  # disconnected meanwhile: the next connection continues the start
