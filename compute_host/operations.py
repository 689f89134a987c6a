"""Doing what an operation asks for, on one host. Each may be done again after a restart in the middle of it."""

from __future__ import annotations

import contextlib
import logging
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from cell_service.context import Clock, Context
from cell_service.errors import (
    DriverError,
    GuestNotFound,
    ImageUnacceptable,
    OperationLost,
    PeerUnavailable,
    PolycellError,
)
from cell_service.logs import about
from cell_service.model.instance import Fault, Instance, Vif
from cell_service.model.lifecycle import PowerState, Task
from cell_service.model.operation import BuildArguments, Kind, Outcome, Work
from cell_service.peers.network import Networks
from compute_host.disks import blank_disks, with_image
from compute_host.images import ImageCache
from compute_host.virt.driver import DriveFile, Driver, GuestSpec

log = logging.getLogger(__name__)

ROOT_DEVICE = "/dev/vda"


DriveMaker = Callable[[Context, Instance, tuple[Vif, ...], BuildArguments], tuple[DriveFile, ...]]
"""What stands on an instance's config drive."""


@dataclass(frozen=True, slots=True)
class Hands:
    """What work is done with on a host. `networks`, `images` None: instances have no ports, no images."""

    host: str
    driver: Driver
    networks: Networks | None
    images: ImageCache | None
    clock: Clock
    shutdown_seconds: float
    drive: DriveMaker | None = None
    force_drive: bool = False
    """Every instance has a config drive, asked for or not."""


@dataclass(frozen=True, slots=True)
class Job:
    """One operation being done: `check` raises OperationLost once it is somebody else's, `progress` tells the cell
    how far a build has come."""

    ctx: Context
    work: Work
    check: Callable[[], None]
    progress: Callable[[Task], None] = field(default=lambda _task: None)

    @property
    def instance(self) -> Instance:
        return self.work.instance


def perform(hands: Hands, job: Job) -> Outcome:
    """Do the work. Faults are part of the outcome; a failed build has left nothing behind, if that was possible.

    Raises OperationLost (see `undo`).
    """
    operation = job.work.operation
    try:
        done = (_build if operation.kind is Kind.BUILD else _VERBS[operation.kind])(hands, job)
    except OperationLost:
        raise
    except Exception as error:  # noqa: BLE001  the edge of a piece of work: the fault is its result
        return _failed(hands, job, error)
    return done


def undo(hands: Hands, job: Job) -> None:
    """A build has been taken away while it was done: remove the guest, and nothing that another host may own."""
    if job.work.operation.kind is not Kind.BUILD:
        return
    try:
        hands.driver.destroy(job.instance.uuid)
    except PolycellError as error:
        log.warning(
            "guest of a lost build not removed, will be found later",
            extra=about(job.ctx, instance=job.instance.uuid, host=hands.host, reason=error),
        )


def _build(hands: Hands, job: Job) -> Outcome:
    build = job.work.operation.build or BuildArguments()
    job.check()
    job.progress(Task.NETWORKING)
    vifs = _ports(hands, job, build)
    job.check()
    job.progress(Task.SPAWNING)
    with contextlib.ExitStack() as held:
        spec = _from_images(hands, job, _spec_of(hands, job, vifs, build), held)
        job.check()
        hands.driver.spawn(spec)
    return _outcome(hands, job, network_info=vifs, root_device_name=ROOT_DEVICE)


def _from_images(hands: Hands, job: Job, spec: GuestSpec, held: contextlib.ExitStack) -> GuestSpec:
    """The spec with the files that the guest is made from; they stay as long as they are `held`."""
    instance, images = job.instance, hands.images
    if images is None or not instance.image_ref:
        return spec
    image, path = held.enter_context(images.image(job.ctx, instance.image_ref, instance.flavor))
    spec = replace(spec, disks=with_image(instance, image, path))
    if instance.kernel_id:
        spec = replace(spec, kernel=held.enter_context(images.image(job.ctx, instance.kernel_id, instance.flavor))[1])
    if instance.ramdisk_id:
        spec = replace(spec, ramdisk=held.enter_context(images.image(job.ctx, instance.ramdisk_id, instance.flavor))[1])
    return spec


def _ports(hands: Hands, job: Job, build: BuildArguments) -> tuple[Vif, ...]:
    instance = job.instance
    if hands.networks is None or (build.networks == () and not build.auto_networks):
        return ()
    return hands.networks.allocate(
        job.ctx,
        instance_uuid=instance.uuid,
        project_id=instance.project_id,
        host=hands.host,
        availability_zone=instance.availability_zone,
        hostname=instance.hostname or instance.display_name,
        requests=build.networks,
        auto=build.auto_networks,
        security_groups=instance.security_groups,
    )


def _start(hands: Hands, job: Job) -> Outcome:
    hands.driver.power_on(_spec_of(hands, job))
    return _outcome(hands, job)


def _stop(hands: Hands, job: Job) -> Outcome:
    hands.driver.power_off(job.instance.uuid, graceful_seconds=hands.shutdown_seconds)
    return _outcome(hands, job)


def _reboot(hands: Hands, job: Job) -> Outcome:
    hands.driver.reboot(_spec_of(hands, job), hard=job.work.operation.kind is Kind.REBOOT_HARD)
    return _outcome(hands, job)


def _pause(hands: Hands, job: Job) -> Outcome:
    hands.driver.pause(job.instance.uuid)
    return _outcome(hands, job)


def _unpause(hands: Hands, job: Job) -> Outcome:
    hands.driver.unpause(job.instance.uuid)
    return _outcome(hands, job)


def _suspend(hands: Hands, job: Job) -> Outcome:
    hands.driver.suspend(job.instance.uuid)
    return _outcome(hands, job)


def _resume(hands: Hands, job: Job) -> Outcome:
    hands.driver.resume(_spec_of(hands, job))
    return _outcome(hands, job)


def _delete(hands: Hands, job: Job) -> Outcome:
    instance = job.instance
    hands.driver.destroy(instance.uuid)
    if hands.networks is not None:
        hands.networks.deallocate(job.ctx, instance.uuid, keep=_given(instance))
    return Outcome(job.work.operation.id, job.work.operation.fence, power_state=PowerState.NOSTATE)


_VERBS: dict[Kind, Callable[[Hands, Job], Outcome]] = {
    Kind.START: _start,
    Kind.STOP: _stop,
    Kind.REBOOT_SOFT: _reboot,
    Kind.REBOOT_HARD: _reboot,
    Kind.PAUSE: _pause,
    Kind.UNPAUSE: _unpause,
    Kind.SUSPEND: _suspend,
    Kind.RESUME: _resume,
    Kind.DELETE: _delete,
}


def _failed(hands: Hands, job: Job, error: Exception) -> Outcome:
    operation = job.work.operation
    fault = _fault(hands, error)
    log.warning(
        "operation failed on this host",
        extra=about(job.ctx, instance=job.instance.uuid, host=hands.host, kind=operation.kind.value, reason=error),
        exc_info=not isinstance(error, PolycellError),
    )
    if operation.kind is not Kind.BUILD:
        return Outcome(operation.id, operation.fence, fault=fault, power_state=_power_state(hands, job))
    job.check()
    return Outcome(
        operation.id,
        operation.fence,
        fault=fault,
        retriable=another_host_may_do_better(error),
        host_clean=_clean_up(hands, job),
        power_state=PowerState.NOSTATE,
        network_info=(),
    )


def another_host_may_do_better(error: Exception) -> bool:
    """Whether a build that failed so is worth trying elsewhere: not when the request itself cannot be met."""
    if isinstance(error, ImageUnacceptable):
        return False
    return isinstance(error, (DriverError, PeerUnavailable)) or not isinstance(error, PolycellError)


def _clean_up(hands: Hands, job: Job) -> bool:
    """Remove what a failed build has made. False when something of the guest may be left."""
    clean = True
    try:
        hands.driver.destroy(job.instance.uuid)
    except PolycellError as error:
        clean = False
        log.warning("not cleaned up", extra=about(job.ctx, instance=job.instance.uuid, host=hands.host, reason=error))
    if hands.networks is not None:
        try:
            hands.networks.deallocate(job.ctx, job.instance.uuid)
        except PolycellError as error:
            log.warning("ports not removed yet", extra=about(job.ctx, instance=job.instance.uuid, reason=error))
    return clean


def _fault(hands: Hands, error: Exception) -> Fault:
    """What the user is told: our own errors' words; of anything else only its kind."""
    message = str(error) if isinstance(error, PolycellError) else f"Unexpected {type(error).__name__}."
    code = error.status if isinstance(error, PolycellError) and error.status != 503 else 500
    details = "".join(traceback.format_exception(error))
    return Fault(code=code, message=message[:255], created_at=hands.clock.now(), details=details)


def _outcome(
    hands: Hands,
    job: Job,
    network_info: tuple[Vif, ...] | None = None,
    root_device_name: str | None = None,
) -> Outcome:
    operation = job.work.operation
    return Outcome(
        operation.id,
        operation.fence,
        power_state=hands.driver.power_state(job.instance.uuid),
        network_info=network_info,
        root_device_name=root_device_name,
    )


def _power_state(hands: Hands, job: Job) -> PowerState | None:
    try:
        return hands.driver.power_state(job.instance.uuid)
    except GuestNotFound:
        return PowerState.NOSTATE
    except PolycellError:
        return None


def _given(instance: Instance) -> tuple[str, ...]:
    """The ports that the instance was given by its owner, who keeps them."""
    return tuple(vif.port_id for vif in instance.network_info if not vif.created_by_us)


def _spec_of(
    hands: Hands, job: Job, vifs: tuple[Vif, ...] | None = None, build: BuildArguments | None = None
) -> GuestSpec:
    """The job's guest as it is, or with `vifs` and `build` as it will be."""
    spec = guest_spec(hands, job.ctx, job.instance, vifs, build)
    return replace(spec, fence=job.work.operation.fence)


def guest_spec(
    hands: Hands,
    ctx: Context,
    instance: Instance,
    vifs: tuple[Vif, ...] | None = None,
    build: BuildArguments | None = None,
) -> GuestSpec:
    """An instance's guest as it is, or with `vifs` and `build` as it will be."""
    nics, asked = instance.network_info if vifs is None else vifs, build or BuildArguments()
    drive = None
    if build is not None and (instance.config_drive or hands.force_drive) and hands.drive is not None:
        drive = hands.drive(ctx, instance, nics, asked)
    return GuestSpec(
        instance,
        blank_disks(instance),
        nics,
        injected_files=asked.injected_files,
        admin_password=asked.admin_password,
        config_drive=drive,
        cell=asked.cell,
    )
