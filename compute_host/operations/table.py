"""Doing what an operation asks for, on one host. Each may be done again after a restart in the middle of it."""

from __future__ import annotations

import contextlib
import logging
import traceback
from collections.abc import Callable
from dataclasses import replace

from cell_service.errors import (
    DriverError,
    GuestNotFound,
    ImageUnacceptable,
    NotYet,
    OperationLost,
    PeerUnavailable,
    PolycellError,
)
from cell_service.logs import about
from cell_service.model import shelved
from cell_service.model.block_device import BlockDevice, merged
from cell_service.model.instance import Fault, Instance, Vif
from cell_service.model.lifecycle import PowerState, Task, VmState
from cell_service.model.operation import UNFINISHED_IMAGES, BuildArguments, Kind, Outcome
from cell_service.peers.volume_ends import let_go
from compute_host.operations import interfaces, shares, volume_images, volume_snapshots, volumes
from compute_host.operations import moves as errands
from compute_host.operations import reimage as reimaging
from compute_host.operations import shelve as shelving
from compute_host.operations.context import HostContext, Job, from_images, outcome_of, spec_of
from compute_host.operations.guests import change_password, dump
from compute_host.operations.images import make_backup, make_image
from compute_host.operations.rescue import rescue, unrescue
from compute_host.operations.soft_delete import restore, soft_delete

log = logging.getLogger(__name__)

ROOT_DEVICE = "/dev/vda"


def perform(context: HostContext, job: Job) -> Outcome:
    """Do the work. Faults are part of the outcome; a failed build has left nothing behind, if that was possible.

    Raises OperationLost (see `undo`).
    """
    operation = job.work.operation
    try:
        done = (_build if operation.kind is Kind.BUILD else _VERBS[operation.kind])(context, job)
    except OperationLost:
        raise
    except Exception as error:  # noqa: BLE001  the edge of a piece of work: the fault is its result
        return _failed(context, job, error)
    return done


def undo(context: HostContext, job: Job) -> None:
    """A build has been taken away while it was done: remove the guest, and nothing that another host may own."""
    if job.work.operation.kind is Kind.ATTACH_INTERFACE:
        interfaces.forget(context, job)
    if job.work.operation.kind is not Kind.BUILD:
        return
    try:
        context.driver.destroy(job.instance.uuid)
    except PolycellError as error:
        log.warning(
            "guest of a lost build not removed, will be found later",
            extra=about(job.ctx, instance=job.instance.uuid, host=context.host, reason=error),
        )


def _build(context: HostContext, job: Job) -> Outcome:
    build = job.work.operation.build or BuildArguments()
    job.check()
    vifs = _ports(context, job, build)
    job.check()
    job.progress(Task.SPAWNING)
    job = volumes.bring(context, job)
    with contextlib.ExitStack() as held:
        spec = from_images(context, job, spec_of(context, job, vifs, build), held)
        job.check()
        context.driver.spawn(spec)
    if context.networks is not None:
        context.plugged(context.networks, job, vifs)
    volumes.complete(context, job)
    made = outcome_of(context, job, network_info=vifs, root_device_name=ROOT_DEVICE)
    return replace(made, devices=job.instance.block_devices)


def _ports(context: HostContext, job: Job, build: BuildArguments) -> tuple[Vif, ...]:
    instance = job.instance
    if context.networks is None or (build.networks == () and not build.auto_networks):
        return ()
    return context.networks.allocate(
        job.ctx,
        instance_uuid=instance.uuid,
        project_id=instance.project_id,
        host=context.host,
        availability_zone=instance.availability_zone,
        hostname=instance.hostname or instance.display_name,
        requests=build.networks,
        auto=build.auto_networks,
        security_groups=instance.security_groups,
    )


def _start(context: HostContext, job: Job) -> Outcome:
    context.driver.power_on(spec_of(context, job))
    return outcome_of(context, job)


def _stop(context: HostContext, job: Job) -> Outcome:
    context.driver.power_off(job.instance.uuid, graceful_seconds=context.shutdown_seconds)
    return outcome_of(context, job)


def _reboot(context: HostContext, job: Job) -> Outcome:
    context.driver.reboot(spec_of(context, job), hard=job.work.operation.kind is Kind.REBOOT_HARD)
    return outcome_of(context, job)


def _pause(context: HostContext, job: Job) -> Outcome:
    context.driver.pause(job.instance.uuid)
    return outcome_of(context, job)


def _unpause(context: HostContext, job: Job) -> Outcome:
    context.driver.unpause(job.instance.uuid)
    return outcome_of(context, job)


def _suspend(context: HostContext, job: Job) -> Outcome:
    context.driver.suspend(job.instance.uuid)
    return outcome_of(context, job)


def _resume(context: HostContext, job: Job) -> Outcome:
    context.driver.resume(spec_of(context, job))
    return outcome_of(context, job)


def _rebuild(context: HostContext, job: Job) -> Outcome:
    """The guest is made anew from the instance's image, with its ports; what it had on its disks is gone. The image is
    here before anything is destroyed. A stopped instance stays so."""
    made_of = job.work.operation.build or BuildArguments()
    with contextlib.ExitStack() as held:
        spec = from_images(context, job, spec_of(context, job, build=made_of), held)
        job.check()
        job.progress(Task.REBUILD_SPAWNING)
        context.driver.destroy(job.instance.uuid)
        job.check()
        devices = reimaging.reimage(context, job)
        job.check()
        context.driver.spawn(replace(spec, instance=_having(job.instance, devices)))
    if job.instance.vm_state is VmState.STOPPED:
        context.driver.power_off(job.instance.uuid, graceful_seconds=0)
    reimaging.complete(context, job, devices)
    return replace(outcome_of(context, job, root_device_name=ROOT_DEVICE), devices=devices)


def _delete(context: HostContext, job: Job) -> Outcome:
    instance = job.instance
    context.driver.destroy(instance.uuid)
    if context.networks is not None:
        context.networks.deallocate(job.ctx, instance.uuid, keep=_given(instance))
    image_id = shelved.image_of(instance.system_metadata)
    unfinished: list[str] = job.work.operation.arguments.get(UNFINISHED_IMAGES, [])
    for each in (*unfinished, *([image_id] if image_id is not None else [])):
        if context.images is not None:
            context.images.remove(job.ctx, each)
    for each in unfinished:  # before the volumes: what has snapshots can't be deleted
        volume_images.forget(context, job, each)
    shares.leave(context, job)
    let_go(context.volumes, job.ctx, instance.uuid, instance.block_devices)
    return Outcome(job.work.operation.id, job.work.operation.fence, power_state=PowerState.NOSTATE)


_VERBS: dict[Kind, Callable[[HostContext, Job], Outcome]] = {
    Kind.START: _start,
    Kind.STOP: _stop,
    Kind.REBOOT_SOFT: _reboot,
    Kind.REBOOT_HARD: _reboot,
    Kind.PAUSE: _pause,
    Kind.UNPAUSE: _unpause,
    Kind.SUSPEND: _suspend,
    Kind.RESUME: _resume,
    Kind.REBUILD: _rebuild,
    Kind.SHELVE: shelving.shelve,
    Kind.SHELVE_OFFLOAD: shelving.offload,
    Kind.UNSHELVE: shelving.unshelve,
    Kind.RESCUE: rescue,
    Kind.UNRESCUE: unrescue,
    Kind.CREATE_IMAGE: make_image,
    Kind.CREATE_BACKUP: make_backup,
    Kind.SOFT_DELETE: soft_delete,
    Kind.RESTORE: restore,
    Kind.CHANGE_PASSWORD: change_password,
    Kind.CRASH_DUMP: dump,
    Kind.ATTACH_INTERFACE: interfaces.attach,
    Kind.DETACH_INTERFACE: interfaces.detach,
    Kind.DELETE: _delete,
    Kind.MOVE_OUT: errands.move_out,
    Kind.MOVE_IN: errands.move_in,
    Kind.MOVE_RUN: errands.move_run,
    Kind.MOVE_DROP: errands.move_drop,
    Kind.ATTACH_VOLUME: volumes.attach,
    Kind.DETACH_VOLUME: volumes.detach,
    Kind.SWAP_VOLUME: volumes.swap,
    Kind.EXTEND_VOLUME: volumes.extend,
    Kind.SNAPSHOT_VOLUME: volume_snapshots.take,
    Kind.UNSNAPSHOT_VOLUME: volume_snapshots.remove,
    Kind.ATTACH_SHARE: shares.attach,
    Kind.DETACH_SHARE: shares.detach,
}


def _failed(context: HostContext, job: Job, error: Exception) -> Outcome:
    operation = job.work.operation
    fault = _fault(context, error)
    log.warning(
        "operation failed on this host",
        extra=about(job.ctx, instance=job.instance.uuid, host=context.host, kind=operation.kind.value, reason=error),
        exc_info=not isinstance(error, PolycellError),
    )
    if operation.kind is not Kind.BUILD:
        again, power_state = isinstance(error, NotYet), _power_state(context, job)
        devices = () if again else reimaging.held(context, job)
        return Outcome(
            operation.id, operation.fence, fault=fault, retriable=again, power_state=power_state, devices=devices
        )
    job.check()
    return Outcome(
        operation.id,
        operation.fence,
        fault=fault,
        retriable=another_host_may_do_better(error),
        host_clean=_clean_up(context, job),
        power_state=PowerState.NOSTATE,
        network_info=(),
    )


def another_host_may_do_better(error: Exception) -> bool:
    """Whether a build that failed so is worth trying elsewhere: not when the request itself cannot be met."""
    if isinstance(error, ImageUnacceptable):
        return False
    return isinstance(error, (DriverError, PeerUnavailable)) or not isinstance(error, PolycellError)


def _clean_up(context: HostContext, job: Job) -> bool:
    """Remove what a failed build has made. False when something of the guest may be left."""
    clean = True
    try:
        context.driver.destroy(job.instance.uuid)
    except PolycellError as error:
        clean = False
        log.warning("not cleaned up", extra=about(job.ctx, instance=job.instance.uuid, host=context.host, reason=error))
    volumes.clean_up(context, job)
    if context.networks is not None:
        try:
            context.networks.deallocate(job.ctx, job.instance.uuid)
        except PolycellError as error:
            log.warning("ports not removed yet", extra=about(job.ctx, instance=job.instance.uuid, reason=error))
    return clean


def _fault(context: HostContext, error: Exception) -> Fault:
    """What the user is told: our own errors' words; of anything else only its kind."""
    message = str(error) if isinstance(error, PolycellError) else f"Unexpected {type(error).__name__}."
    code = error.status if isinstance(error, PolycellError) and error.status != 503 else 500
    details = "".join(traceback.format_exception(error))
    return Fault(code=code, message=message[:255], created_at=context.clock.now(), details=details)


def _power_state(context: HostContext, job: Job) -> PowerState | None:
    try:
        return context.driver.power_state(job.instance.uuid)
    except GuestNotFound:
        return PowerState.NOSTATE
    except PolycellError:
        return None


def _having(instance: Instance, devices: tuple[BlockDevice, ...]) -> Instance:
    return replace(instance, block_devices=merged(instance.block_devices, devices))


def _given(instance: Instance) -> tuple[str, ...]:
    """The ports that the instance was given by its owner, who keeps them."""
    return tuple(vif.port_id for vif in instance.network_info if not vif.created_by_us)
