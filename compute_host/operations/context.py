"""The dependencies of operations on a host, and the guest that an instance has or will have there."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from cell_service import wire
from cell_service.context import Clock, Context
from cell_service.errors import GuestNotFound, HypervisorAway, NotYet, PeerUnavailable, PolycellError
from cell_service.model.instance import MACHINE_TYPE, Instance, Vif
from cell_service.model.lifecycle import PowerState, Task
from cell_service.model.operation import BuildArguments, ClaimedOperation, Outcome, StoredOperation
from cell_service.peers.image import Image
from cell_service.peers.network import Networks
from cell_service.peers.volumes import Volumes
from compute_host.image_cache import ImageCache
from compute_host.operations.disks import blank_disks, with_image
from compute_host.operations.share_access import HostShares
from compute_host.virt.driver import DriveFile, Driver, GuestSpec, MachineTypes

DriveMaker = Callable[[Context, Instance, tuple[Vif, ...], BuildArguments], tuple[DriveFile, ...]]
"""Returns the files of an instance's config drive."""


@dataclass(frozen=True, slots=True)
class HostContext:
    """The dependencies of a host's operations. `networks`, `images` None: instances have no ports, no images."""

    host: str
    driver: Driver
    networks: Networks | None
    images: ImageCache | None
    clock: Clock
    shutdown_seconds: float
    drive: DriveMaker | None = None
    force_drive: bool = False
    """Every instance gets a config drive, requested or not."""
    volumes: Volumes | None = None
    shares: HostShares | None = None
    plugged: Callable[[Networks, OperationContext, tuple[Vif, ...]], None] = lambda _networks, _job, _vifs: None
    """Returns when the ports of a new guest are plugged, or need not be."""


@dataclass(frozen=True, slots=True)
class OperationContext:
    """One operation under way: `check` raises OperationLost once another worker has claimed it, `progress` reports its
    stage to the cell."""

    ctx: Context
    claimed: ClaimedOperation
    check: Callable[[], None]
    progress: Callable[[Task], None] = field(default=lambda _task: None)

    @property
    def operation(self) -> StoredOperation:
        return self.claimed.operation

    @property
    def instance(self) -> Instance:
        return self.claimed.instance

    def with_instance(self, instance: Instance) -> OperationContext:
        """The same operation with another state of its instance."""
        return replace(self, claimed=replace(self.claimed, instance=instance))


@contextlib.contextmanager
def no_way_back() -> Iterator[None]:
    """Declare that the operation can't be undone any more: if a service or the hypervisor does not answer it is tried
    again. Raises NotYet."""
    try:
        yield
    except (PeerUnavailable, HypervisorAway) as error:
        raise NotYet(reason=str(error)) from error


def spec_of(
    context: HostContext,
    work: OperationContext,
    vifs: tuple[Vif, ...] | None = None,
    build: BuildArguments | None = None,
) -> GuestSpec:
    """The guest of the operation's instance as it is, or with `vifs` and `build` as it will be."""
    spec = guest_spec(context, work.ctx, work.instance, vifs, build)
    return replace(spec, fence=work.operation.fence)


def guest_spec(
    context: HostContext,
    ctx: Context,
    instance: Instance,
    vifs: tuple[Vif, ...] | None = None,
    build: BuildArguments | None = None,
) -> GuestSpec:
    """An instance's guest as it is, or with `vifs` and `build` as it will be."""
    nics, made_of = instance.network_info if vifs is None else vifs, build or BuildArguments()
    drive = None
    if build is not None and (instance.config_drive or context.force_drive) and context.drive is not None:
        drive = context.drive(ctx, instance, nics, made_of)
    return GuestSpec(
        instance,
        blank_disks(instance),
        nics,
        injected_files=made_of.injected_files,
        admin_password=made_of.admin_password,
        config_drive=drive,
        cell=made_of.cell,
    )


def from_images(
    context: HostContext,
    work: OperationContext,
    spec: GuestSpec,
    files: contextlib.ExitStack,
    image_id: str | None = None,
    *,
    rescue: bool = False,
) -> GuestSpec:
    """The spec with the files that the guest is made from; they are kept until `files` is closed. `image_id`: another
    image for the root disk than the instance's own. `rescue`: the image is an additional disk, so there is one also
    for an instance whose root disk is a volume."""
    instance, images = work.instance, context.images
    image_id = image_id or instance.image_ref
    if images is None or not image_id or (instance.volume_backed and not rescue):
        return spec

    def fetched(wanted: str) -> tuple[Image, Path]:
        trusted = instance.trusted_image_certificates
        return files.enter_context(images.image(work.ctx, wanted, instance.flavor, trusted))

    image, path = fetched(image_id)
    spec = replace(spec, disks=with_image(instance, image, path))
    if instance.kernel_id:
        spec = replace(spec, kernel=fetched(instance.kernel_id)[1])
    if instance.ramdisk_id:
        spec = replace(spec, ramdisk=fetched(instance.ramdisk_id)[1])
    return spec


def outcome_of(
    context: HostContext,
    work: OperationContext,
    network_info: tuple[Vif, ...] | None = None,
    root_device_name: str | None = None,
    result: object = None,
) -> Outcome:
    """A successful outcome with the guest's power state, unless the driver does not answer any more, and the declared
    `result`, if there is one. Raises GuestNotFound."""
    operation = work.operation
    return Outcome(
        operation.id,
        operation.fence,
        power_state=_power_state(context, work),
        network_info=network_info,
        root_device_name=root_device_name,
        machine_type=_machine_type(context, work.instance),
        result={} if result is None else wire.to_plain(result),
    )


def _machine_type(context: HostContext, instance: Instance) -> str | None:
    """The machine type to be recorded of the guest; None when it is recorded, or the driver has none."""
    if MACHINE_TYPE in instance.system_metadata or not isinstance(context.driver, MachineTypes):
        return None
    return context.driver.machine_type(instance)


def power_state_of(context: HostContext, work: OperationContext) -> PowerState | None:
    """The guest's power state as the driver reports it; None when the driver does not answer."""
    try:
        return _power_state(context, work)
    except GuestNotFound:
        return PowerState.NOSTATE


def _power_state(context: HostContext, work: OperationContext) -> PowerState | None:
    """As `power_state_of`. Raises GuestNotFound."""
    try:
        return context.driver.power_state(work.instance.uuid)
    except GuestNotFound:
        raise
    except PolycellError:
        return None
