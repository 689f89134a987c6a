"""The stages of running operations, as the task states of their instances show them. They only go forward."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from functools import cache
from typing import Any

from sqlalchemy import Connection, ScalarSelect, Update, bindparam, or_, select, update
from sqlalchemy.sql.elements import ColumnElement

from cell_service.db.schema import instances, operations
from cell_service.db.sql.prepared import Prepared, keys, one_of, padded_size
from cell_service.model.lifecycle import Task
from cell_service.model.operation import ClaimedOperation, Phase
from cell_service.operations.declaration import Operation
from cell_service.operations.table import ALL, OPERATIONS, declared


def reach(tx: Connection, operation_id: int, fence: int, task: Task, now: datetime) -> bool:
    """Record that the operation has reached this stage. False, and nothing has changed: it is not claimed with that
    fence any more, or its instance is beyond that stage. The instance's row decides."""
    given = {"key": operation_id, "claimed": fence, "now": now}
    return any(reaching.change(tx, given) for reaching in _reaching(task))


def begin(tx: Connection, claimed: Iterable[ClaimedOperation], now: datetime) -> None:
    """Record that the first stage of each of these, which hosts have claimed, has begun, if it has one."""
    starting: dict[str, list[str]] = {}
    for each in claimed:
        if declared(each.operation).first_stage is not None:
            starting.setdefault(each.operation.kind, []).append(each.instance.uuid)
    for kind, uuids in starting.items():
        _beginning(kind, padded_size(len(uuids))).change(tx, {"now": now, **keys("uuid", uuids)})


@cache
def _reaching(task: Task) -> tuple[Prepared, ...]:
    """The statements that reach the stage, one for each declaration that has it."""
    return tuple(
        Prepared(_forward(each, task).where(instances.c.uuid == _worked_at(each)))
        for each in ALL
        if task in each.stages[1:]
    )


@cache
def _beginning(kind: str, count: int) -> Prepared:
    operation = OPERATIONS[kind]
    assert operation.first_stage is not None
    return Prepared(_forward(operation, operation.first_stage).where(one_of(instances.c.uuid, "uuid", count)))


def _forward(operation: Operation[Any, Any], task: Task) -> Update:
    """The statement that sets the task, only from those before it: a report that later ones have passed is ignored."""
    earlier, allowed = operation.stages[: operation.stages.index(task)], operation.rule.start
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


def _worked_at(operation: Operation[Any, Any]) -> ScalarSelect[str]:
    """A subquery: the instance of the operation, if it is claimed with that fence."""
    return (
        select(operations.c.instance_uuid)
        .where(
            operations.c.id == bindparam("key"),
            operations.c.fence == bindparam("claimed"),
            operations.c.phase == Phase.RUNNING.value,
            operations.c.kind == operation.name,
        )
        .scalar_subquery()
    )
