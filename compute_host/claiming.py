"""Claiming a host's operations from its cell, and keeping the leases of those that were claimed."""

from __future__ import annotations

from collections.abc import Callable

from cell_service.context import Clock, internal
from compute_host.backlog import Backlog
from compute_host.cell_link import CellLink
from compute_host.timers import MakeLoop
from compute_host.virt.driver import Driver, HostSwitch, LiveMigrations

CALLING_SECONDS = 0.5
"""How often a guest's outgoing migration is aborted again when another operation has superseded its move."""


class Claiming:
    """Claims the operations of one host. `is_ready`: whether the host is registered; before that nothing is claimed."""

    def __init__(
        self,
        host: str,
        *,
        link: CellLink,
        backlog: Backlog,
        driver: Driver,
        clock: Clock,
        renew_seconds: float,
        is_ready: Callable[[], bool],
        loop: MakeLoop,
    ) -> None:
        self._host, self._link, self._backlog, self._driver, self._clock = host, link, backlog, driver, clock
        self._renew_seconds, self._is_ready = renew_seconds, is_ready
        self._crowded = False
        self._renewal_waits = False
        self._claims = loop("claim", self._claim, None)
        self._renewals = loop("renewal of leases", self._renew, None)
        self._calls = loop("calling back of guests", self._call_back, None)

    def trigger(self) -> None:
        """Claim now, before the next poll: there may be work."""
        self._claims.trigger()

    def ended(self) -> None:
        """Claim more if the backlog was full: an operation of the host has ended."""
        if self._crowded:
            self.trigger()

    def _claim(self) -> None:
        with self._link.changing:
            if not self._link.is_leaving:
                self._claim_free()

    def _claim_free(self) -> None:
        if not self._is_ready() or not is_on(self._driver):
            return  # operations claimed now would fail; they wait until the host is on
        builds, verbs = self._backlog.capacity()
        self._crowded = not (builds and verbs)
        if not builds and not verbs:
            return
        claimed = self._link.conductor.claim_operations(
            internal(self._clock, 30), self._host, builds + verbs, self._host, builds, tuple(self._backlog.fences())
        )
        self._crowded = self._crowded or len(claimed) >= min(builds, verbs)
        if claimed:
            self._backlog.add(claimed)
            self._renew_later()
            if self._backlog.superseded():
                self._calls.trigger()

    def _call_back(self) -> None:
        """Abort outgoing migrations that another operation has superseded, and again while such operations wait: a
        migration may begin after the first attempt."""
        superseded = self._backlog.superseded()
        if superseded and isinstance(self._driver, LiveMigrations):
            for uuid in superseded:
                self._driver.steer_migration(uuid, finish=False)
            self._calls.start(CALLING_SECONDS)

    def _renew(self) -> None:
        """Renew the leases of all claimed operations, while there are any."""
        self._renewal_waits = False
        claimed = self._backlog.fences()
        if claimed:
            named = {str(operation_id): fence for operation_id, fence in claimed.items()}
            lost = self._link.conductor.renew_leases(internal(self._clock, 30), self._host, named)
            self._backlog.mark_lost(lost)
            self._renew_later()

    def _renew_later(self) -> None:
        if not self._renewal_waits:
            self._renewal_waits = True
            self._renewals.start(self._renew_seconds)


def is_on(driver: Driver) -> bool:
    """Whether the host is on; always, if its driver can't switch it off."""
    return not isinstance(driver, HostSwitch) or driver.host_is_on()
