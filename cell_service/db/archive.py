"""Deleted instances, moved to shadow tables with all rows that belong to them, and later purged.

Small batches by primary key, children first, each a short transaction: readers and writers of living instances do not
wait for it. After a kill at any point the next batch continues.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Table, delete, func, insert, literal_column, select

from cell_service.db.schema import (
    instance_actions,
    instance_actions_events,
    instances,
    migrations,
    operations,
    shadow_instance_actions,
    shadow_instance_actions_events,
    shadow_instances,
    shadow_migrations,
    tags,
)
from cell_service.model.operation import UNFINISHED

SHADOWS: tuple[Table, ...] = (
    shadow_instance_actions_events,
    shadow_instance_actions,
    shadow_migrations,
    shadow_instances,
)
"""Children before their parents."""

_UNFINISHED = tuple(phase.value for phase in UNFINISHED)


@dataclass(frozen=True, slots=True)
class Dead:
    """A deleted instance: its row's number, and how many rows there are with it that are archived."""

    id: int
    uuid: str
    rows: int


def deleted(tx: Connection, *, before: datetime | None, after_id: int, limit: int) -> tuple[list[Dead], int | None]:
    """Deleted instances without unfinished work, by row number, after `after_id`; and the last number that was read,
    None when there were no more."""
    # SELECT id, uuid FROM instances WHERE id > ? AND deleted_at IS NOT NULL ORDER BY id LIMIT ?
    query = select(instances.c.id, instances.c.uuid).where(
        instances.c.id > after_id, instances.c.deleted_at.is_not(None), instances.c.hidden.is_(False)
    )
    if before is not None:
        query = query.where(instances.c.deleted_at < before)
    found = tx.execute(query.order_by(instances.c.id).limit(limit)).all()
    uuids = [row.uuid for row in found]
    busy = select(operations.c.instance_uuid).where(
        operations.c.instance_uuid.in_(uuids), operations.c.phase.in_(_UNFINISHED)
    )
    waiting = set(tx.scalars(busy))
    rows = _rows_of(tx, uuids)
    dead = [Dead(row.id, row.uuid, 1 + rows[row.uuid]) for row in found if row.uuid not in waiting]
    return dead, found[-1].id if found else None


def archive(tx: Connection, uuids: Sequence[str], *, keep: bool) -> Counter[str]:
    """Move the instances, which are deleted, to the shadow tables; without `keep` delete them. Rows moved, by table."""
    uuids = _still_deleted(tx, uuids)
    if not uuids:
        return Counter()
    acted = select(instance_actions.c.id).where(instance_actions.c.instance_uuid.in_(uuids))
    action_ids = list(tx.scalars(acted))
    events = instance_actions_events
    taken: Counter[str] = Counter()
    if keep:
        owner = (
            select(instance_actions.c.instance_uuid)
            .where(instance_actions.c.id == events.c.action_id)
            .scalar_subquery()
            .label("instance_uuid")
        )
        _copy(tx, events, shadow_instance_actions_events, events.c.action_id.in_(action_ids), owner)
        _copy(tx, instance_actions, shadow_instance_actions, instance_actions.c.id.in_(action_ids))
        _copy(tx, migrations, shadow_migrations, migrations.c.instance_uuid.in_(uuids))
        _copy(tx, instances, shadow_instances, instances.c.uuid.in_(uuids))
    for table, where in (
        (events, events.c.action_id.in_(action_ids)),
        (instance_actions, instance_actions.c.id.in_(action_ids)),
        (migrations, migrations.c.instance_uuid.in_(uuids)),
        (operations, operations.c.instance_uuid.in_(uuids)),
        (tags, tags.c.resource_id.in_(uuids)),
        (instances, instances.c.uuid.in_(uuids)),
    ):
        taken[table.name] += tx.execute(delete(table).where(where)).rowcount
    return +taken


def purge(tx: Connection, table: Table, limit: int) -> int:
    """Remove up to `limit` rows of a shadow table, oldest first. Answers how many."""
    # DELETE FROM shadow_… WHERE shadow_id <= ?      a range of the primary key that no other statement uses
    key = table.c.shadow_id
    last = tx.scalar(select(func.max(literal_column("n"))).select_from(
        select(key.label("n")).order_by(key).limit(limit).subquery()))  # fmt: skip
    return 0 if last is None else tx.execute(delete(table).where(key <= last)).rowcount


def purge_before(tx: Connection, before: datetime, limit: int) -> Counter[str]:
    """Remove up to `limit` archived instances that were deleted before then, with their other rows. Rows, by table."""
    query = select(shadow_instances.c.shadow_id, shadow_instances.c.uuid).where(shadow_instances.c.deleted_at < before)
    found = tx.execute(query.order_by(shadow_instances.c.deleted_at).limit(limit)).all()
    uuids = [row.uuid for row in found]
    gone: Counter[str] = Counter()
    if uuids:
        for table in (shadow_instance_actions_events, shadow_instance_actions, shadow_migrations):
            gone[table.name] += tx.execute(delete(table).where(table.c.instance_uuid.in_(uuids))).rowcount
        mine = shadow_instances.c.shadow_id.in_([row.shadow_id for row in found])
        gone[shadow_instances.name] += tx.execute(delete(shadow_instances).where(mine)).rowcount
    return +gone


def archived(tx: Connection, before: datetime | None = None) -> Counter[str]:
    """How many rows the shadow tables have; of instances that were deleted before then."""
    found: Counter[str] = Counter()
    for table in SHADOWS:
        query = select(func.count()).select_from(table)
        if before is not None:
            gone = select(shadow_instances.c.uuid).where(shadow_instances.c.deleted_at < before)
            query = query.where((table.c.uuid if table is shadow_instances else table.c.instance_uuid).in_(gone))
        found[table.name] += tx.scalar(query) or 0
    return +found


def _copy(tx: Connection, table: Table, shadow: Table, where: ColumnElement[bool], *more: ColumnElement[Any]) -> None:
    columns = [*table.columns, *more]
    names = [column.name for column in columns]
    tx.execute(insert(shadow).from_select(names, select(*columns).where(where)))


def _still_deleted(tx: Connection, uuids: Collection[str]) -> list[str]:
    """Lock the rows of those that are deleted here, and return them: another archiver waits, and finds them gone."""
    rows = select(instances.c.uuid).where(instances.c.uuid.in_(list(uuids)), instances.c.deleted_at.is_not(None))
    return list(tx.scalars(rows.order_by(instances.c.id).with_for_update()))


def _rows_of(tx: Connection, uuids: Sequence[str]) -> Counter[str]:
    """How many rows of other tables go with each of the instances."""
    found: Counter[str] = Counter()
    actions, events = instance_actions.c, instance_actions_events.c
    for query in (
        select(actions.instance_uuid, func.count())
        .where(actions.instance_uuid.in_(uuids))
        .group_by(actions.instance_uuid),
        select(actions.instance_uuid, func.count())
        .join(instance_actions_events, events.action_id == actions.id)
        .where(actions.instance_uuid.in_(uuids))
        .group_by(actions.instance_uuid),
        select(migrations.c.instance_uuid, func.count())
        .where(migrations.c.instance_uuid.in_(uuids))
        .group_by(migrations.c.instance_uuid),
        select(operations.c.instance_uuid, func.count())
        .where(operations.c.instance_uuid.in_(uuids))
        .group_by(operations.c.instance_uuid),
    ):
        if uuids:
            found.update({row[0]: row[1] for row in tx.execute(query)})
    return found
