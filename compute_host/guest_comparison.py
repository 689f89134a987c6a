"""When a host compares its guests with what its cell believes, and brings them up after it was started again itself."""

from __future__ import annotations

import logging
from datetime import timedelta

from cell_service.context import Clock, Context, internal
from cell_service.errors import DriverError, Unavailable
from cell_service.logs import about
from compute_host.backlog import Backlog
from compute_host.cell_link import CellLink
from compute_host.config import HostSettings
from compute_host.image_cache import ImageCache
from compute_host.operations.context import HostContext
from compute_host.reconcile import reconcile
from compute_host.resume import resume_guests

log = logging.getLogger(__name__)

RESUME_SECONDS = 30.0
"""How long it is tried again to start guests with their host, whose network may come up after it."""


class GuestComparison:
    """Of one host. `driver_lost`: the driver has not answered, or not yet; the host may have been started again."""

    def __init__(
        self,
        settings: HostSettings,
        context: HostContext,
        *,
        link: CellLink,
        backlog: Backlog,
        clock: Clock,
        images: ImageCache | None,
    ) -> None:
        self._settings, self._context, self._link, self._backlog = settings, context, link, backlog
        self._clock, self._images = clock, images
        self.driver_lost = True
        self._resume_until = clock.now() + timedelta(seconds=RESUME_SECONDS)

    def lose_driver(self, *, again: bool = False) -> None:
        """The driver does not answer, or (`again`) has just come back: time to bring guests up begins."""
        if again or not self.driver_lost:
            self.driver_lost = True
            self._resume_until = self._clock.now() + timedelta(seconds=RESUME_SECONDS)

    def run(self) -> None:
        """Compare with the cell, then with the cell that the host has left; sweep the image cache.
        Raises DriverError, Unavailable."""
        self.compare()
        self._ask_left_cell()
        if self._images is not None and self._settings.image_unused_seconds is not None:
            self._images.sweep(self._settings.image_unused_seconds)

    def compare(self) -> None:
        """Hold what runs against what the cell believes; after the host was started again, its guests come first.
        Raises DriverError, Unavailable."""
        ctx, was_lost = self._ctx(), self.driver_lost
        self.driver_lost = False  # before the comparison: a driver lost during it is lost once more
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
        """Only the cell that instances were in when they were deleted knows of them. It is asked once."""
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
