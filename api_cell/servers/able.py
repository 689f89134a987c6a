"""Whether the host of a server can do what is requested of it, demanded before the request is accepted."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection

from api_cell.servers.find import LocatedServer
from cell_service.context import Context
from cell_service.db import compute_nodes
from cell_service.errors import PolycellError, UnableToDo, VolumeEncryptionNotSupported
from cell_service.model.ability import Ability
from cell_service.model.instance import Instance
from cell_service.operations.declaration import Operation
from cell_service.peers.volumes import Volume


def demand_able(tx: Connection, instance: Instance, operation: Operation[Any, Any]) -> None:
    """Raises `operation.unable` when the instance's host lacks the ability that the operation needs, and its `refusal`
    of the instance."""
    demand_ability(tx, instance, operation.needed_for(instance), operation.unable)
    _demand_not_refused(instance, operation)


def demand_ability(
    tx: Connection, instance: Instance, ability: Ability | None, unable: type[PolycellError] = UnableToDo
) -> None:
    """Raises `unable`. An instance without a host, or an ability of None, is no error."""
    if ability is not None and instance.host is not None and not compute_nodes.is_able(tx, instance.host, ability):
        raise unable(instance_uuid=instance.uuid, what=ability.phrase)


def demand_decrypts(ctx: Context, found: LocatedServer, volume: Volume) -> None:
    """Raises VolumeEncryptionNotSupported for an encrypted volume that the server's host can't decrypt."""
    host = found.instance.host
    if volume.encrypted and found.cell is not None and host is not None:
        with found.cell.db.connect(ctx.deadline) as tx:
            if not compute_nodes.is_able(tx, host, Ability.ENCRYPTED_VOLUMES):
                raise VolumeEncryptionNotSupported(volume_type=volume.volume_type, volume_id=volume.id)


def demand_able_before(
    ctx: Context, found: LocatedServer, operation: Operation[Any, Any], also: Ability | None = None
) -> None:
    """As `demand_able`, and as `demand_ability` of `also`, in a transaction of its own: before other services are
    called for the operation."""
    if found.cell is not None and (also or operation.needed_for(found.instance)) is not None:
        with found.cell.db.connect(ctx.deadline) as tx:
            demand_able(tx, found.instance, operation)
            demand_ability(tx, found.instance, also)
    _demand_not_refused(found.instance, operation)


def _demand_not_refused(instance: Instance, operation: Operation[Any, Any]) -> None:
    if (refusal := operation.refusal(instance)) is not None:
        raise refusal
