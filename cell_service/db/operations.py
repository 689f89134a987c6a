"""Rows of `operations`: who may work on what. The row's fence decides every race on it.

Whoever takes an operation raises its fence; everything a worker writes about it names the fence it was given, and
is refused when that is no longer the newest. What a build was given (passwords, files) goes when it is finished.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, and_, bindparam, case, delete, func, or_, select, update
from sqlalchemy import insert as sql_insert
from sqlalchemy.sql.elements import ColumnElement

from cell_service.context import Context
from cell_service.db.schema import operations
from cell_service.db.services import COMPUTE, by_host
from cell_service.db.sql.prepared import Prepared
from cell_service.errors import OperationLost, ServiceNotFound
from cell_service.model.operation import ADMIN_PASSWORD, UNFINISHED, BuildArguments, Kind, Operation, Phase

_FIELDS = tuple(Operation.__dataclass_fields__)
_COLUMNS = [operations.c[name] for name in _FIELDS]
_KIND, _PHASE = _FIELDS.index("kind"), _FIELDS.index("phase")
_UNFINISHED = tuple(phase.value for phase in UNFINISHED)
_ENDLESS = (Kind.DELETE.value, Kind.MOVE_DROP.value)
_FREE = {"owner": None, "lease_until": None}

_FINISHING = Prepared(
    update(operations)
    .where(
        operations.c.id == bindparam("key"),
        operations.c.fence == bindparam("held"),
        or_(*(operations.c.phase == phase for phase in _UNFINISHED)),
    )
    .values(phase=bindparam("ended"), finished_at=bindparam("now"), build=None, **_FREE)
)

IN_TRANSIT = "(in transit)"
"""The owner of operations whose instance is passing to another cell: nobody here takes them, or gives them up."""
NEVER = datetime(9000, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Promise:
    """An operation that is to be recorded. `host` None: for the conductors."""

    ctx: Context
    instance_uuid: str
    kind: Kind
    host: str | None
    now: datetime
    deadline: datetime
    build: BuildArguments | None = None
    arguments: dict[str, Any] = field(default_factory=dict)


def insert_all(tx: Connection, promises: Iterable[Promise]) -> None:
    """For each of them as `insert`."""
    rows = [_row(promise) for promise in promises]
    if rows:
        tx.execute(sql_insert(operations), rows)


def _row(promise: Promise) -> dict[str, Any]:
    ctx = promise.ctx
    return {
        "instance_uuid": promise.instance_uuid,
        "kind": promise.kind.value,
        "phase": Phase.OPEN.value,
        "host": promise.host,
        "request_id": ctx.request_id,
        "user_id": ctx.user_id,
        "project_id": ctx.project_id,
        "created_at": promise.now,
        "deadline": promise.deadline,
        "build": promise.build,
        "arguments": promise.arguments,
    }


def insert(
    tx: Connection,
    ctx: Context,
    *,
    instance_uuid: str,
    kind: Kind,
    host: str | None,
    now: datetime,
    deadline: datetime,
    build: BuildArguments | None = None,
    arguments: dict[str, Any] | None = None,
) -> int:
    """Promise the work: an open operation for `host` (None: for the conductor). Answers its id."""
    promise = Promise(ctx, instance_uuid, kind, host, now, deadline, build, arguments or {})
    made = tx.execute(sql_insert(operations).values(_row(promise)))
    key = made.inserted_primary_key
    assert key is not None
    return int(key[0])


def owe(
    tx: Connection,
    ctx: Context,
    *,
    instance_uuid: str,
    host: str | None,
    now: datetime,
    parts: dict[str, Any] | None = None,
) -> None:
    """The host, which was not asked, has to remove what it may have of the instance, whenever it can; with `parts`
    (the arguments of a MOVE_DROP) only those.

    For a host without a compute service nothing is recorded: nobody would ever do it.
    """
    if host is None:
        return
    try:
        by_host(tx, host, COMPUTE)
    except ServiceNotFound:
        return
    insert(
        tx, ctx, instance_uuid=instance_uuid, kind=Kind.MOVE_DROP, host=host, now=now, deadline=NEVER, arguments=parts
    )


def forgive(tx: Connection, host: str, now: datetime) -> int:
    """The host is no more: nothing is to be done there. Late workers are refused. Answers how many ended."""
    return tx.execute(
        update(operations)
        .where(operations.c.host == host, workable())
        .values(phase=Phase.SUPERSEDED.value, finished_at=now, fence=operations.c.fence + 1, build=None, **_FREE)
    ).rowcount


def supersede(tx: Connection, instance_uuid: str, now: datetime) -> int:
    """End all that is unfinished for the instance, in favour of something stronger. Late workers are refused.

    What is to be removed from hosts that the instance has left is still removed.
    """
    return tx.execute(
        update(operations)
        .where(
            operations.c.instance_uuid == instance_uuid,
            operations.c.phase.in_(_UNFINISHED),
            operations.c.kind != Kind.MOVE_DROP.value,
        )
        .values(phase=Phase.SUPERSEDED.value, finished_at=now, fence=operations.c.fence + 1, build=None, **_FREE)
    ).rowcount


def is_owed(tx: Connection, instance_uuid: str) -> bool:
    """Whether a host of this cell has still to remove something of the instance."""
    where = (operations.c.instance_uuid == instance_uuid) & (operations.c.kind == Kind.MOVE_DROP.value)
    return tx.execute(select(operations.c.id).where(where, operations.c.phase.in_(_UNFINISHED))).first() is not None


def get(tx: Connection, operation_id: int) -> Operation | None:
    """The operation, finished or not; None when there is none (or no more)."""
    row = tx.execute(select(*_COLUMNS).where(operations.c.id == operation_id)).one_or_none()
    return None if row is None else operation_of(row)


def get_many(tx: Connection, operation_ids: Collection[int]) -> dict[int, Operation]:
    """Those of the operations that are there, by id."""
    rows = tx.execute(select(*_COLUMNS).where(operations.c.id.in_(list(operation_ids)))) if operation_ids else ()
    return {row.id: operation_of(row) for row in rows}


def of_instance(tx: Connection, instance_uuid: str) -> list[Operation]:
    """All of the instance's operations that are still remembered, oldest first."""
    rows = tx.execute(select(*_COLUMNS).where(operations.c.instance_uuid == instance_uuid).order_by(operations.c.id))
    return [operation_of(row) for row in rows]


def unfinished(tx: Connection, instance_uuid: str) -> list[Operation]:
    """What is still to be done for the instance, oldest first."""
    rows = tx.execute(
        select(*_COLUMNS)
        .where(operations.c.instance_uuid == instance_uuid, operations.c.phase.in_(_UNFINISHED))
        .order_by(operations.c.id)
    )
    return [operation_of(row) for row in rows]


def open_for(tx: Connection, host: str, now: datetime) -> int:
    """How many operations the host could take now."""
    return tx.execute(select(func.count()).where(operations.c.host == host, workable(), unheld(now))).scalar_one()


def renew(tx: Connection, operation_id: int, fence: int, *, now: datetime, lease_seconds: float) -> bool:
    """Keep the lease. False: the operation is somebody else's by now, or finished."""
    return (
        tx.execute(
            update(operations)
            .where(_held(operation_id, fence))
            .values(lease_until=now + timedelta(seconds=lease_seconds))
        ).rowcount
        == 1
    )


def postpone(tx: Connection, operation_id: int, fence: int, until: datetime) -> bool:
    """Give a taken operation back undone; nobody takes it before `until`. False: it was not the caller's any more."""
    return (
        tx.execute(
            update(operations)
            .where(_held(operation_id, fence))
            .values(
                phase=case((operations.c.phase == Phase.MOVING.value, Phase.MOVING.value), else_=Phase.OPEN.value),
                fence=operations.c.fence + 1,
                owner=None,
                lease_until=until,
            )
        ).rowcount
        == 1
    )


def finish(tx: Connection, operation_id: int, fence: int, phase: Phase, now: datetime) -> None:
    """End the operation as DONE or FAILED. Raises OperationLost unless `fence` is its newest and it is unfinished."""
    given = {"key": operation_id, "held": fence, "ended": phase.value, "now": now}
    if not _FINISHING.change(tx, given):
        raise OperationLost(operation_id=operation_id, fence=fence)


def to_moving(
    tx: Connection, operation_id: int, fence: int, build: BuildArguments, arguments: dict[str, Any]
) -> Operation:
    """A build leaves its host; a conductor will take it on. Raises OperationLost."""
    moved = tx.execute(
        update(operations)
        .where(_held(operation_id, fence))
        .values(phase=Phase.MOVING.value, fence=operations.c.fence + 1, build=build, arguments=arguments, **_FREE)
    ).rowcount
    if not moved:
        raise OperationLost(operation_id=operation_id, fence=fence)
    return _present(tx, operation_id, fence)


def reopen_on(tx: Connection, operation_id: int, fence: int, host: str, build: BuildArguments) -> Operation:
    """A moving build is open for its next host. Raises OperationLost."""
    moved = tx.execute(
        update(operations)
        .where(_held(operation_id, fence), operations.c.phase == Phase.MOVING.value)
        .values(phase=Phase.OPEN.value, host=host, fence=operations.c.fence + 1, build=build, **_FREE)
    ).rowcount
    if not moved:
        raise OperationLost(operation_id=operation_id, fence=fence)
    return _present(tx, operation_id, fence)


def hand_over(tx: Connection, operation_id: int, fence: int) -> bool:
    """The conductors do it instead of its host, which is down. False when it changed meanwhile."""
    return (
        tx.execute(
            update(operations)
            .where(_held(operation_id, fence))
            .values(host=None, phase=Phase.OPEN.value, fence=operations.c.fence + 1, **_FREE)
        ).rowcount
        == 1
    )


def note(tx: Connection, operation_id: int, fence: int, arguments: dict[str, Any]) -> None:
    """Replace the arguments of a held operation. Raises OperationLost."""
    if not tx.execute(update(operations).where(_held(operation_id, fence)).values(arguments=arguments)).rowcount:
        raise OperationLost(operation_id=operation_id, fence=fence)


def forget_password(tx: Connection, operation: Operation) -> None:
    """A held operation that ends needs it no more. Raises OperationLost."""
    if ADMIN_PASSWORD in operation.arguments:
        note(tx, operation.id, operation.fence, without_password(operation.arguments))


def without_password(arguments: dict[str, Any]) -> dict[str, Any]:
    """What may be kept of an operation's arguments."""
    return {name: value for name, value in arguments.items() if name != ADMIN_PASSWORD}


def abandoned(tx: Connection, now: datetime, limit: int = 200) -> list[Operation]:
    """Operations of hosts that nobody holds: never taken, or the lease has run out. Oldest first."""
    rows = tx.execute(
        select(*_COLUMNS)
        .where(operations.c.host.is_not(None), workable(), unheld(now))
        .order_by(operations.c.id)
        .limit(limit)
    )
    return [operation_of(row) for row in rows]


def overdue(tx: Connection, now: datetime, limit: int = 200) -> list[Operation]:
    """Unfinished operations past their deadline, held or not; but removals, which never give up, and moving builds,
    which a conductor has in hand."""
    rows = tx.execute(
        select(*_COLUMNS)
        .where(
            workable(),
            operations.c.kind.not_in(_ENDLESS),
            operations.c.deadline < now,
            operations.c.owner.is_distinct_from(IN_TRANSIT),
        )
        .order_by(operations.c.id)
        .limit(limit)
    )
    return [operation_of(row) for row in rows]


def purge(tx: Connection, before: datetime, limit: int = 1000) -> int:
    """Remove up to `limit` operations that were finished before then. Answers how many."""
    ids = [
        row[0]
        for row in tx.execute(
            select(operations.c.id)
            .where(operations.c.phase.not_in(_UNFINISHED), operations.c.finished_at < before)
            .limit(limit)
        )
    ]
    if not ids:
        return 0
    return tx.execute(delete(operations).where(operations.c.id.in_(ids))).rowcount


def workable() -> ColumnElement[bool]:
    """Neither ended nor on its way to another host."""
    return operations.c.phase.in_((Phase.OPEN.value, Phase.RUNNING.value))


def unheld(now: datetime) -> ColumnElement[bool]:
    """Nobody has it, or its lease has run out."""
    return or_(operations.c.lease_until.is_(None), operations.c.lease_until < now)


def _held(operation_id: int, fence: int) -> ColumnElement[bool]:
    return and_(
        operations.c.id == operation_id,
        operations.c.fence == fence,
        operations.c.phase.in_(_UNFINISHED),
    )


def _present(tx: Connection, operation_id: int, fence: int) -> Operation:
    found = get(tx, operation_id)
    if found is None:
        raise OperationLost(operation_id=operation_id, fence=fence)
    return found


def columns() -> list[Any]:
    """What to select for `operation_of`."""
    return list(_COLUMNS)


def operation_of(row: Sequence[Any]) -> Operation:
    """The operation of a row that has the columns of `columns()`, in their order."""
    values = list(row)
    values[_KIND], values[_PHASE] = Kind(values[_KIND]), Phase(values[_PHASE])
    return Operation(*values)
