"""Snapshots of attached volumes that the volume's host takes, or removes, for the block storage service.

1. The host says that it can; 2. cell: an operation is open for it; 3. it is woken. The block storage
service reads the outcome in the snapshot's status. Nothing shows in the server's state or history.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any, TypeVar

from sqlalchemy import Connection

from api_cell.servers import act, find
from api_cell.servers.volumes import demand_device
from api_cell.services import Services
from cell_service.context import Context
from cell_service.db import operations
from cell_service.errors import (
    DeadlineExceeded,
    Invalid,
    NoConsumer,
    NotSupported,
)
from cell_service.logs import about
from cell_service.model.instance import Instance
from cell_service.operations.declaration import Operation
from cell_service.operations.rule import begin_on
from cell_service.operations.volumes import (
    SNAPSHOT_VOLUME,
    UNSNAPSHOT_VOLUME,
    SnapshotArguments,
    UnsnapshotArguments,
)
from mapping_db.cells.registry import Cell
from mapping_db.cloud import Cloud

log = logging.getLogger(__name__)

A = TypeVar("A")


def take(cloud: Cloud, services: Services, ctx: Context, wanted: SnapshotArguments) -> None:
    """Have the guest that has the volume write to a new file, so that the file that it has now is the snapshot.

    Raises VolumeNotFound, InstanceNotFound, Invalid, InstanceNotReady, InstanceInvalidState, CellUnavailable.
    """
    _begin(cloud, services, ctx, SNAPSHOT_VOLUME, wanted.volume_id, wanted)


def remove(cloud: Cloud, services: Services, ctx: Context, wanted: UnsnapshotArguments) -> None:
    """The snapshot's files will be merged. Raises like `take`."""
    _begin(cloud, services, ctx, UNSNAPSHOT_VOLUME, wanted.volume_id, wanted)


def _begin(
    cloud: Cloud, services: Services, ctx: Context, operation: Operation[A, Any], volume_id: str, arguments: A
) -> None:
    ctx = replace(ctx, is_admin=True)  # the block storage service acts for the owner of the volume
    server_id = _server_with(services, ctx, volume_id)

    def check(tx: Connection, cell: Cell) -> Instance:
        instance = find.to_change(cloud, ctx, tx, cell, server_id)
        demand_device(instance, volume_id)
        begin_on(operation, instance)
        return instance

    def work(tx: Connection, cell: Cell) -> tuple[Cell, Instance]:
        instance, now = check(tx, cell), cloud.clock.now()
        operations.insert(tx, operations.new_operation(operation, ctx, server_id, instance.host, now, arguments))
        return cell, instance

    cell, instance = find.change(cloud, ctx, server_id, lambda tx, cell: (cell, check(tx, cell)))
    _demand_able(ctx, cell, instance.host or "")
    cell, instance = find.change(cloud, ctx, server_id, work)
    log.info("snapshot work accepted", extra=about(ctx, instance=server_id, volume=volume_id, kind=operation.name))
    act.wake(ctx, cell, instance.host)


def _server_with(services: Services, ctx: Context, volume_id: str) -> str:
    """The one server that has the volume. Raises VolumeNotFound, Invalid."""
    servers = {link.server_id for link in services.require_volumes().get(ctx, volume_id).attachments}
    if not servers:
        raise Invalid(reason=f"Invalid volume: volume {volume_id} is not attached.")
    if len(servers) > 1:
        raise Invalid(reason=f"Invalid volume: volume {volume_id} is attached to several servers.")
    return servers.pop()


def _demand_able(ctx: Context, cell: Cell, host: str) -> None:
    try:
        cell.compute(host).demand_volume_snapshots(ctx)
    except NotSupported as error:
        raise Invalid(reason=str(error)) from None
    except (NoConsumer, DeadlineExceeded):
        raise Invalid(reason=f"Compute service of {host} is unavailable at this time.") from None
