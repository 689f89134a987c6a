"""Finding one server: in the cell that owns it, or among the build requests when it is in no cell yet."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

from sqlalchemy import Connection

from cell_service.context import Context
from cell_service.db import instances
from cell_service.errors import InstanceInTransit, InstanceNotFound, InstanceNotHere
from cell_service.model.instance import Instance
from mapping_db import build_requests, instance_mappings
from mapping_db.build_requests import BuildRequest
from mapping_db.cells.registry import Cell
from mapping_db.cloud import Cloud
from mapping_db.locating.routing import in_cell
from mapping_db.locations import Location

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class LocatedServer:
    """A server and the cell that owns it (None: accepted, in no cell yet)."""

    instance: Instance
    cell: Cell | None


def server(cloud: Cloud, ctx: Context, server_id: str, *, deleted: bool = False) -> LocatedServer:
    """The server, if the caller may know of it. Raises InstanceNotFound, CellUnavailable."""

    def read(cell: Cell) -> LocatedServer:
        with cell.db.connect(ctx.deadline) as tx:
            return LocatedServer(here(cloud, ctx, tx, cell, server_id, deleted=deleted), cell)

    def unplaced(location: Location) -> LocatedServer:
        demand_visible(ctx, location.project_id, server_id)
        with cloud.db.connect() as tx:
            request = build_requests.get(tx, server_id)
        if request is None:
            raise InstanceNotHere(instance_uuid=server_id)
        if request.delete_requested:
            raise InstanceNotFound(instance_id=server_id)
        return LocatedServer(request.instance, None)

    return in_cell(cloud, server_id, read, ctx.deadline, unplaced)


def change(
    cloud: Cloud,
    ctx: Context,
    server_id: str,
    work: Callable[[Connection, Cell], T],
    early: Callable[[Instance], tuple[Instance, T]] | None = None,
    follow: Callable[[Connection], None] = lambda tx: None,
) -> T:
    """Run `work` as one transaction in the cell that owns the server. For a server that is in no cell yet `early` makes
    the changed server and the answer, and `follow` changes its other global records; what they raise changes nothing.

    Raises InstanceNotFound, CellUnavailable, and InstanceNotReady for a server in no cell where `early` is not given.
    """
    return in_cell(
        cloud,
        server_id,
        lambda cell: cell.db.run(lambda tx: work(tx, cell), ctx.deadline),
        ctx.deadline,
        None if early is None else lambda location: _change_unplaced(cloud, ctx, location, early, follow),
    )


def _change_unplaced(
    cloud: Cloud,
    ctx: Context,
    location: Location,
    early: Callable[[Instance], tuple[Instance, T]],
    follow: Callable[[Connection], None],
) -> T:
    """Change the build request: its cell gets the server so, whatever the super-conductor has read of it before. Raises
    InstanceNotFound, and InstanceNotHere when a cell has the server by now."""
    server_id = location.instance_uuid
    demand_visible(ctx, location.project_id, server_id)
    answers: list[T] = []

    def changed(request: BuildRequest) -> Instance:
        if request.delete_requested:
            raise InstanceNotFound(instance_id=server_id)
        instance, answer = early(request.instance)
        answers[:] = [answer]
        return replace(instance, updated_at=cloud.clock.now())

    def work(tx: Connection) -> None:
        if not build_requests.change_instance(tx, server_id, changed):
            raise InstanceNotHere(instance_uuid=server_id)
        follow(tx)

    cloud.db.run(work)
    return answers[0]


def to_change(cloud: Cloud, ctx: Context, tx: Connection, cell: Cell, server_id: str) -> Instance:
    """As `here`, for a caller that changes it; no other transaction does before this one ends.

    Raises InstanceInTransit while it passes from cell to cell.
    """
    instances.lock_row(tx, server_id)
    instance = here(cloud, ctx, tx, cell, server_id)
    if instance.hidden:
        raise InstanceInTransit(instance_uuid=server_id, retry_after=1)
    return instance


def here(cloud: Cloud, ctx: Context, tx: Connection, cell: Cell, server_id: str, *, deleted: bool = False) -> Instance:
    """The server as the cell has it, on whose database `tx` is.

    Raises InstanceNotHere when the cell never had it, InstanceNotFound when it is deleted or not the caller's to see.
    """
    try:
        instance = instances.get(tx, server_id, deleted=True)
    except InstanceNotFound:
        raise InstanceNotHere(instance_uuid=server_id) from None
    if instance.hidden:
        _demand_owner(cloud, cell.mapping.id, server_id)
    demand_visible(ctx, instance.project_id, server_id)
    if instance.deleted_at is not None and not deleted:
        raise InstanceNotFound(instance_id=server_id)
    return instance


def _demand_owner(cloud: Cloud, cell_id: int, server_id: str) -> None:
    """Check by the mapping, read again, that this cell owns a server whose row is hidden, on its way between two cells.

    Raises InstanceNotHere.
    """
    with cloud.db.connect() as tx:
        mapping = instance_mappings.get_many(tx, [server_id]).get(server_id)
    if mapping is None or mapping.cell_id != cell_id:
        raise InstanceNotHere(instance_uuid=server_id)


def demand_visible(ctx: Context, project_id: str, server_id: str) -> None:
    """Another project's servers do not exist for callers that are no administrators. Raises InstanceNotFound."""
    if not (ctx.is_admin or ctx.project_id == project_id):
        raise InstanceNotFound(instance_id=server_id)


def target(instance: Instance) -> dict[str, str]:
    """The attributes of a server that policy rules check."""
    return {"project_id": instance.project_id, "user_id": instance.user_id}
