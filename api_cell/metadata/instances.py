"""The servers of all cells: each is looked up in the cell that owns it now."""

from __future__ import annotations

from sqlalchemy import Connection

from cell_service.context import Context
from cell_service.db import instances
from cell_service.errors import InstanceNotFound, InstanceNotHere, InstanceNotReady
from cell_service.metadata.instances import living, store_password
from cell_service.model.instance import Instance
from mapping_db.cells.registry import Cell
from mapping_db.cloud import Cloud
from mapping_db.locating.routing import in_cell


class CloudInstances:
    """See cell_service.metadata.instances.Instances. A mapping that has moved is read again."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud

    def find(self, ctx: Context, uuid: str) -> Instance:
        def read(cell: Cell) -> Instance:
            with cell.db.connect(ctx.deadline) as tx:
                _demand_here(tx, uuid)
                return living(tx, uuid)

        try:
            return in_cell(self._cloud, uuid, read, ctx.deadline)
        except InstanceNotReady:
            raise InstanceNotFound(instance_id=uuid) from None

    def set_password(self, ctx: Context, uuid: str, password: str) -> None:
        def store(tx: Connection) -> None:
            _demand_here(tx, uuid)
            store_password(tx, uuid, password, self._cloud.clock)

        in_cell(self._cloud, uuid, lambda cell: cell.db.run(store, ctx.deadline), ctx.deadline)


def _demand_here(tx: Connection, uuid: str) -> None:
    """Raises InstanceNotHere when the cell never had the server, or it has moved away."""
    try:
        instance = instances.get(tx, uuid, deleted=True)
    except InstanceNotFound:
        raise InstanceNotHere(instance_uuid=uuid) from None
    if instance.hidden:
        raise InstanceNotHere(instance_uuid=uuid)
