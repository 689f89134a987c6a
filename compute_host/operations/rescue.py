"""Rescuing guests: for a while they run from another disk, with their own disks attached.

Each function may run again after a restart in the middle of it.
"""

from __future__ import annotations

import contextlib
import logging

from cell_service.errors import NotSupported, OperationLost, PolycellError
from cell_service.logs import about
from cell_service.model.lifecycle import PowerState, VmState
from cell_service.model.operation import BuildArguments, Outcome
from cell_service.operations.declaration import NoArguments
from cell_service.operations.rescue import RescueArguments
from compute_host.operations.context import HostContext, OperationContext, from_images, outcome_of, spec_of
from compute_host.virt.driver import Driver, Rescuable

log = logging.getLogger(__name__)

_OFF = (PowerState.SHUTDOWN, PowerState.CRASHED, PowerState.NOSTATE)


def rescue(context: HostContext, work: OperationContext, arguments: RescueArguments) -> Outcome:
    """Start the guest from the rescue disk. The image is fetched before the guest is turned off; after an error a guest
    that ran runs again."""
    driver, uuid = _rescuable(context.driver), work.instance.uuid
    build = BuildArguments(admin_password=arguments.admin_password)
    with contextlib.ExitStack() as files:
        spec = from_images(context, work, spec_of(context, work, build=build), files, arguments.image, rescue=True)
        work.check()
        try:
            if context.driver.power_state(uuid) not in _OFF:
                context.driver.power_off(uuid, graceful_seconds=context.shutdown_seconds)
            work.check()
            driver.rescue(spec, stable=arguments.stable)
        except OperationLost:
            raise
        except PolycellError:
            work.check()
            _go_on(context, work)
            raise
    return outcome_of(context, work)


def unrescue(context: HostContext, work: OperationContext, _arguments: NoArguments) -> Outcome:
    """Start the guest from its own disks."""
    _rescuable(context.driver).unrescue(spec_of(context, work))
    return outcome_of(context, work)


def _go_on(context: HostContext, work: OperationContext) -> None:
    if work.instance.vm_state is not VmState.ACTIVE:
        return
    try:
        context.driver.power_on(spec_of(context, work))
    except PolycellError as error:
        log.warning("guest stays off", extra=about(work.ctx, instance=work.instance.uuid, reason=error))


def _rescuable(driver: Driver) -> Rescuable:
    """Raises NotSupported."""
    if not isinstance(driver, Rescuable):
        raise NotSupported(reason="Guests of this host cannot be rescued.")
    return driver
