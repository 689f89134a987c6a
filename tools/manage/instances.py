"""`cell_v2`: which instances are in which cell."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, func, select
from sqlalchemy.exc import IntegrityError

from cell_service.context import Deadline
from cell_service.db.schema import instances as table
from cell_service.errors import CellMappingNotFound, InstanceMappingNotFound
from mapping_db import cell_mappings, class_usage, instance_mappings, progress_marks, quotas
from mapping_db.cell_mappings import CellMapping
from mapping_db.cells.registry import Cell
from mapping_db.cloud import Cloud
from mapping_db.instance_mappings import InstanceMapping
from tools.manage.cloud import COMMAND_SECONDS
from tools.manage.command import Args, arg, command
from tools.manage.named_cells import HELP
from tools.manage.out import Out

_BATCH = 500
_ATTEMPTS = 5
_COLUMNS = [
    table.c[name]
    for name in (
        "id",
        "uuid",
        "project_id",
        "user_id",
        "created_at",
        "display_name",
        "vcpus",
        "memory_mb",
        "deleted_at",
    )
]


@dataclass(frozen=True, slots=True)
class Mapped:
    count: int
    all: bool


@command("cell_v2 map_instances", arg("--cell_uuid", required=True, metavar="CELL", help=HELP),
         arg("--max-count", metavar="N", help="map at most so many in this run"),
         arg("--reset", flag=True, help="start over, not where the last run stopped"))  # fmt: skip
def map_instances(cloud: Cloud, args: Args, out: Out) -> int:
    """Map the instances of a cell that have no mapping yet, oldest first, and count those that live in their project's
    quota. A run that was interrupted, or had enough, is gone on with. 0 all are mapped; 1 more remain, or no such cell;
    127 --max-count is not a positive number."""
    most = None if args.max_count is None else _positive(args.max_count)
    if most == 0:
        out.warn("Must supply a positive value for max-count")
        return 127
    try:
        with cloud.db.connect() as tx:
            cell = cell_mappings.get(tx, args.cell_uuid)
    except CellMappingNotFound:
        out.warn(f"Cell with uuid {args.cell_uuid} was not found.")
        return 1
    if args.reset:
        cloud.db.run(lambda tx: progress_marks.clear(tx, _mark(cell)))
    done = map_all(cloud, cell, out, most)
    out.value(f"Mapped {done.count} instances of cell {cell.shown}.", mapped=done.count, complete=done.all)
    return 0 if done.all else 1


def _positive(text: str) -> int:
    """The number; 0 for a text that is no positive number."""
    try:
        return max(0, int(text))
    except ValueError:
        return 0


@command("cell_v2 verify_instance", arg("--uuid", required=True, metavar="UUID", help="of the instance"),
         arg("--quiet", flag=True, help="print nothing"))  # fmt: skip
def verify_instance(cloud: Cloud, args: Args, out: Out) -> int:
    """Say whether an instance is mapped to a cell. 0 it is; 1 it has no mapping; 2 its mapping names no cell; 3 it is
    deleted and still mapped; 4 its row is gone from the cell and it is still mapped."""
    code, text, cell = _verified(cloud, args.uuid)
    if not args.quiet:
        out.value(text, uuid=args.uuid, code=code, cell_name=cell and cell.name, cell_uuid=cell and cell.uuid)
    return code


def map_all(cloud: Cloud, cell: CellMapping, out: Out, max_count: int | None = None) -> Mapped:
    """Map the cell's instances that no mapping names, from where the last run stopped. Several runs may work on a cell
    at once, or be killed: each batch is one transaction with the mark of how far it came, and a mapping that is there
    stays as it is. After the last batch the next run starts over."""
    deadline = Deadline.after(COMMAND_SECONDS, cloud.clock)
    opened = cloud.cells.open(cell.id)
    with cloud.db.connect() as tx:
        last = int(progress_marks.get(tx, _mark(cell)) or 0)
    with opened.db.connect(deadline) as tx:
        total = tx.scalar(select(func.count()).select_from(table).where(table.c.id > last)) or 0
    count = 0
    with out.progress(f"mapping instances of {cell.shown}", total) as step:
        while True:
            # SELECT … FROM instances WHERE id > ? ORDER BY id LIMIT ?      id is the order they were made in
            with opened.db.connect(deadline) as tx:
                page = tx.execute(select(*_COLUMNS).where(table.c.id > last).order_by(table.c.id).limit(_BATCH)).all()
            if not page:
                cloud.db.run(lambda tx: progress_marks.clear(tx, _mark(cell)))
                return Mapped(count, all=True)
            left = None if max_count is None else max_count - count
            mapped, missed = _map_page(cloud, cell, page, left)
            count, last = count + mapped, page[-1].id
            step(len(page))
            if missed:
                return Mapped(count, all=False)


def map_some(cloud: Cloud, cell: Cell, uuids: Sequence[str], deadline: Deadline) -> int:
    """Map those of the instances that the cell has and no mapping names. Answers how many."""
    with cell.db.connect(deadline) as tx:
        page = tx.execute(select(*_COLUMNS).where(table.c.uuid.in_(list(uuids))).order_by(table.c.id)).all()
    return _map_page(cloud, cell.mapping, page, None, mark=False)[0] if page else 0


def _mark(cell: CellMapping) -> str:
    return f"map_instances {cell.uuid}"


def _map_page(
    cloud: Cloud, cell: CellMapping, page: Sequence[Row[Any]], left: int | None, *, mark: bool = True
) -> tuple[int, int]:
    """How many were mapped now, and how many had to be left for want of `left`. `mark`: note how far this came."""

    def work(tx: Connection) -> tuple[int, int]:
        there = instance_mappings.get_many(tx, [row.uuid for row in page])
        missing = [row for row in page if row.uuid not in there]
        chosen = missing if left is None else missing[:left]
        instance_mappings.insert_new(tx, [_mapping(row, cell) for row in chosen])
        _count(tx, [row for row in chosen if row.deleted_at is None])
        if mark and len(chosen) == len(missing):
            progress_marks.put(tx, _mark(cell), str(page[-1].id), cloud.clock.now())
        return len(chosen), len(missing) - len(chosen)

    for attempt in range(1, _ATTEMPTS + 1):
        try:
            return cloud.db.run(work)
        except IntegrityError:  # another run mapped one of them meanwhile
            if attempt == _ATTEMPTS:
                raise
    raise AssertionError("unreachable")


def _mapping(row: Row[Any], cell: CellMapping) -> InstanceMapping:
    gone = row.deleted_at is not None
    return InstanceMapping(
        instance_uuid=row.uuid, project_id=row.project_id, user_id=row.user_id, created_at=row.created_at,
        display_name=row.display_name, vcpus=row.vcpus, memory_mb=row.memory_mb, cell_id=cell.id,
        queued_for_delete=gone, gone=gone,
    )  # fmt: skip


def _count(tx: Connection, living: Sequence[Row[Any]]) -> None:
    """Count the living servers as used, whatever the limits are."""
    used: dict[tuple[str, str], Counter[str]] = {}
    for row in living:
        owner = used.setdefault((row.project_id, row.user_id), Counter())
        owner.update({"instances": 1, "cores": row.vcpus, "ram": row.memory_mb})
    for (project_id, user_id), deltas in sorted(used.items()):
        classes = class_usage.of_sizes(deltas["cores"], deltas["ram"])
        quotas.reserve(tx, project_id, user_id, deltas, limits={}, also=classes)


def _verified(cloud: Cloud, instance_uuid: str) -> tuple[int, str, CellMapping | None]:
    try:
        with cloud.db.connect() as tx:
            mapping = instance_mappings.get(tx, instance_uuid)
    except InstanceMappingNotFound:
        return 1, f"Instance {instance_uuid} is not mapped to a cell.", None
    if mapping.cell_id is None:
        return 2, f"Instance {instance_uuid} is not mapped to a cell yet: it waits to be scheduled.", None
    cell = cloud.cells.open(mapping.cell_id)
    with cell.db.connect(Deadline.after(COMMAND_SECONDS, cloud.clock)) as tx:
        row = tx.execute(select(table.c.deleted_at).where(table.c.uuid == instance_uuid)).one_or_none()
    where = f"cell: {cell.mapping.shown} ({cell.mapping.uuid})"
    if row is None:
        return 4, f"Instance {instance_uuid} is archived, and still mapped to {where}", cell.mapping
    if row.deleted_at is not None:
        return 3, f"Instance {instance_uuid} is deleted, and still mapped to {where}", cell.mapping
    return 0, f"Instance {instance_uuid} is in {where}", cell.mapping
