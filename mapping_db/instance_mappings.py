"""Rows of `instance_mappings`: which cell owns each instance, and what listings show of it while its cell is down."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Integer,
    and_,
    bindparam,
    delete,
    exists,
    func,
    insert,
    or_,
    select,
    update,
)
from sqlalchemy import cast as sql_cast

from cell_service.db.sql.sorting import Sort, order_by, past
from cell_service.errors import InstanceAlreadyMoved, InstanceMappingNotFound
from mapping_db.locations import Location
from mapping_db.schema import cell_mappings, instance_mappings

_CHUNK = 500


@dataclass(frozen=True, slots=True)
class InstanceMapping:
    """One row. `id` is the creation sequence (0 before it is stored), `cell_id` None: in no cell yet.

    `epoch` grows with each change of `cell_id`. `queued_for_delete`: a delete was accepted. `gone`: it is deleted.
    """

    instance_uuid: str
    project_id: str
    user_id: str
    created_at: datetime
    display_name: str
    vcpus: int
    memory_mb: int
    cell_id: int | None = None
    epoch: int = 0
    queued_for_delete: bool = False
    gone: bool = False
    id: int = 0


@dataclass(frozen=True, slots=True)
class Counts:
    """How many instances a cell owns: living, and gone ones whose mapping is still there."""

    living: int
    gone: int


_COLUMNS = [instance_mappings.c[name] for name in InstanceMapping.__dataclass_fields__]
_BY_UUID = select(*_COLUMNS).where(instance_mappings.c.instance_uuid == bindparam("uuid"))
_BY_UUIDS = select(*_COLUMNS).where(instance_mappings.c.instance_uuid.in_(bindparam("uuids", expanding=True)))

_PLACES = select(*[instance_mappings.c[name] for name in Location.__dataclass_fields__]).where(
    instance_mappings.c.instance_uuid.in_(bindparam("uuids", expanding=True))
)


def insert_new(tx: Connection, mappings: Iterable[InstanceMapping]) -> None:
    """Store the mappings; the order given becomes the creation order."""
    rows = [
        {name: getattr(mapping, name) for name in InstanceMapping.__dataclass_fields__ if name != "id"}
        for mapping in mappings
    ]
    if rows:
        tx.execute(insert(instance_mappings), rows)


def get(tx: Connection, instance_uuid: str) -> InstanceMapping:
    """Raises InstanceMappingNotFound."""
    row = tx.execute(_BY_UUID, {"uuid": instance_uuid}).one_or_none()
    if row is None:
        raise InstanceMappingNotFound(instance_uuid=instance_uuid)
    return InstanceMapping(*row)


def get_many(tx: Connection, instance_uuids: Iterable[str]) -> dict[str, InstanceMapping]:
    """The mappings of those of the instances that have one, by instance uuid."""
    wanted = list(instance_uuids)
    found: dict[str, InstanceMapping] = {}
    for start in range(0, len(wanted), _CHUNK):
        for row in tx.execute(_BY_UUIDS, {"uuids": wanted[start : start + _CHUNK]}):
            found[row.instance_uuid] = InstanceMapping(*row)
    return found


def places(tx: Connection, instance_uuids: Iterable[str]) -> dict[str, Location]:
    """The locations of those of the instances that have a mapping, by instance uuid."""
    wanted = list(instance_uuids)
    found: dict[str, Location] = {}
    for start in range(0, len(wanted), _CHUNK):
        for row in tx.execute(_PLACES, {"uuids": wanted[start : start + _CHUNK]}):
            found[row.instance_uuid] = Location(*row)
    return found


def move(tx: Connection, instance_uuid: str, *, source: int | None, target: int) -> InstanceMapping:
    """Point the mapping at another cell, if it still points at `source` (None: not placed yet).

    This row decides which cell owns the instance: the first caller that moves it wins. Its epoch has grown.
    Raises InstanceAlreadyMoved when it points elsewhere by now, or does not exist.
    """
    moved = tx.execute(
        update(instance_mappings)
        .where(instance_mappings.c.instance_uuid == instance_uuid,
               instance_mappings.c.cell_id.is_not_distinct_from(source))
        .values(cell_id=target, epoch=instance_mappings.c.epoch + 1)
    ).rowcount  # fmt: skip
    if not moved:
        raise InstanceAlreadyMoved(instance_uuid=instance_uuid, expected=source)
    return get(tx, instance_uuid)


def resize(tx: Connection, instance_uuid: str, vcpus: int, memory_mb: int) -> None:
    """Store what the instance counts for in its project's quota from now on."""
    condition = instance_mappings.c.instance_uuid == instance_uuid
    tx.execute(update(instance_mappings).where(condition).values(vcpus=vcpus, memory_mb=memory_mb))


def lock_row(tx: Connection, instance_uuid: str) -> InstanceMapping:
    """The mapping, its row locked until the transaction ends. Raises InstanceMappingNotFound."""
    row = tx.execute(_BY_UUID.with_for_update(), {"uuid": instance_uuid}).one_or_none()
    if row is None:
        raise InstanceMappingNotFound(instance_uuid=instance_uuid)
    return InstanceMapping(*row)


def living_of(tx: Connection, project_id: str, *, lock: bool = False) -> list[InstanceMapping]:
    """Mappings of the project's servers without an accepted delete; with `lock` they are locked, and stay so."""
    table = instance_mappings
    living = (table.c.project_id == project_id, table.c.gone.is_(False), table.c.queued_for_delete.is_(False))
    query = select(*_COLUMNS).where(*living).order_by(table.c.id)
    return [InstanceMapping(*row) for row in tx.execute(query.with_for_update() if lock else query)]


def move_many(tx: Connection, instance_uuids: Iterable[str], *, source: int, target: int) -> None:
    """Point those of the mappings that point at `source` at another cell: for each of them as `move`."""
    tx.execute(
        update(instance_mappings)
        .where(instance_mappings.c.instance_uuid.in_(list(instance_uuids)), instance_mappings.c.cell_id == source)
        .values(cell_id=target, epoch=instance_mappings.c.epoch + 1)
    )


def place_many(tx: Connection, instance_uuids: Sequence[str], target: int) -> None:
    """Point the mappings, which point nowhere yet, at their first cell: for each of them as `move`, all or none.

    Raises InstanceAlreadyMoved when one points somewhere by now.
    """
    if not instance_uuids:
        return
    placed = tx.execute(
        update(instance_mappings)
        .where(instance_mappings.c.instance_uuid.in_(instance_uuids), instance_mappings.c.cell_id.is_(None))
        .values(cell_id=target, epoch=instance_mappings.c.epoch + 1)
    ).rowcount
    if placed < len(instance_uuids):
        raise InstanceAlreadyMoved(instance_uuid=", ".join(instance_uuids), expected=None)


def lock_unmoved(tx: Connection, epochs: Mapping[str, int]) -> list[str]:
    """Lock those of the instances that are in their cell since that epoch, and return them: they stay there until the
    transaction ends."""
    if not epochs:
        return []
    where = instance_mappings.c.instance_uuid.in_(sorted(epochs))
    columns = (instance_mappings.c.instance_uuid, instance_mappings.c.epoch)
    rows = tx.execute(select(*columns).where(where).with_for_update())
    return [uuid for uuid, epoch in rows if epochs[uuid] == epoch]


def queue_for_delete(tx: Connection, instance_uuid: str) -> bool:
    """Record that a delete was accepted. True for the first caller, which then releases the quota."""
    return _set_once(tx, instance_uuid, instance_mappings.c.queued_for_delete)


def mark_gone(tx: Connection, instance_uuids: Sequence[str]) -> None:
    """Record that the instances are deleted."""
    where = instance_mappings.c.instance_uuid.in_(instance_uuids) & instance_mappings.c.gone.is_(False)
    tx.execute(update(instance_mappings).where(where).values(gone=True))


def rename(tx: Connection, instance_uuid: str, display_name: str) -> None:
    """Store the instance's new name, which is here for listings while its cell is down."""
    condition = instance_mappings.c.instance_uuid == instance_uuid
    tx.execute(update(instance_mappings).where(condition).values(display_name=display_name))


def page(
    tx: Connection, *, project_id: str | None, limit: int, after: InstanceMapping | None = None, gone: bool = False,
    rising: bool = False, without_cells: Collection[int] = (),
) -> list[InstanceMapping]:  # fmt: skip
    """The next `limit` mappings of a project (None: of all) in the default order of listings: newest first, or with
    `rising` oldest first. `after` is the last one of the page before; those of `without_cells` are left out."""
    # SELECT … WHERE project_id = ? AND gone = ? AND created_at <= ? AND (created_at < ? OR id < ?)
    # ORDER BY created_at DESC, id DESC LIMIT ?        walks ix_instance_mappings_page backwards
    created_at, sequence = instance_mappings.c.created_at, instance_mappings.c.id
    conditions: list[ColumnElement[bool]] = [instance_mappings.c.gone.is_(gone)]
    if project_id is not None:
        conditions.append(instance_mappings.c.project_id == project_id)
    if without_cells:
        cell_id = instance_mappings.c.cell_id
        conditions.append(or_(cell_id.is_(None), cell_id.not_in(sorted(without_cells))))
    if after is not None and rising:
        conditions += [created_at >= after.created_at, or_(created_at > after.created_at, sequence > after.id)]
    elif after is not None:
        conditions += [created_at <= after.created_at, or_(created_at < after.created_at, sequence < after.id)]
    order = (created_at, sequence) if rising else (created_at.desc(), sequence.desc())
    rows = tx.execute(select(*_COLUMNS).where(*conditions).order_by(*order).limit(limit))
    return [InstanceMapping(*row) for row in rows]


def page_of_cell(
    tx: Connection, cell_id: int, *, project_ids: Collection[str] | None, user_ids: Collection[str] | None,
    uuids: Collection[str] | None, name_pattern: str | None, sort: Sort, after: tuple[Any, ...] | None, limit: int,
) -> list[InstanceMapping]:  # fmt: skip
    """The next `limit` living instances of a cell in a sort order that the mappings know (see `SORTABLE`).

    A condition that is None is left out; `after` are the values of the last one of the page before.
    """
    conditions = [
        instance_mappings.c.cell_id == cell_id,
        instance_mappings.c.gone.is_(False),
        instance_mappings.c.queued_for_delete.is_(False),
    ]
    for name, values in (("project_id", project_ids), ("user_id", user_ids), ("instance_uuid", uuids)):
        if values is not None:
            conditions.append(instance_mappings.c[name].in_(list(values)))
    if name_pattern is not None:
        conditions.append(instance_mappings.c.display_name.regexp_match(name_pattern))
    if after is not None:
        conditions.append(past(sort, after, _sortable))
    rows = tx.execute(select(*_COLUMNS).where(*conditions).order_by(*order_by(sort, _sortable)).limit(limit))
    return [InstanceMapping(*row) for row in rows]


SORTABLE = frozenset({"created_at", "display_name", "uuid", "project_id", "user_id"})
"""The keys by which lists of servers may be sorted without a query to their cells."""


def sort_values(mapping: InstanceMapping, sort: Sort) -> tuple[Any, ...]:
    """The mapping's values for these keys, all of them of `SORTABLE`."""
    return tuple(getattr(mapping, "instance_uuid" if name == "uuid" else name) for name, _ in sort)


def _sortable(name: str) -> ColumnElement[Any]:
    return instance_mappings.c["instance_uuid" if name == "uuid" else name]


def cells_of_project(tx: Connection, project_id: str) -> list[int]:
    """The cells that own, or owned, an instance of the project."""
    owned = exists().where(
        instance_mappings.c.project_id == project_id, instance_mappings.c.cell_id == cell_mappings.c.id
    )
    return list(tx.scalars(select(cell_mappings.c.id).where(owned).order_by(cell_mappings.c.id)))


def doomed(tx: Connection, *, limit: int, after_id: int = 0) -> list[InstanceMapping]:
    """Instances whose delete was accepted and that are not gone, by id: a super-conductor finishes their deletes."""
    rows = tx.execute(
        select(*_COLUMNS)
        .where(instance_mappings.c.queued_for_delete.is_(True), instance_mappings.c.gone.is_(False),
               instance_mappings.c.id > after_id)
        .order_by(instance_mappings.c.id)
        .limit(limit)
    )  # fmt: skip
    return [InstanceMapping(*row) for row in rows]


def of_cell(tx: Connection, cell_id: int, *, limit: int, after_id: int = 0) -> list[InstanceMapping]:
    """The mappings that point at a cell, by id, gone ones among them."""
    condition = and_(instance_mappings.c.cell_id == cell_id, instance_mappings.c.id > after_id)
    rows = tx.execute(select(*_COLUMNS).where(condition).order_by(instance_mappings.c.id).limit(limit))
    return [InstanceMapping(*row) for row in rows]


def of_no_cell(tx: Connection, *, limit: int, after_id: int = 0) -> list[InstanceMapping]:
    """The living mappings that point at no cell, by id."""
    mine = and_(instance_mappings.c.cell_id.is_(None), instance_mappings.c.gone.is_(False))
    rows = tx.execute(
        select(*_COLUMNS).where(mine, instance_mappings.c.id > after_id).order_by(instance_mappings.c.id).limit(limit)
    )
    return [InstanceMapping(*row) for row in rows]


def counts(tx: Connection) -> dict[int | None, Counts]:
    """How many instances each cell owns, by cell id (None: those in no cell yet). Cells without any are left out."""
    gone = func.sum(sql_cast(instance_mappings.c.gone, Integer))
    statement = select(instance_mappings.c.cell_id, func.count(), gone).group_by(instance_mappings.c.cell_id)
    return {cell_id: Counts(total - int(dead), int(dead)) for cell_id, total, dead in tx.execute(statement)}


def remove(tx: Connection, instance_uuids: Iterable[str]) -> int:
    """Delete the rows themselves. Answers how many there were."""
    condition = instance_mappings.c.instance_uuid.in_(list(instance_uuids))
    return tx.execute(delete(instance_mappings).where(condition)).rowcount


def _set_once(tx: Connection, instance_uuid: str, flag: ColumnElement[bool]) -> bool:
    statement = (
        update(instance_mappings)
        .where(instance_mappings.c.instance_uuid == instance_uuid, flag.is_(False))
        .values({flag: True})
    )
    return bool(tx.execute(statement).rowcount)
