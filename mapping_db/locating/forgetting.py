"""The global rows of deleted instances, removed when their cells archive them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from sqlalchemy import Connection, delete, exists, select

from mapping_db import placement_notes, request_specs
from mapping_db.schema import (
    allocations,
    build_requests,
    consumers,
    instance_group_members,
    instance_mappings,
    moves,
)


def forgettable(tx: Connection, uuids: Sequence[str], cell_id: int) -> list[str]:
    """The instances of a cell without unfinished global work: gone or never mapped, and without a move."""
    columns = (instance_mappings.c.instance_uuid, instance_mappings.c.cell_id, instance_mappings.c.gone)
    rows = tx.execute(select(*columns).where(instance_mappings.c.instance_uuid.in_(uuids)))
    kept = {row.instance_uuid for row in rows if not row.gone or row.cell_id != cell_id}
    kept.update(tx.scalars(select(build_requests.c.instance_uuid).where(build_requests.c.instance_uuid.in_(uuids))))
    moving = select(moves.c.instance_uuid).where(moves.c.instance_uuid.in_(uuids), moves.c.finished_at.is_(None))
    kept.update(tx.scalars(moving))
    return [uuid for uuid in uuids if uuid not in kept]


def forget(tx: Connection, uuids: Sequence[str]) -> Counter[str]:
    """Remove all global rows of the instances, which are gone. Rows removed, by table.

    Orphaned allocations are left to the check for them; the consumer is removed with the last one.
    """
    wanted = list(uuids)
    if not wanted:
        return Counter()
    removed: Counter[str] = Counter()
    removed["placement_notes"] += placement_notes.remove(tx, wanted)
    removed["request_specs"] += request_specs.remove(tx, wanted)
    for table, where in (
        (moves, moves.c.instance_uuid.in_(wanted) & moves.c.finished_at.is_not(None)),
        (instance_group_members, instance_group_members.c.instance_uuid.in_(wanted)),
        (consumers, consumers.c.uuid.in_(_without_allocations(tx, wanted))),
        (instance_mappings, instance_mappings.c.instance_uuid.in_(wanted) & instance_mappings.c.gone.is_(True)),
    ):
        removed[table.name] += tx.execute(delete(table).where(where)).rowcount
    return +removed


def gone_page(tx: Connection, *, after_id: int, limit: int) -> list[tuple[int, str, int | None]]:
    """Mappings of deleted instances, by id, after that id: id, instance, cell."""
    columns = (instance_mappings.c.id, instance_mappings.c.instance_uuid, instance_mappings.c.cell_id)
    where = instance_mappings.c.gone.is_(True) & (instance_mappings.c.id > after_id)
    rows = tx.execute(select(*columns).where(where).order_by(instance_mappings.c.id).limit(limit))
    return [(row[0], row[1], row[2]) for row in rows]


def _without_allocations(tx: Connection, uuids: list[str]) -> list[str]:
    used = exists().where(allocations.c.consumer_uuid == consumers.c.uuid)
    return list(tx.scalars(select(consumers.c.uuid).where(consumers.c.uuid.in_(uuids), ~used)))
