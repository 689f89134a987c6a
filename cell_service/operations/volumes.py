"""Volumes attached to guests, detached, swapped, grown and snapshotted. The instance's state stays as it is."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from cell_service.errors import InstanceInvalidState, PolycellError
from cell_service.model.ability import Ability
from cell_service.model.block_device import BlockDevice, merged
from cell_service.model.instance import Instance
from cell_service.model.lifecycle import PowerState, VmState
from cell_service.model.operation import Phase
from cell_service.operations.declaration import (
    Changes,
    Ending,
    HostDeath,
    NoResult,
    Operation,
    again,
    device_of,
    fail,
)
from cell_service.operations.effects import CleanUpHost, DisconnectVolume, FollowUp, ReportSnapshot, WakeHost
from cell_service.operations.rule import ANY_TASK, NOT_DELETED, SHELVED, Rule

_OFFLOADED = frozenset({VmState.SHELVED_OFFLOADED})
_OFF = frozenset({PowerState.SHUTDOWN, PowerState.CRASHED, PowerState.SUSPENDED})
_ATTACHABLE = Rule(
    frozenset({VmState.ACTIVE, VmState.PAUSED, VmState.STOPPED, VmState.SUSPENDED, VmState.RESIZED}) | SHELVED,
    task=None,
    hostless=_OFFLOADED,
)


@dataclass(frozen=True, slots=True)
class DeviceArguments:
    """One block device of the instance, by its uuid."""

    device: str | None = None


@dataclass(frozen=True, slots=True)
class SwapArguments:
    """The device changes to that volume, which that attachment has reserved."""

    device: str | None = None
    volume_id: str = ""
    attachment_id: str | None = None


@dataclass(frozen=True, slots=True)
class SnapshotArguments:
    """The guest writes the volume's changes to `new_file` from now on."""

    volume_id: str
    snapshot_id: str
    new_file: str = ""


@dataclass(frozen=True, slots=True)
class UnsnapshotArguments:
    """The files of the snapshot are merged."""

    volume_id: str
    snapshot_id: str
    file_to_merge: str | None = None
    merge_target_file: str | None = None


def does_not_run(instance: Instance) -> PolycellError | None:
    """The refusal of what only a guest that runs can do: a server that was resized while it was off has none."""
    if instance.power_state not in _OFF:
        return None
    state = instance.power_state.name.lower()
    return InstanceInvalidState(instance_uuid=instance.uuid, action="swap_volume", attribute="power_state", state=state)


def _ended(ending: Ending[Any, NoResult], **more: Any) -> Changes:
    """The instance has the devices that the host reports."""
    outcome, devices = ending.outcome, ending.instance.block_devices
    after = merged(devices, outcome.devices, outcome.devices_gone)
    return Changes(columns={"block_devices": after}, **more)


def _not_attached(ending: Ending[DeviceArguments, NoResult]) -> Changes:
    """The device is not attached: the host, which may have begun, cleans it up."""
    if ending.outcome.retriable:
        return again(ending)
    back = FollowUp(DETACH_VOLUME, DeviceArguments(ending.arguments.device))
    left = ending.instance.block_devices and ending.instance.deleted_at is None
    return _kept(ending, [back] if left else [], detaching=True)


def _kept_as_it_was(ending: Ending[Any, NoResult]) -> Changes:
    """A device that could not be detached, swapped or grown is still the instance's."""
    return again(ending) if ending.outcome.retriable else _kept(ending, [])


def _kept(ending: Ending[Any, NoResult], effects: Iterable[FollowUp | CleanUpHost | DisconnectVolume],
          *, detaching: bool = False) -> Changes:  # fmt: skip
    wanted = ending.arguments.device
    after = tuple(
        replace(device, detaching=detaching) if device.uuid == wanted else device
        for device in ending.instance.block_devices
    )
    return Changes(Phase.FAILED, {"block_devices": after}, (*effects, WakeHost()), ending.fault)


def _detached_without_host(ending: Ending[DeviceArguments, NoResult]) -> Changes:
    device = device_of(ending)
    if device is None:
        return Changes()
    left = tuple(each for each in ending.instance.block_devices if each.uuid != device.uuid)
    effects = (DisconnectVolume(device), CleanUpHost(parts_out=(device,)))
    return Changes(columns={"block_devices": left}, effects=effects)


def _swapped_without_host(ending: Ending[SwapArguments, NoResult]) -> Changes:
    """How far the host has come is unknown. It releases the old volume last: where that has happened, the device is the
    new volume; else it stays the old one, and the new one is free."""
    device, arguments = device_of(ending), ending.arguments
    if device is None:
        return _kept_as_it_was(ending)
    new = replace(device, volume_id=arguments.volume_id, attachment_id=arguments.attachment_id, connection_info={})
    new_attachment, volume = _attachment(ending, arguments.volume_id), ending.volumes.get(arguments.volume_id)
    if new_attachment is not None and volume is not None and _attachment(ending, device.volume_id) is None:
        new = replace(new, attachment_id=new_attachment, volume_size=volume.size_gib)
        return _replaced(ending, new, DisconnectVolume(device))
    return _kept(ending, [DisconnectVolume(new), CleanUpHost(parts_out=(new,), parts_in=(device,))])


def _extended_without_host(ending: Ending[DeviceArguments, NoResult]) -> Changes:
    device = device_of(ending)
    volume = ending.volumes.get(device.volume_id or "") if device is not None else None
    if device is None or volume is None:
        return _kept_as_it_was(ending)
    grown = replace(device, volume_size=volume.size_gib)
    return _replaced(ending, grown, CleanUpHost(parts_in=(grown,)))


def _replaced(ending: Ending[Any, NoResult], device: BlockDevice, *effects: CleanUpHost | DisconnectVolume) -> Changes:
    after = merged(ending.instance.block_devices, (device,))
    return Changes(columns={"block_devices": after}, effects=effects)


def _both_volumes(ending: Ending[SwapArguments, NoResult]) -> tuple[str, ...]:
    device = device_of(ending)
    found = [ending.arguments.volume_id, device.volume_id if device is not None else None]
    return tuple(each for each in found if each)


def _own_volume(ending: Ending[DeviceArguments, NoResult]) -> tuple[str, ...]:
    device = device_of(ending)
    return (device.volume_id,) if device is not None and device.volume_id is not None else ()


def _attachment(ending: Ending[SwapArguments, NoResult], volume_id: str | None) -> str | None:
    """The id of the attachment by which the instance's host has the volume; None when it has none."""
    volume = ending.volumes.get(volume_id or "")
    links = volume.attachments if volume is not None else ()
    mine = (link for link in links if (link.server_id, link.host) == (ending.instance.uuid, ending.instance.host))
    return next((link.attachment_id for link in mine), None)


def _snapshot_failed(ending: Ending[SnapshotArguments, NoResult]) -> Changes:
    return again(ending) if ending.outcome.retriable else fail(
        ending, ReportSnapshot(ending.arguments.snapshot_id, "error"))  # fmt: skip


def _unsnapshot_failed(ending: Ending[UnsnapshotArguments, NoResult]) -> Changes:
    return again(ending) if ending.outcome.retriable else fail(
        ending, ReportSnapshot(ending.arguments.snapshot_id, "error_deleting"))  # fmt: skip


ATTACH_VOLUME = Operation(
    name="attach_volume",
    needs=Ability.VOLUMES,
    action="attach_volume",
    event="compute_attach_volume",
    rule=_ATTACHABLE,
    arguments=DeviceArguments,
    result=NoResult,
    when_host_dies=HostDeath.DO_HERE_ONCE_DEAD,
    given_up_by_reset=False,
    succeeded=_ended,
    failed=_not_attached,
)
DETACH_VOLUME = Operation(
    name="detach_volume",
    action="detach_volume",
    event="compute_detach_volume",
    rule=_ATTACHABLE,
    arguments=DeviceArguments,
    result=NoResult,
    deadline=None,
    when_host_dies=HostDeath.DO_HERE_ONCE_DEAD,
    given_up_by_reset=False,
    succeeded=_ended,
    failed=_kept_as_it_was,
    host_died=_detached_without_host,
)
SWAP_VOLUME = Operation(
    name="swap_volume",
    needs=Ability.VOLUME_SWAPS,
    refusal=does_not_run,
    action="swap_volume",
    event="compute_swap_volume",
    rule=Rule(frozenset({VmState.ACTIVE, VmState.PAUSED, VmState.RESIZED}), task=None),
    arguments=SwapArguments,
    result=NoResult,
    deadline=None,
    when_host_dies=HostDeath.DO_HERE_ONCE_DEAD,
    given_up_by_reset=False,
    succeeded=_ended,
    failed=_kept_as_it_was,
    host_died=_swapped_without_host,
    asks_volumes=_both_volumes,
)
EXTEND_VOLUME = Operation(
    name="extend_volume",
    action="extend_volume",
    event="compute_extend_volume",
    rule=Rule(NOT_DELETED, task=None, during=ANY_TASK),
    arguments=DeviceArguments,
    result=NoResult,
    when_host_dies=HostDeath.DO_HERE_ONCE_DEAD,
    given_up_by_reset=False,
    succeeded=_ended,
    failed=_kept_as_it_was,
    host_died=_extended_without_host,
    asks_volumes=_own_volume,
)
SNAPSHOT_VOLUME = Operation(
    name="volume_snapshot_create",
    action="volume_snapshot_create",
    event="compute_volume_snapshot_create",
    rule=Rule(NOT_DELETED, task=None),
    arguments=SnapshotArguments,
    result=NoResult,
    deadline=timedelta(minutes=10),
    failed=_snapshot_failed,
)
UNSNAPSHOT_VOLUME = Operation(
    name="volume_snapshot_delete",
    action="volume_snapshot_delete",
    event="compute_volume_snapshot_delete",
    rule=Rule(NOT_DELETED, task=None),
    arguments=UnsnapshotArguments,
    result=NoResult,
    deadline=timedelta(minutes=10),
    failed=_unsnapshot_failed,
)

ALL: tuple[Operation[Any, Any], ...] = (
    ATTACH_VOLUME, DETACH_VOLUME, SWAP_VOLUME, EXTEND_VOLUME, SNAPSHOT_VOLUME, UNSNAPSHOT_VOLUME,
)  # fmt: skip
