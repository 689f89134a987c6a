"""Instances with all rows that belong to them, copied from one cell's database to another's.

The instance's mapping decides which of the two rows is the instance. Until then the copy is hidden, and may be written
again and again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Table, bindparam, case, delete, insert, select, update
from sqlalchemy.sql.elements import ColumnElement

from cell_service.db.operations import IN_TRANSIT, NEVER
from cell_service.db.schema import (
    global_updates,
    instance_actions,
    instance_actions_events,
    instances,
    migrations,
    operations,
    tags,
)
from cell_service.db.sealing import Sealer
from cell_service.model.instance import NAME_KEPT, row_name
from cell_service.model.operation import UNFINISHED, Phase
from cell_service.operations.table import names

PlainRow = Mapping[str, Any]

_UNFINISHED = tuple(phase.value for phase in UNFINISHED)
_LEFTOVERS = names(lambda each: each.removes_leftovers)
_ACTION = ("instance_uuid", "request_id", "action")
_OPERATION = ("instance_uuid", "kind", "request_id", "created_at")


@dataclass(frozen=True, slots=True)
class CopiedAction:
    """One row of `instance_actions` with its events."""

    row: PlainRow
    events: tuple[PlainRow, ...] = ()


@dataclass(frozen=True, slots=True)
class InstanceBundle:
    """An instance as rows, by column, without the ids that are valid in one database only; migrations keep theirs."""

    instance: PlainRow
    tags: tuple[str, ...] = ()
    actions: tuple[CopiedAction, ...] = ()
    migrations: tuple[PlainRow, ...] = ()
    operations: tuple[PlainRow, ...] = ()
    global_updates: tuple[PlainRow, ...] = ()

    @property
    def uuid(self) -> str:
        return str(self.instance["uuid"])

    @property
    def has_secrets(self) -> bool:
        """Whether its operations have secrets, which another database's key has to seal before it stores them."""
        return any(each["sealed"] is not None for each in self.operations)


def on_host(tx: Connection, host: str, limit: int) -> list[str]:
    """Instances of the host, deleted ones last."""
    query = select(instances.c.uuid).where(instances.c.host == host)
    ordered = query.order_by(instances.c.deleted_at.is_not(None), instances.c.id).limit(limit)
    return [row[0] for row in tx.execute(ordered)]


def living_on_host(tx: Connection, host: str) -> list[str]:
    """All instances of the host that are not deleted."""
    where = (instances.c.host == host) & instances.c.deleted_at.is_(None)
    return [row[0] for row in tx.execute(select(instances.c.uuid).where(where))]


def present(tx: Connection, uuids: Iterable[str]) -> list[str]:
    """Those of the instances that have a row here, whatever its state."""
    return [row[0] for row in tx.execute(select(instances.c.uuid).where(instances.c.uuid.in_(list(uuids))))]


def work_for_others(tx: Connection, host: str) -> list[str]:
    """Instances that do not live on the host, and for which the host still has something to do."""
    query = (
        select(operations.c.instance_uuid)
        .join(instances, instances.c.uuid == operations.c.instance_uuid)
        .where(operations.c.host == host, operations.c.phase.in_(_UNFINISHED))
        .where(instances.c.host.is_distinct_from(host))
    )
    return [row[0] for row in tx.execute(query)]


def read(tx: Connection, uuids: Iterable[str], *, operations: bool) -> list[InstanceBundle]:
    """Those of the instances that are here, deleted ones too; with `operations` also their unfinished operations."""
    wanted = list(uuids)
    if not wanted:
        return []
    found = [_named(dict(row._mapping)) for row in tx.execute(select(instances).where(instances.c.uuid.in_(wanted)))]
    labels = _grouped(tx, tags, tags.c.resource_id.in_(wanted), "resource_id")
    acted = _grouped(tx, instance_actions, instance_actions.c.instance_uuid.in_(wanted), "instance_uuid")
    action_ids = [row["id"] for rows in acted.values() for row in rows]
    events = _grouped(tx, instance_actions_events, instance_actions_events.c.action_id.in_(action_ids), "action_id")
    moved = _grouped(tx, migrations, migrations.c.instance_uuid.in_(wanted), "instance_uuid")
    work = _unfinished(tx, wanted) if operations else {}
    unknown = _grouped(tx, global_updates, global_updates.c.instance_uuid.in_(wanted), "instance_uuid")
    return [
        InstanceBundle(
            _without_id(row),
            tuple(each["tag"] for each in labels.get(row["uuid"], ())),
            tuple(
                CopiedAction(_without_id(each), tuple(_without_id(event) for event in events.get(each["id"], ())))
                for each in acted.get(row["uuid"], ())
            ),
            tuple(moved.get(row["uuid"], ())),
            tuple(_without_id(each) for each in work.get(row["uuid"], ())),
            tuple(_without_id(each) for each in unknown.get(row["uuid"], ())),
        )
        for row in found
    ]


def write(
    tx: Connection, bundles: Sequence[InstanceBundle], *, hidden: bool, changes: Mapping[str, Any] | None = None
) -> None:
    """Write the bundles' rows, with `changes` to those of the instances; rows that are here already are updated, and
    rows that this cell itself has recorded of them stay. `hidden`: of instances and migrations.

    An instance whose row is here and not hidden is this cell's own by now, and is not changed.
    """
    own = _visible(tx, [bundle.uuid for bundle in bundles])
    bundles = [bundle for bundle in bundles if bundle.uuid not in own]
    if not bundles:
        return
    uuids = [bundle.uuid for bundle in bundles]
    laid_over = {**(changes or {}), "hidden": hidden}
    _put(tx, instances, ("uuid",), [{**bundle.instance, **laid_over} for bundle in bundles],
         instances.c.uuid.in_(uuids))  # fmt: skip
    tx.execute(delete(tags).where(tags.c.resource_id.in_(uuids)))
    labels = [{"resource_id": bundle.uuid, "tag": tag} for bundle in bundles for tag in bundle.tags]
    if labels:
        tx.execute(insert(tags), labels)
    tx.execute(delete(global_updates).where(global_updates.c.instance_uuid.in_(uuids)))
    unknown = [dict(row) for bundle in bundles for row in bundle.global_updates]
    if unknown:
        tx.execute(insert(global_updates), unknown)
    _put_actions(tx, uuids, [action for bundle in bundles for action in bundle.actions])
    moved = [{**row, "hidden": hidden} for bundle in bundles for row in bundle.migrations]
    _put(tx, migrations, ("uuid",), moved, migrations.c.instance_uuid.in_(uuids))
    work = [row for bundle in bundles for row in bundle.operations]
    _put(tx, operations, _OPERATION, work, operations.c.instance_uuid.in_(uuids))


def reseal(bundles: Iterable[InstanceBundle], source: Sealer, target: Sealer) -> list[InstanceBundle]:
    """The bundles with their secrets sealed for the target's database."""

    def resealed(row: PlainRow) -> PlainRow:
        sealed = row["sealed"]
        return row if sealed is None else {**row, "sealed": target.seal(source.open(sealed))}

    return [replace(bundle, operations=tuple(resealed(row) for row in bundle.operations)) for bundle in bundles]


def freeze(tx: Connection, uuids: Iterable[str], *, now: datetime) -> list[str]:
    """Hide those of the instances that no worker has claimed, and return them: none of them changes any more.

    The changes of an earlier request are in what is read afterwards, a later request finds the row hidden: the row's
    lock decides. Unfinished operations get the owner IN_TRANSIT, so that no worker here claims them.
    """
    requested = list(uuids)
    if not requested:
        return []
    rows = select(instances.c.uuid).where(instances.c.uuid.in_(requested)).order_by(instances.c.id).with_for_update()
    wanted = [row[0] for row in tx.execute(rows)]
    unfinished = operations.c.instance_uuid.in_(wanted) & operations.c.phase.in_(_UNFINISHED)
    claimed = operations.c.owner.is_not(None) & (operations.c.owner != IN_TRANSIT) & (operations.c.lease_until >= now)
    busy = {row[0] for row in tx.execute(select(operations.c.instance_uuid).where(unfinished, claimed))}
    busy |= _unfinished_elsewhere(tx, wanted)
    free = [uuid for uuid in wanted if uuid not in busy]
    tx.execute(
        update(operations)
        .where(operations.c.instance_uuid.in_(free), operations.c.phase.in_(_UNFINISHED))
        .values(
            phase=case((operations.c.phase == Phase.MOVING.value, Phase.MOVING.value), else_=Phase.OPEN.value),
            fence=operations.c.fence + 1,
            owner=IN_TRANSIT,
            lease_until=NEVER,
        )
    )
    set_hidden(tx, free, True)
    return free


def _unfinished_elsewhere(tx: Connection, uuids: Collection[str]) -> set[str]:
    """Those of the instances of which another host of this cell has still to remove something, according to this cell's
    operations."""
    query = (
        select(operations.c.instance_uuid)
        .join(instances, instances.c.uuid == operations.c.instance_uuid)
        .where(operations.c.instance_uuid.in_(list(uuids)), operations.c.phase.in_(_UNFINISHED))
        .where(operations.c.kind.in_(_LEFTOVERS), operations.c.host.is_distinct_from(instances.c.host))
    )
    return {row[0] for row in tx.execute(query)}


def unfreeze(tx: Connection, uuids: Iterable[str]) -> None:
    """Give the instances back to this cell: they are visible, and their operations may be claimed."""
    wanted = list(uuids)
    set_hidden(tx, wanted, False)
    if wanted:
        tx.execute(
            update(operations)
            .where(operations.c.instance_uuid.in_(wanted), operations.c.owner == IN_TRANSIT)
            .values(owner=None, lease_until=None)
        )


def set_hidden(tx: Connection, uuids: Collection[str], hidden: bool) -> None:
    """Hide or show the rows of the instances and of their migrations."""
    if uuids:
        wanted = list(uuids)
        tx.execute(update(instances).where(instances.c.uuid.in_(wanted)).values(hidden=hidden))
        tx.execute(update(migrations).where(migrations.c.instance_uuid.in_(wanted)).values(hidden=hidden))


def remove(tx: Connection, uuids: Collection[str]) -> None:
    """Remove all rows of the instances."""
    wanted = list(uuids)
    if not wanted:
        return
    acted = select(instance_actions.c.id).where(instance_actions.c.instance_uuid.in_(wanted))
    ids = [row[0] for row in tx.execute(acted)]
    if ids:
        tx.execute(delete(instance_actions_events).where(instance_actions_events.c.action_id.in_(ids)))
    for table in (instance_actions, migrations, operations, global_updates):
        tx.execute(delete(table).where(table.c.instance_uuid.in_(wanted)))
    tx.execute(delete(tags).where(tags.c.resource_id.in_(wanted)))
    tx.execute(delete(instances).where(instances.c.uuid.in_(wanted)))


def _visible(tx: Connection, uuids: list[str]) -> set[str]:
    rows = select(instances.c.uuid, instances.c.hidden).where(instances.c.uuid.in_(uuids)).with_for_update()
    return {row.uuid for row in tx.execute(rows) if not row.hidden}


def _named(row: dict[str, Any]) -> dict[str, Any]:
    """The row with the instance's name, which is made from the row's id, in its system metadata."""
    kept = {NAME_KEPT: row_name(row["id"]), **row["system_metadata"]}
    return {**row, "system_metadata": kept}


def _put_actions(tx: Connection, uuids: list[str], copied: list[CopiedAction]) -> None:
    here = instance_actions.c.instance_uuid.in_(uuids)
    _put(tx, instance_actions, _ACTION, [action.row for action in copied], here)
    columns = [instance_actions.c[name] for name in ("id", *_ACTION)]
    ids = {tuple(row[1:]): row[0] for row in tx.execute(select(*columns).where(here))}
    rows = [{**event, "action_id": ids[_key(action.row, _ACTION)]} for action in copied for event in action.events]
    events = instance_actions_events
    _put(tx, events, ("action_id", "event", "host"), rows, events.c.action_id.in_(list(ids.values())))


def _put(
    tx: Connection, table: Table, unique: tuple[str, ...], rows: Sequence[PlainRow], among: ColumnElement[bool]
) -> None:
    """Write each row: one of those `among` which has the same `unique` columns is changed, else the row is inserted."""
    if not rows:
        return
    there = {
        tuple(row[1:]): row[0]
        for row in tx.execute(select(table.c.id, *(table.c[name] for name in unique)).where(among))
    }
    old = [row for row in rows if _key(row, unique) in there]
    new = [row for row in rows if _key(row, unique) not in there]
    if old:
        changed = [name for name in old[0] if name not in (*unique, "id")]
        statement = update(table).where(table.c.id == bindparam("row_id"))
        statement = statement.values({name: bindparam(f"new_{name}", type_=table.c[name].type) for name in changed})
        tx.execute(
            statement,
            [{"row_id": there[_key(row, unique)]} | {f"new_{name}": row[name] for name in changed} for row in old],
        )
    if new:
        tx.execute(insert(table), [dict(row) for row in new])


def _unfinished(tx: Connection, uuids: list[str]) -> dict[Any, list[dict[str, Any]]]:
    unfinished = operations.c.phase.in_(_UNFINISHED)
    return _grouped(tx, operations, operations.c.instance_uuid.in_(uuids) & unfinished, "instance_uuid")


def _grouped(tx: Connection, table: Table, where: ColumnElement[bool], by: str) -> dict[Any, list[dict[str, Any]]]:
    """The rows by that column, each group in order."""
    found: dict[Any, list[dict[str, Any]]] = defaultdict(list)
    for row in tx.execute(select(table).where(where).order_by(*table.primary_key.columns)):
        found[row._mapping[by]].append(dict(row._mapping))
    return found


def _key(row: PlainRow, names: tuple[str, ...]) -> tuple[Any, ...]:
    return tuple(row[name] for name in names)


def _without_id(row: PlainRow) -> PlainRow:
    return {name: value for name, value in row.items() if name not in ("id", "action_id")}
