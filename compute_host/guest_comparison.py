"""When a host compares its guests with its cell's instances, and starts them again after the host was restarted."""

from __future__ import annotations

import logging
from datetime import timedelta

from cell_service.context import Clock, Context, internal
from cell_service.errors import DriverError, Unavailable
from cell_service.logs import about
from compute_host.backlog import Backlog
from compute_host.cell_link import CellLink
from compute_host.config import HostSettings
from compute_host.operations.context import HostContext
from compute_host.reconcile import reconcile
from compute_host.resume import resume_guests

log = logging.getLogger(__name__)

RESUME_SECONDS = 30.0
"""For how long the start of guests is tried again after their host's start: its network may come up later."""


class GuestComparison:
    """The comparisons of one host. `driver_lost`: the driver does not answer (yet); the host may have been
    restarted."""

    def __init__(
        self,
        settings: HostSettings,
        context: HostContext,
        *,
        link: CellLink,
        backlog: Backlog,
        clock: Clock,
    ) -> None:
        self._settings, self._context, self._link, self._backlog = settings, context, link, backlog
        self._clock = clock
        self.driver_lost = True
        self._resume_until = clock.now() + timedelta(seconds=RESUME_SECONDS)

    def lose_driver(self, *, again: bool = False) -> None:
        """Record that the driver does not answer, or (`again`) has just returned: the time to start guests begins."""
        if again or not self.driver_lost:
            self.driver_lost = True
            self._resume_until = self._clock.now() + timedelta(seconds=RESUME_SECONDS)

    def run(self) -> None:
        """Compare with the cell, then with the cell that the host has left. Raises DriverError, Unavailable."""
        self.compare()
        self._ask_left_cell()

    def compare(self) -> None:
        """Compare the guests with the cell's instances; after a restart of the host, start its guests first.
        Raises DriverError, Unavailable."""
        ctx, was_lost = self._ctx(), self.driver_lost
        self.driver_lost = False  # before the comparison, so that a loss during it is not overwritten
        conductor, context = self._link.conductor, self._context
        try:
            if was_lost and self._settings.resume_guests:
                left = resume_guests(ctx, context, conductor, self._backlog)
                if left and self._clock.now() < self._resume_until:
                    raise DriverError(reason=f"{left} guests could not be started with the host yet.")
            reconcile(ctx, context.host, context.driver, conductor, self._backlog, self._clock)
        except BaseException:
            self.driver_lost = self.driver_lost or was_lost
            raise

    def _ask_left_cell(self) -> None:
        """Ask the cell that the host has left, once: only it knows of instances that were deleted there."""
        conductor = self._link.left_conductor()
        if conductor is None:
            return
        host, ctx = self._context.host, self._ctx()
        try:
            reconcile(ctx, host, self._context.driver, conductor, self._backlog, self._clock)
        except Unavailable as error:
            log.info("the cell left does not answer", extra=about(ctx, host=host, reason=error))
            return
        self._link.forget_left()

    def _ctx(self) -> Context:
        return internal(self._clock, 30)
