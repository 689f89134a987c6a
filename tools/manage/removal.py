"""`cell_v2 delete_cell`: a cell is removed only when no instance lives in it."""

from __future__ import annotations

from sqlalchemy import Connection, or_, select

from cell_service.context import Deadline
from cell_service.db import compute_nodes
from cell_service.db.schema import instances
from cell_service.errors import CellMappingNotFound, CellUnavailable
from mapping_db import cell_mappings, host_mappings, instance_mappings, moves, project_cells
from mapping_db.cell_mappings import CellMapping
from mapping_db.cells.registry import Cell
from mapping_db.cloud import Cloud
from mapping_db.schema import cell_mappings as table
from mapping_db.schema import host_moves
from mapping_db.schema import instance_mappings as mappings
from tools.manage.cells import Refused
from tools.manage.cloud import COMMAND_SECONDS
from tools.manage.command import Args, arg, command
from tools.manage.confirming import DRY_RUN, YES, confirm
from tools.manage.failures import explained
from tools.manage.identities import give_up
from tools.manage.named_cells import HELP
from tools.manage.out import Out

_CHUNK = 500


@command("cell_v2 delete_cell", arg("--cell_uuid", required=True, metavar="CELL", help=HELP),
         arg("--force", flag=True, help="also with hosts, and with mappings of deleted instances"),
         YES, DRY_RUN)  # fmt: skip
def delete_cell(cloud: Cloud, args: Args, out: Out) -> int:
    """Delete a cell mapping, with --force also its host mappings and the mappings of deleted instances. 0 deleted; 1 no
    such cell; 2 it has hosts; 3 it has instances; 4 it has mappings of deleted instances; 5 instances or hosts are on
    their way from it or to it; 6 projects are pinned to it alone, and would go anywhere without it."""
    try:
        with cloud.db.connect() as tx:
            cell = cell_mappings.get(tx, args.cell_uuid)
            hosts = host_mappings.counts(tx).get(cell.id, 0)
        if hosts and not args.force:
            raise Refused(2, f"There are existing hosts mapped to cell with uuid {cell.uuid}.")
        dead = _dead(cloud, cell)
        with cloud.db.connect() as tx:
            mapped = _demand_removable(tx, cell, dead, force=args.force)
        text = f"cell {cell.shown} with {hosts} host mappings and {mapped} mappings of deleted instances"
        if args.dry_run:
            out.value(f"Would delete {text}.", uuid=cell.uuid, name=cell.name or None, hosts=hosts,
                      instance_mappings=mapped)  # fmt: skip
            return 0
        if args.force:
            confirm(args, out, f"This deletes {text}.", cell.name or cell.uuid, as_nova=True)
        if hosts:
            _unmap_nodes(cloud, cell, out)
        cloud.db.run(lambda tx: _remove(tx, cell, dead, force=args.force))
        _release(cell, args, out)
    except CellMappingNotFound:
        out.warn(f"Cell with uuid {args.cell_uuid} was not found.")
        return 1
    except Refused as refused:
        out.warn(refused.text)
        return refused.code
    out.say(f"Cell {cell.shown} is deleted.")
    return 0


def _remove(tx: Connection, cell: CellMapping, dead: set[str], *, force: bool) -> None:
    """Delete all of the cell, if it may go.

    Every transaction that maps something to the cell needs its row, by the foreign key; this one locks it first.
    """
    if tx.scalar(select(table.c.id).where(table.c.id == cell.id).with_for_update()) is None:
        raise CellMappingNotFound(cell=cell.uuid)
    _demand_removable(tx, cell, dead, force=force)
    cell_mappings.remove(tx, cell.uuid)


def _demand_removable(tx: Connection, cell: CellMapping, dead: set[str], *, force: bool) -> int:
    """How many instances, all of them deleted, are mapped to the cell. Raises Refused."""
    if not force and host_mappings.counts(tx).get(cell.id):
        raise Refused(2, f"There are existing hosts mapped to cell with uuid {cell.uuid}.")
    if moving := moves.touching_cell(tx, cell.id):
        raise Refused(5, f"{moving} instances are on their way from or to the cell with uuid {cell.uuid}.")
    hosts_moving = or_(host_moves.c.source_cell == cell.id, host_moves.c.target_cell == cell.id)
    if host := tx.scalar(select(host_moves.c.host).where(hosts_moving).limit(1)):
        raise Refused(5, f"The host {host} is on its way from or to the cell with uuid {cell.uuid}.")
    lost = [project for project, ids in project_cells.every(tx).pinned.items() if ids == {cell.id}]
    if lost and not force:
        raise Refused(6, f"Projects are pinned to the cell with uuid {cell.uuid} alone: {', '.join(sorted(lost)[:5])}")
    there = set(tx.scalars(select(mappings.c.instance_uuid).where(mappings.c.cell_id == cell.id)))
    if there - dead:
        raise Refused(3, f"There are existing instances mapped to cell with uuid {cell.uuid}.")
    if there and not force:
        raise Refused(
            4,
            f"There are instance mappings to cell with uuid {cell.uuid}, but all instances have been deleted in the "
            "cell. Use --force to delete the cell and its instance mappings.",
        )
    return len(there)


def _dead(cloud: Cloud, cell: CellMapping) -> set[str]:
    """The instances mapped to the cell of which nothing lives: the mapping says so, or the cell has the instance as
    deleted."""
    dead: set[str] = set()
    doubtful: list[str] = []
    last = 0
    while True:
        with cloud.db.connect() as tx:
            page = instance_mappings.of_cell(tx, cell.id, limit=_CHUNK, after_id=last)
        if not page:
            break
        last = page[-1].id
        dead.update(each.instance_uuid for each in page if each.gone)
        doubtful += [each.instance_uuid for each in page if not each.gone]
    if doubtful:
        deadline = Deadline.after(COMMAND_SECONDS, cloud.clock)
        try:
            dead |= _deleted_in(cloud.cells.open(cell.id), doubtful, deadline)
        except CellUnavailable:
            return dead  # unknown while the cell is down: they count as living
    return dead


def _deleted_in(cell: Cell, uuids: list[str], deadline: Deadline) -> set[str]:
    found: set[str] = set()
    with cell.db.connect(deadline) as tx:
        for start in range(0, len(uuids), _CHUNK):
            condition = instances.c.uuid.in_(uuids[start : start + _CHUNK])
            deleted = set(tx.scalars(select(instances.c.uuid).where(condition, instances.c.deleted_at.is_not(None))))
            found |= deleted
            if len(deleted) < len(uuids[start : start + _CHUNK]):
                break  # something lives
    return found


def _release(cell: CellMapping, args: Args, out: Out) -> None:
    """Release the cell's database, which may be another cell's from now on."""
    if not give_up(cell, own_url=args.settings.database):
        out.warn("Warning: the cell's database does not answer and still says that it is this cell's; "
                 "create_cell --take-over uses it again.")  # fmt: skip


def _unmap_nodes(cloud: Cloud, cell: CellMapping, out: Out) -> None:
    """Mark the cell's hosts as not mapped, so that they may be discovered again, wherever the cell is mapped next. A
    cell that is down keeps its marks."""
    deadline = Deadline.after(COMMAND_SECONDS, cloud.clock)
    opened = cloud.cells.open(cell.id)
    try:
        with opened.db.connect(deadline) as tx:
            nodes = [node.report.uuid for node in compute_nodes.list_all(tx)]
        opened.db.run(lambda tx: compute_nodes.set_mapped(tx, nodes, mapped=False), deadline)
    except CellUnavailable as error:
        out.warn(
            f"Warning: {explained(error)} Its hosts stay marked as mapped there; use discover_hosts --by-service if it "
            "returns."
        )
