"""Guests built, and rebuilt on the same host. Each function may run again after a restart in the middle of it."""

from __future__ import annotations

import contextlib
import logging
from dataclasses import replace

from cell_service.errors import DriverError, ImageUnacceptable, PeerUnavailable, PolycellError
from cell_service.logs import about
from cell_service.model.block_device import BlockDevice, merged
from cell_service.model.instance import Fault, Instance, Vif
from cell_service.model.lifecycle import PowerState, Task, VmState
from cell_service.model.operation import BuildArguments, Outcome
from cell_service.operations.builds import RebuildArguments
from cell_service.operations.declaration import NoArguments
from compute_host.operations import reimage as reimaging
from compute_host.operations import volumes
from compute_host.operations.context import HostContext, OperationContext, from_images, outcome_of, spec_of

log = logging.getLogger(__name__)

ROOT_DEVICE = "/dev/vda"


def build(context: HostContext, work: OperationContext, _arguments: NoArguments) -> Outcome:
    made_of = work.claimed.build
    work.check()
    vifs = _ports(context, work, made_of)
    work.check()
    work.progress(Task.SPAWNING)
    work = volumes.bring(context, work)
    with contextlib.ExitStack() as files:
        spec = from_images(context, work, spec_of(context, work, vifs, made_of), files)
        work.check()
        context.driver.spawn(spec)
    if context.networks is not None:
        context.plugged(context.networks, work, vifs)
    volumes.complete(context, work)
    made = outcome_of(context, work, network_info=vifs, root_device_name=ROOT_DEVICE)
    return replace(made, devices=work.instance.block_devices)


def _ports(context: HostContext, work: OperationContext, build: BuildArguments) -> tuple[Vif, ...]:
    instance = work.instance
    if context.networks is None or (build.networks == () and not build.auto_networks):
        return ()
    return context.networks.allocate(
        work.ctx,
        instance_uuid=instance.uuid,
        project_id=instance.project_id,
        host=context.host,
        availability_zone=instance.availability_zone,
        hostname=instance.hostname or instance.display_name,
        requests=build.networks,
        auto=build.auto_networks,
        security_groups=instance.security_groups,
    )


def undo(context: HostContext, work: OperationContext) -> None:
    """Undo a build that another worker has claimed meanwhile: remove its guest, but nothing that another host may
    own."""
    try:
        context.driver.destroy(work.instance.uuid)
    except PolycellError as error:
        log.warning(
            "guest of a lost build not removed, will be found later",
            extra=about(work.ctx, instance=work.instance.uuid, host=context.host, reason=error),
        )


def failed(context: HostContext, work: OperationContext, error: Exception, fault: Fault) -> Outcome:
    """The outcome of a failed build, after removing what it has made, if that is possible. Raises OperationLost."""
    work.check()
    return Outcome(
        work.claimed.id,
        work.claimed.fence,
        fault=fault,
        retriable=another_host_may_do_better(error),
        host_clean=_clean_up(context, work),
        power_state=PowerState.NOSTATE,
        network_info=(),
    )


def rebuild(context: HostContext, work: OperationContext, arguments: RebuildArguments) -> Outcome:
    """Make the guest again from the instance's image, with its ports; the data on its disks is lost. The image is
    fetched before anything is destroyed. A stopped instance stays stopped."""
    made_of = work.claimed.build
    with contextlib.ExitStack() as files:
        spec = from_images(context, work, spec_of(context, work, build=made_of), files)
        work.check()
        work.progress(Task.REBUILD_SPAWNING)
        context.driver.destroy(work.instance.uuid)
        work.check()
        devices = reimaging.reimage(context, work, arguments)
        work.check()
        context.driver.spawn(replace(spec, instance=_having(work.instance, devices)))
    if work.instance.vm_state is VmState.STOPPED:
        context.driver.power_off(work.instance.uuid, graceful_seconds=0)
    reimaging.complete(context, work, devices)
    return replace(outcome_of(context, work, root_device_name=ROOT_DEVICE), devices=devices)


def another_host_may_do_better(error: Exception) -> bool:
    """Whether a build that failed with this error may succeed elsewhere: not when the request itself cannot be met."""
    if isinstance(error, ImageUnacceptable):
        return False
    return isinstance(error, (DriverError, PeerUnavailable)) or not isinstance(error, PolycellError)


def _clean_up(context: HostContext, work: OperationContext) -> bool:
    """Remove what a failed build has made. False when something of the guest may be left."""
    clean = True
    try:
        context.driver.destroy(work.instance.uuid)
    except PolycellError as error:
        clean = False
        log.warning(
            "not cleaned up", extra=about(work.ctx, instance=work.instance.uuid, host=context.host, reason=error)
        )
    volumes.clean_up(context, work)
    if context.networks is not None:
        try:
            context.networks.deallocate(work.ctx, work.instance.uuid, project_id=work.instance.project_id)
        except PolycellError as error:
            log.warning("ports not removed yet", extra=about(work.ctx, instance=work.instance.uuid, reason=error))
    return clean


def _having(instance: Instance, devices: tuple[BlockDevice, ...]) -> Instance:
    return replace(instance, block_devices=merged(instance.block_devices, devices))
