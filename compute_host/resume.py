"""Starting guests after their host was restarted: those that ran before run again."""

from __future__ import annotations

import logging

from cell_service.context import Context
from cell_service.errors import GuestNotFound, PolycellError
from cell_service.logs import about
from cell_service.model.lifecycle import PowerState, VmState
from cell_service.rpc.conductor import Conductor
from compute_host.backlog import Backlog
from compute_host.operations.context import HostContext, guest_spec

log = logging.getLogger(__name__)

RUN = (VmState.ACTIVE, VmState.RESIZED)
OFF = (PowerState.SHUTDOWN, PowerState.CRASHED)


def resume_guests(ctx: Context, context: HostContext, conductor: Conductor, backlog: Backlog) -> int:
    """Start every guest that is off and was running when the cell last heard of it, except those with an operation or
    move under way: they may run elsewhere by now. Returns how many could not be started; the others are started all the
    same. Raises Unavailable, DriverError.
    """
    left = 0
    for instance in conductor.instances_on_host(ctx, context.host):
        if instance.vm_state not in RUN or instance.power_state is not PowerState.RUNNING:
            continue
        if instance.hidden or instance.task_state is not None or not backlog.reserve(instance.uuid):
            continue
        try:
            if context.driver.power_state(instance.uuid) in OFF:
                context.driver.power_on(guest_spec(context, ctx, instance))
                log.info("guest started with its host", extra=about(ctx, instance=instance.uuid, host=context.host))
        except GuestNotFound:
            log.warning("no guest to start with its host", extra=about(ctx, instance=instance.uuid, host=context.host))
        except PolycellError as error:
            left += 1
            reason = about(ctx, instance=instance.uuid, host=context.host, reason=error)
            log.warning("guest not started with its host", extra=reason)
        finally:
            backlog.release(instance.uuid)
    return left
