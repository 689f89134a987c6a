"""How far running work has come, as the task state of its instance tells it. It only goes forward."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from functools import cache

from sqlalchemy import Connection, ScalarSelect, Update, bindparam, or_, select, update
from sqlalchemy.sql.elements import ColumnElement

from cell_service.db.schema import instances, operations
from cell_service.db.sql.prepared import Prepared, keys, one_of, room
from cell_service.model import lifecycle
from cell_service.model.lifecycle import Task
from cell_service.model.operation import Kind, Phase

_STAGES: dict[Kind, tuple[Task | None, ...]] = {
    Kind.BUILD: (None, Task.SCHEDULING, Task.NETWORKING, Task.SPAWNING),
    Kind.REBUILD: (Task.REBUILDING, Task.REBUILD_SPAWNING),
    Kind.SHELVE: (Task.SHELVING, Task.SHELVING_IMAGE_UPLOADING),
    Kind.CREATE_IMAGE: (Task.IMAGE_SNAPSHOT_PENDING, Task.IMAGE_SNAPSHOT, Task.IMAGE_UPLOADING),
    Kind.CREATE_BACKUP: (Task.IMAGE_BACKUP, Task.IMAGE_SNAPSHOT, Task.IMAGE_UPLOADING),
}
"""Which tasks follow one another while such work runs, in this order: news that was overtaken on its way is old."""


def reach(tx: Connection, operation_id: int, fence: int, task: Task, now: datetime) -> bool:
    """The operation has come to this stage. False, and nothing has changed: it is not held with that fence any more, or
    its instance is beyond that stage. The instance's row decides."""
    given = {"key": operation_id, "held": fence, "now": now}
    return any(reaching.change(tx, given) for reaching in _reaching(task))


def begin_builds(tx: Connection, instance_uuids: Sequence[str], now: datetime) -> None:
    """A host has taken the builds of these instances: their first stage there has begun."""
    if instance_uuids:
        _beginning(room(len(instance_uuids))).change(tx, {"now": now, **keys("uuid", instance_uuids)})


@cache
def _reaching(task: Task) -> tuple[Prepared, ...]:
    """For each kind of work that has the stage."""
    return tuple(
        Prepared(_forward(kind, task).where(instances.c.uuid == _worked_at(kind)))
        for kind, stages in _STAGES.items()
        if task in stages[1:]
    )


@cache
def _beginning(count: int) -> Prepared:
    return Prepared(_forward(Kind.BUILD, Task.NETWORKING).where(one_of(instances.c.uuid, "uuid", count)))


def _forward(kind: Kind, task: Task) -> Update:
    stages = _STAGES[kind]
    earlier, allowed = stages[: stages.index(task)], lifecycle.RULES[kind.value].allowed
    return (
        update(instances)
        .where(
            instances.c.deleted_at.is_(None),
            or_(*_each(instances.c.vm_state, sorted(allowed))),
            or_(*_each(instances.c.task_state, earlier)),
        )
        .values(task_state=task.value, updated_at=bindparam("now"))
    )


def _each(column: ColumnElement[str], values: Sequence[str | None]) -> Iterator[ColumnElement[bool]]:
    for value in values:
        yield column.is_(None) if value is None else column == str(value)


def _worked_at(kind: Kind) -> ScalarSelect[str]:
    """The instance of the operation that is held so."""
    return (
        select(operations.c.instance_uuid)
        .where(
            operations.c.id == bindparam("key"),
            operations.c.fence == bindparam("held"),
            operations.c.phase == Phase.RUNNING.value,
            operations.c.kind == kind.value,
        )
        .scalar_subquery()
    )
