"""Holding what runs on a host against what its cell believes."""

from __future__ import annotations

import logging

from cell_service.context import Clock, Context
from cell_service.errors import PolycellError
from cell_service.logs import about
from cell_service.rpc.conductor import Conductor, GuestReport
from compute_host.backlog import Backlog
from compute_host.virt.driver import Driver

log = logging.getLogger(__name__)


def reconcile(ctx: Context, host: str, driver: Driver, conductor: Conductor, backlog: Backlog, clock: Clock) -> None:
    """Report all guests that nothing is being done with, and destroy those that the cell says are not its own.

    One guest that can't be destroyed does not hinder the others. Raises DriverError, Unavailable.
    """
    began = clock.monotonic()
    guests = driver.guests()
    touched = backlog.touched_after(began)
    reports = tuple(GuestReport(guest.uuid, guest.power_state) for guest in guests if guest.uuid not in touched)
    for verdict in conductor.reconcile(ctx, host, reports):
        if verdict.verdict != "destroy" or not backlog.reserve(verdict.instance_uuid):
            continue
        try:
            driver.destroy(verdict.instance_uuid)
            log.warning("guest destroyed, not the cell's", extra=about(ctx, instance=verdict.instance_uuid, host=host))
        except PolycellError as error:
            log.warning(
                "guest not destroyed", extra=about(ctx, instance=verdict.instance_uuid, host=host, reason=error)
            )
        finally:
            backlog.release(verdict.instance_uuid)
