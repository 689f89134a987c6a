"""`volume_attachment refresh`: a stopped server's volume is connected in another way from its next start on."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from cell_service.context import Context, Deadline, internal
from cell_service.db import actions, instances
from cell_service.errors import Conflict, InstanceNotFound, Invalid, VolumeNotFound
from cell_service.model.block_device import BlockDevice, merged, of_volume
from cell_service.model.instance import Instance
from cell_service.model.lifecycle import State, VmState
from cell_service.model.volume_connection import of_any_host
from cell_service.peers.cinder import open_volumes
from cell_service.peers.volumes import Volumes
from mapping_db.cells.registry import Cell
from mapping_db.cloud import Cloud
from tools.manage.cloud import cell_of_instance
from tools.manage.command import Args, arg, command
from tools.manage.out import Out

ACTION = "refresh_volume_attachment"
REASON = "the connection of a volume is refreshed"
REQUEST_SECONDS = 600.0


class NotStopped(Conflict):
    """The server is not stopped, or locked, or has no host."""

    message = "Instance {instance_uuid} has to be stopped and unlocked, with nothing under way: it is {state}."


@command("volume_attachment refresh", arg("instance_uuid", metavar="UUID", help="of the instance"),
         arg("volume_id", metavar="VOLUME", help="id of the volume"),
         arg("connector_path", metavar="FILE", help="what get_connector -f json prints on the host"))  # fmt: skip
def refresh(cloud: Cloud, args: Args, out: Out) -> int:
    """Give a stopped instance's volume a new attachment, for the host's connector in the file; the guest has it from
    its next start on. The instance is locked meanwhile. Run again, it goes on where it failed. 0 done; 2 no such file;
    3 the file is no connector of the instance's host; 4 no such instance; 5 it is not stopped, or it is locked; 6 it
    does not have the volume."""
    path = Path(args.connector_path)
    try:
        connector = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        out.warn(f"There is no file {path}.")
        return 2
    except (OSError, ValueError) as error:
        out.warn(f"{path} cannot be read: {error}")
        return 3
    service = open_volumes(args.settings.cinder)
    try:
        device = refreshed(cloud, service, args.instance_uuid, args.volume_id, connector)
    except Invalid as error:
        out.warn(f"{path}: {error}")
        return 3
    except InstanceNotFound as error:
        out.warn(str(error))
        return 4
    except NotStopped as error:
        out.warn(str(error))
        return 5
    except VolumeNotFound as error:
        out.warn(f"Instance {args.instance_uuid} does not have volume {args.volume_id}: {error}")
        return 6
    words = f"Volume {args.volume_id} has attachment {device.attachment_id}."
    out.value(words, instance_uuid=args.instance_uuid, volume_id=args.volume_id, attachment_id=device.attachment_id)
    return 0


def refreshed(cloud: Cloud, service: Volumes, uuid: str, volume_id: str, connector: Any) -> BlockDevice:
    """Give the stopped instance's volume a new attachment for the connector. Returns the device.

    Order: 1. the new attachment is reserved, so that the volume stays the instance's; 2. the host disconnects; 3. the
    old attachment is removed, the new one connected and recorded. Raises Invalid for a connector of another host,
    InstanceNotFound, NotStopped, VolumeNotFound, PeerUnavailable, Unavailable.
    """
    cell = cell_of_instance(cloud, uuid)
    if cell is None:
        raise InstanceNotFound(instance_id=uuid)
    ctx = replace(internal(cloud.clock), deadline=Deadline.after(REQUEST_SECONDS, cloud.clock))
    with _locked(cloud, cell, ctx, uuid, volume_id, connector) as (instance, device):
        service.reserve(ctx, volume_id, uuid)
        cell.compute(instance.host or "").disconnect_volume(ctx, uuid, volume_id)
        service.leave(ctx, volume_id, uuid, instance.host or "")
        made = service.connect(ctx, volume_id, uuid, connector, device.device_name)
        kept = of_any_host(device.connection_info)
        after = replace(device, attachment_id=made.attachment_id, connection_info={**made.info, **kept})
        cell.db.run(lambda tx: _record(tx, cloud, uuid, after), ctx.deadline)
        service.complete(ctx, made.attachment_id)
        return after


@contextmanager
def _locked(
    cloud: Cloud, cell: Cell, ctx: Context, uuid: str, volume_id: str, connector: Any
) -> Iterator[tuple[Instance, BlockDevice]]:
    """The instance, which is locked meanwhile, and its device. Raises as `refreshed`."""

    def lock(tx: Connection) -> tuple[Instance, BlockDevice]:
        instance = instances.get_locked(tx, uuid)
        if instance.state != State(VmState.STOPPED) or instance.locked or instance.host is None:
            state = "locked" if instance.locked else f"{instance.vm_state.value} ({instance.task_state or 'no task'})"
            raise NotStopped(instance_uuid=uuid, state=state)
        device = of_volume(instance.block_devices, volume_id)
        if device is None:
            raise VolumeNotFound(volume_id=volume_id)
        if not isinstance(connector, Mapping) or connector.get("host") != instance.host:
            raise Invalid(reason=f"it is no connector of host {instance.host}")
        now = cloud.clock.now()
        instances.change(tx, uuid, now=now, locked_by="admin", locked_reason=REASON)
        own = replace(ctx, project_id=instance.project_id, user_id=instance.user_id)
        actions.start(tx, own, uuid, ACTION, now)
        return instance, device

    def unlock(tx: Connection) -> None:
        now = cloud.clock.now()
        instances.change(tx, uuid, now=now, locked_by=None, locked_reason=None)
        actions.finish(tx, uuid, ctx.request_id, now)

    found = cell.db.run(lock, ctx.deadline)
    try:
        yield found
    finally:
        cell.db.run(unlock, Deadline.after(REQUEST_SECONDS, cloud.clock))


def _record(tx: Connection, cloud: Cloud, uuid: str, device: BlockDevice) -> None:
    known = instances.get_locked(tx, uuid).block_devices
    instances.change(tx, uuid, now=cloud.clock.now(), block_devices=merged(known, (device,)))
