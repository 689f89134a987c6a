"""Rescuing guests: for a while they run from another disk, with their own beside it.

Each may be done again after a restart in the middle of it.
"""

from __future__ import annotations

import contextlib
import logging

from cell_service.errors import NotSupported, OperationLost, PolycellError
from cell_service.logs import about
from cell_service.model.lifecycle import PowerState, VmState
from cell_service.model.operation import ADMIN_PASSWORD, IMAGE, STABLE, BuildArguments, Outcome
from compute_host.operations.context import HostContext, Job, from_images, outcome_of, spec_of
from compute_host.virt.driver import Driver, Rescuable

log = logging.getLogger(__name__)

_OFF = (PowerState.SHUTDOWN, PowerState.CRASHED, PowerState.NOSTATE)


def rescue(context: HostContext, job: Job) -> Outcome:
    """The guest runs from the rescue disk. The image is here before the guest is turned off; after an error a guest
    that ran runs again."""
    driver, asked, uuid = _rescuable(context.driver), job.work.operation.arguments, job.instance.uuid
    build = BuildArguments(admin_password=asked.get(ADMIN_PASSWORD) or "")
    with contextlib.ExitStack() as held:
        spec = from_images(context, job, spec_of(context, job, build=build), held, asked.get(IMAGE), beside=True)
        job.check()
        try:
            if context.driver.power_state(uuid) not in _OFF:
                context.driver.power_off(uuid, graceful_seconds=context.shutdown_seconds)
            job.check()
            driver.rescue(spec, stable=bool(asked.get(STABLE)))
        except OperationLost:
            raise
        except PolycellError:
            job.check()
            _go_on(context, job)
            raise
    return outcome_of(context, job)


def unrescue(context: HostContext, job: Job) -> Outcome:
    """The guest runs from its own disks."""
    _rescuable(context.driver).unrescue(spec_of(context, job))
    return outcome_of(context, job)


def _go_on(context: HostContext, job: Job) -> None:
    if job.instance.vm_state is not VmState.ACTIVE:
        return
    try:
        context.driver.power_on(spec_of(context, job))
    except PolycellError as error:
        log.warning("guest stays off", extra=about(job.ctx, instance=job.instance.uuid, reason=error))


def _rescuable(driver: Driver) -> Rescuable:
    """Raises NotSupported."""
    if not isinstance(driver, Rescuable):
        raise NotSupported(reason="Guests of this host cannot be rescued.")
    return driver
