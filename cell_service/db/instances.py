"""Rows of `instances`: one read by key returns all that a server's document needs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from functools import cache
from typing import Any

from sqlalchemy import Connection, bindparam, delete, func, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from cell_service.db.schema import instances, tags
from cell_service.db.sql.prepared import Prepared, keys, one_of, padded_size
from cell_service.errors import InstanceNotFound
from cell_service.model.instance import Flavor, Instance
from cell_service.model.lifecycle import PowerState, State, Task, VmState

_FIELDS = tuple(Instance.__dataclass_fields__)
_COLUMNS = [instances.c[name] for name in _FIELDS]
_UUID, _DELETED_AT = _FIELDS.index("uuid"), _FIELDS.index("deleted_at")
_VM_STATE, _TASK_STATE, _POWER_STATE = (_FIELDS.index(name) for name in ("vm_state", "task_state", "power_state"))
_BLOCK_DEVICES, _SHARES = _FIELDS.index("block_devices"), _FIELDS.index("shares")
_VM_STATES: dict[Any, VmState] = {state.value: state for state in VmState}
_TASKS: dict[Any, Task] = {task.value: task for task in Task}
_POWER_STATES: dict[Any, PowerState] = {state.value: state for state in PowerState}

MOST_UUIDS = 1024
"""How many instances one statement reads at most."""
_BY_UUID = Prepared(select(*_COLUMNS).where(instances.c.uuid == bindparam("uuid")))
_ON_HOST = Prepared(select(*_COLUMNS).where(instances.c.host == bindparam("host"), instances.c.deleted_at.is_(None)))
_HOLDING = Prepared(select(*_COLUMNS).where(instances.c.uuid == bindparam("uuid")).with_for_update())


@cache
def _by_uuids(count: int) -> Prepared:
    return Prepared(select(*_COLUMNS).where(one_of(instances.c.uuid, "uuid", count)))


@cache
def _names_by_uuids(count: int) -> Prepared:
    return Prepared(
        select(instances.c.uuid, instances.c.display_name).where(
            one_of(instances.c.uuid, "uuid", count),
            instances.c.deleted_at.is_(None),
            instances.c.vm_state != VmState.SOFT_DELETED.value,
        )
    )


@cache
def _changing(columns: tuple[str, ...], *, expects: bool, settled: bool) -> Prepared:
    statement = update(instances).where(instances.c.uuid == bindparam("of_uuid"), instances.c.deleted_at.is_(None))
    if settled:
        statement = statement.where(instances.c.hidden.is_(False))
    if expects:
        statement = statement.where(
            instances.c.vm_state == bindparam("of_vm"),
            instances.c.task_state.is_not_distinct_from(bindparam("of_task")),
        )
    return Prepared(statement.values({name: bindparam(f"new_{name}") for name in columns}))


def insert_new(tx: Connection, instance: Instance) -> bool:
    """Store a new instance with its tags. False when the uuid is there already; nothing is changed then."""
    columns = _columns_of(instance)
    try:
        with tx.begin_nested():
            tx.execute(insert(instances).values(columns))
    except IntegrityError:
        if _exists(tx, instance.uuid):
            return False
        raise
    _insert_tags(tx, instance.uuid, instance.tags)
    return True


def insert_all_new(tx: Connection, made: Sequence[Instance]) -> bool:
    """Store new instances with their tags. False when one is there already; nothing is changed then."""
    try:
        with tx.begin_nested():
            tx.execute(insert(instances), [_columns_of(instance) for instance in made])
    except IntegrityError:
        if get_many(tx, [instance.uuid for instance in made], deleted=True):
            return False
        raise
    for instance in made:
        _insert_tags(tx, instance.uuid, instance.tags)
    return True


def get(tx: Connection, uuid: str, *, deleted: bool = False) -> Instance:
    """The instance. Raises InstanceNotFound; also for a deleted one, unless `deleted`."""
    found = _BY_UUID.rows(tx, {"uuid": uuid})
    if not found or (found[0][_DELETED_AT] is not None and not deleted):
        raise InstanceNotFound(instance_id=uuid)
    return instance_of(found[0])


def get_many(tx: Connection, uuids: Iterable[str], *, deleted: bool = False) -> dict[str, Instance]:
    """Those of the instances that are here, by uuid."""
    wanted = list(uuids)
    found: dict[str, Instance] = {}
    for start in range(0, len(wanted), MOST_UUIDS):
        some = wanted[start : start + MOST_UUIDS]
        one = len(some) == 1
        rows = (
            _BY_UUID.rows(tx, {"uuid": some[0]})
            if one
            else _by_uuids(padded_size(len(some))).rows(tx, keys("uuid", some))
        )
        found.update({row[_UUID]: instance_of(row) for row in rows if deleted or row[_DELETED_AT] is None})
    return found


def get_names(tx: Connection, uuids: Iterable[str]) -> dict[str, str]:
    """The names of those of the instances that are here and not deleted, not even for now; by uuid."""
    wanted = list(uuids)
    found: dict[str, str] = {}
    for start in range(0, len(wanted), MOST_UUIDS):
        some = wanted[start : start + MOST_UUIDS]
        found.update((row[0], row[1]) for row in _names_by_uuids(padded_size(len(some))).rows(tx, keys("uuid", some)))
    return found


def on_host(tx: Connection, host: str) -> list[Instance]:
    """The instances that the cell believes to be on the host, without deleted ones."""
    return [instance_of(row) for row in _ON_HOST.rows(tx, {"host": host})]


def change(
    tx: Connection, uuid: str, *, now: datetime, expect: State | None = None, settled: bool = False, **columns: Any
) -> bool:
    """Change columns of a living instance, if its vm and task state are still `expect` (None: whatever they are), and
    with `settled` only while it is not in transit between two cells.

    This row decides every race on the instance's state. False: the state was another, nothing has changed.
    """
    values = {"updated_at": now, **_plain(columns)}
    given: dict[str, Any] = {"of_uuid": uuid, **{f"new_{name}": value for name, value in values.items()}}
    if expect is not None:
        given |= {"of_vm": expect.vm.value, "of_task": expect.task.value if expect.task else None}
    return _changing(tuple(sorted(values)), expects=expect is not None, settled=settled).change(tx, given) == 1


def flavor_columns(flavor: Flavor) -> dict[str, Any]:
    """The columns of an instance that has this flavor."""
    return {
        "flavor": flavor,
        "flavorid": flavor.flavorid,
        "vcpus": flavor.vcpus,
        "memory_mb": flavor.memory_mib,
        "root_gb": flavor.root_gib,
        "ephemeral_gb": flavor.ephemeral_gib,
    }


def lock_row(tx: Connection, uuid: str) -> None:
    """Lock the row (SELECT FOR UPDATE): no other transaction changes it before this one ends."""
    tx.execute(select(instances.c.id).where(instances.c.uuid == uuid).with_for_update())


def get_locked(tx: Connection, uuid: str) -> Instance:
    """The instance, its row locked until the transaction ends. Raises InstanceNotFound."""
    found = _HOLDING.rows(tx, {"uuid": uuid})
    if not found or found[0][_DELETED_AT] is not None:
        raise InstanceNotFound(instance_id=uuid)
    return instance_of(found[0])


def mark_deleted(tx: Connection, uuid: str, now: datetime) -> bool:
    """Mark the instance deleted; its row stays for requests of deleted ones. False when it was deleted already."""
    values = {
        "deleted_at": now,
        "updated_at": now,
        "terminated_at": now,
        "vm_state": VmState.DELETED.value,
        "task_state": None,
        "power_state": PowerState.NOSTATE.value,
    }
    gone = tx.execute(
        update(instances).where(instances.c.uuid == uuid, instances.c.deleted_at.is_(None)).values(values)
    ).rowcount
    if gone:
        tx.execute(delete(tags).where(tags.c.resource_id == uuid))
    return gone == 1


def set_tags(tx: Connection, uuid: str, wanted: tuple[str, ...], now: datetime) -> bool:
    """Replace the instance's tags. False when there is no such living instance."""
    if not change(tx, uuid, now=now, tags=wanted):
        return False
    tx.execute(delete(tags).where(tags.c.resource_id == uuid))
    _insert_tags(tx, uuid, wanted)
    return True


def shelved_on_hosts(tx: Connection) -> list[Instance]:
    """Shelved instances that are still on their hosts, with nothing in flight."""
    rows = tx.execute(
        select(*_COLUMNS).where(
            instances.c.vm_state == VmState.SHELVED.value,
            instances.c.task_state.is_(None),
            instances.c.deleted_at.is_(None),
            instances.c.hidden.is_(False),
            instances.c.host.is_not(None),
        )
    )
    return [instance_of(row) for row in rows]


def soft_deleted(tx: Connection) -> list[Instance]:
    """Soft-deleted instances with nothing in flight but, perhaps, their delete."""
    rows = tx.execute(
        select(*_COLUMNS).where(
            instances.c.vm_state == VmState.SOFT_DELETED.value,
            or_(instances.c.task_state.is_(None), instances.c.task_state == Task.DELETING.value),
            instances.c.deleted_at.is_(None),
            instances.c.hidden.is_(False),
        )
    )
    return [instance_of(row) for row in rows]


def count_by_host(tx: Connection) -> dict[str, int]:
    """How many living instances each host has."""
    rows = tx.execute(
        select(instances.c.host, func.count())
        .where(instances.c.deleted_at.is_(None), instances.c.host.is_not(None))
        .group_by(instances.c.host)
    )
    return {row[0]: row[1] for row in rows}


def instance_of(row: Sequence[Any]) -> Instance:
    """The instance of a row that has the columns of `columns()`, in their order."""
    values = list(row)
    values[_BLOCK_DEVICES] = values[_BLOCK_DEVICES] or ()
    values[_SHARES] = values[_SHARES] or ()
    values[_VM_STATE] = _VM_STATES[values[_VM_STATE]]
    values[_TASK_STATE] = _TASKS[values[_TASK_STATE]] if values[_TASK_STATE] else None
    values[_POWER_STATE] = _POWER_STATES[values[_POWER_STATE]]
    return Instance(*values)


def columns() -> list[Any]:
    """The columns that `instance_of` reads."""
    return list(_COLUMNS)


def _exists(tx: Connection, uuid: str) -> bool:
    return tx.execute(select(instances.c.id).where(instances.c.uuid == uuid)).first() is not None


def _insert_tags(tx: Connection, uuid: str, wanted: tuple[str, ...]) -> None:
    if wanted:
        tx.execute(insert(tags), [{"resource_id": uuid, "tag": tag} for tag in wanted])


def _columns_of(instance: Instance) -> dict[str, Any]:
    values = {name: getattr(instance, name) for name in _FIELDS if name != "id"}
    return _plain(values) | flavor_columns(instance.flavor)


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: value.value if isinstance(value, (VmState, Task, PowerState)) else value for name, value in values.items()
    }
