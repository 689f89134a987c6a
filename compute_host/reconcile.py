"""Comparing the guests on a host with its cell's instances."""

from __future__ import annotations

import logging

from cell_service.context import Clock, Context
from cell_service.errors import PolycellError
from cell_service.logs import about
from cell_service.model.lifecycle import PowerState
from cell_service.rpc.conductor import Conductor, GuestReport
from compute_host.backlog import Backlog
from compute_host.virt.driver import Driver

log = logging.getLogger(__name__)

OFF = (PowerState.SHUTDOWN, PowerState.CRASHED, PowerState.NOSTATE)


def reconcile(ctx: Context, host: str, driver: Driver, conductor: Conductor, backlog: Backlog, clock: Clock) -> None:
    """Report all guests without an operation under way; destroy those that the cell says do not belong here, turn off
    those that are being evacuated from here.

    A guest that can't be destroyed does not stop the work on the others. Raises DriverError, Unavailable.
    """
    began = clock.monotonic()
    guests = driver.guests()
    touched = backlog.touched_after(began)
    reports = tuple(GuestReport(guest.uuid, guest.power_state) for guest in guests if guest.uuid not in touched)
    states = {report.instance_uuid: report.power_state for report in reports}
    for decision in conductor.reconcile(ctx, host, reports):
        uuid = decision.instance_uuid
        if decision.decision == "keep" or not backlog.reserve(uuid):
            continue
        try:
            if uuid in backlog.touched_after(began):
                continue  # an operation has run since: the decision is out of date
            _execute(ctx, host, driver, decision.decision, uuid, states.get(uuid))
        except PolycellError as error:
            log.warning(
                "decision on a guest not done",
                extra=about(ctx, instance=uuid, host=host, decision=decision.decision, reason=error),
            )
        finally:
            backlog.release(uuid)


def _execute(ctx: Context, host: str, driver: Driver, decision: str, uuid: str, state: PowerState | None) -> None:
    if decision == "destroy":
        driver.destroy(uuid)
        log.warning("guest destroyed, not the cell's", extra=about(ctx, instance=uuid, host=host))
    elif decision == "quarantine" and state not in OFF:
        driver.power_off(uuid, graceful_seconds=0)
        log.warning("guest turned off, its instance is being evacuated", extra=about(ctx, instance=uuid, host=host))
