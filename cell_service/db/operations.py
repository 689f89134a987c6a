"""Rows of `operations`, and which worker has claimed each. The row's fence decides every race on it.

A worker that claims an operation raises its fence; everything it writes about the operation names that fence, and is
refused when it is no longer the newest. Secrets are sealed. The statement that ends an operation removes them, and the
files of a build.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import BindParameter, Connection, and_, bindparam, case, delete, func, not_, or_, select, update
from sqlalchemy import insert as sql_insert
from sqlalchemy.sql.elements import ColumnElement

from cell_service.context import Context
from cell_service.db.schema import operations
from cell_service.db.services import COMPUTE, keep
from cell_service.db.sql.prepared import Prepared, among
from cell_service.errors import OperationLost, ServiceNotFound
from cell_service.model.operation import (
    BUILD_PASSWORD,
    UNFINISHED,
    BuildArguments,
    NewOperation,
    Phase,
    StoredOperation,
)
from cell_service.operations import secret
from cell_service.operations.declaration import Lateness, Operation
from cell_service.operations.host_tasks import CLEAN_UP, CleanUpArguments
from cell_service.operations.table import declared, names

if TYPE_CHECKING:
    from cell_service.db.sealing import Sealer

_FIELDS = tuple(StoredOperation.__dataclass_fields__)
_COLUMNS = [operations.c[name] for name in _FIELDS]
_PHASE = _FIELDS.index("phase")
_UNFINISHED = tuple(phase.value for phase in UNFINISHED)
_ENDLESS = names(lambda each: each.when_late is Lateness.NEVER)
_LEFTOVERS = names(lambda each: each.removes_leftovers)
_SECRETIVE = names(lambda each: bool(secret.names_of(each.arguments)))
"""The kinds in whose arguments earlier versions stored secrets."""
_FREE = {"owner": None, "lease_until": None}
_DROPPED = {"build": None, "sealed": None}
"""The columns that are cleared when an operation ends."""

_FINISHING = Prepared(
    update(operations)
    .where(
        operations.c.id == bindparam("key"),
        operations.c.fence == bindparam("claimed"),
        or_(*(operations.c.phase == phase for phase in _UNFINISHED)),
    )
    .values(phase=bindparam("ended"), finished_at=bindparam("now"), **_DROPPED, **_FREE)
)

IN_TRANSIT = "(in transit)"
"""The owner of operations whose instance is passing to another cell: no worker here claims them, or gives them up."""
NEVER = datetime(9000, 1, 1, tzinfo=UTC)
A = TypeVar("A")


def new_operation(
    operation: Operation[A, Any],
    ctx: Context,
    instance_uuid: str,
    host: str | None,
    now: datetime,
    arguments: A | None = None,
    *,
    build: BuildArguments | None = None,
    sealer: Sealer | None = None,
    deadline: datetime | None = None,
) -> NewOperation:
    """An operation to be recorded for `host` (None: for the conductors). `deadline` in place of the declared one.

    `sealer` is that of the database where it will be stored; only an operation with secrets needs it.
    """
    given = operation.arguments() if arguments is None else arguments
    _, secrets = secret.taken_from(given)
    if build is not None:
        build, more = build_without_secrets(build)
        secrets |= more
    sealed = None
    if secrets:
        if sealer is None:
            raise TypeError(f"{operation.name} has secrets, and nothing to seal them with")
        sealed = sealer.seal(json.dumps(secrets))
    if deadline is None:
        deadline = NEVER if operation.deadline is None else now + operation.deadline
    plain = secret.stored_form(given)
    return NewOperation(ctx, instance_uuid, operation.name, host, now, deadline, build, plain, sealed)


def build_without_secrets(build: BuildArguments) -> tuple[BuildArguments, dict[str, str]]:
    """The part of the build's arguments that may be stored, and their secrets, if they have any."""
    password = build.admin_password
    return replace(build, admin_password=""), {BUILD_PASSWORD: password} if password else {}


def insert(tx: Connection, new: NewOperation) -> int:
    """Record the operation, open. Answers its id."""
    made = tx.execute(sql_insert(operations).values(_row(new)))
    key = made.inserted_primary_key
    assert key is not None
    return int(key[0])


def insert_all(tx: Connection, new: Iterable[NewOperation]) -> None:
    """Record the operations, each the first of its kind for its instance and request, open."""
    rows = [_row(each) for each in new]
    if rows:
        tx.execute(sql_insert(operations), rows)


def _row(new: NewOperation) -> dict[str, Any]:
    ctx = new.ctx
    return {
        "instance_uuid": new.instance_uuid,
        "kind": new.kind,
        "phase": Phase.OPEN.value,
        "host": new.host,
        "request_id": ctx.request_id,
        "user_id": ctx.user_id,
        "project_id": ctx.project_id,
        "created_at": new.now,
        "deadline": new.deadline,
        "build": new.build,
        "arguments": new.arguments,
        "sealed": new.sealed,
    }


def defer_clean_up(
    tx: Connection,
    ctx: Context,
    *,
    instance_uuid: str,
    host: str | None,
    now: datetime,
    parts: CleanUpArguments | None = None,
) -> None:
    """Have the host remove what it may have of the instance, as soon as it can; with `parts` only those.

    For a host without a compute service nothing is recorded: no worker would ever do it.
    """
    if host is None:
        return
    try:
        keep(tx, host, COMPUTE)
    except ServiceNotFound:
        return
    insert(tx, new_operation(CLEAN_UP, ctx, instance_uuid, host, now, parts))


def forgive(tx: Connection, host: str, now: datetime) -> int:
    """End all operations of a host that is gone for good. Late workers are refused. Returns how many ended."""
    return _supersede(tx, and_(operations.c.host == host, workable()), now)


def supersede(tx: Connection, instance_uuid: str, now: datetime) -> int:
    """End the instance's unfinished operations in favour of a new one. Late workers are refused.

    Deferred clean-ups on hosts that the instance has left stay. Returns how many ended.
    """
    of_instance = and_(
        operations.c.instance_uuid == instance_uuid,
        operations.c.phase.in_(_UNFINISHED),
        operations.c.kind.not_in(_LEFTOVERS),
    )
    return _supersede(tx, of_instance, now)


def _supersede(tx: Connection, which: ColumnElement[bool], now: datetime) -> int:
    _drop_clear_secrets(tx, which)
    ended = {"phase": Phase.SUPERSEDED.value, "finished_at": now, "fence": operations.c.fence + 1}
    return tx.execute(update(operations).where(which).values(**ended, **_DROPPED, **_FREE)).rowcount


def _drop_clear_secrets(tx: Connection, which: ColumnElement[bool]) -> None:
    """Remove the secrets that earlier versions have stored in clear in the arguments of some operations."""
    for row in tx.execute(select(*_COLUMNS).where(which, operations.c.kind.in_(_SECRETIVE))).all():
        operation = operation_of(row)
        kept = secret.without_secrets(declared(operation).arguments, operation.arguments)
        if kept != operation.arguments:
            tx.execute(update(operations).where(operations.c.id == operation.id).values(arguments=kept))


def has_leftovers(tx: Connection, instance_uuid: str) -> bool:
    """Whether a host of this cell has still to remove something of the instance."""
    where = (operations.c.instance_uuid == instance_uuid) & operations.c.kind.in_(_LEFTOVERS)
    return tx.execute(select(operations.c.id).where(where, operations.c.phase.in_(_UNFINISHED))).first() is not None


def get(tx: Connection, operation_id: int) -> StoredOperation | None:
    """The operation, finished or not; None when there is none (any more)."""
    row = tx.execute(select(*_COLUMNS).where(operations.c.id == operation_id)).one_or_none()
    return None if row is None else operation_of(row)


def get_many(tx: Connection, operation_ids: Collection[int]) -> dict[int, StoredOperation]:
    """Those of the operations that are there, by id."""
    rows = tx.execute(select(*_COLUMNS).where(operations.c.id.in_(list(operation_ids)))) if operation_ids else ()
    return {row.id: operation_of(row) for row in rows}


def of_instance(tx: Connection, instance_uuid: str) -> list[StoredOperation]:
    """All of the instance's operations that are not purged yet, oldest first."""
    rows = tx.execute(select(*_COLUMNS).where(operations.c.instance_uuid == instance_uuid).order_by(operations.c.id))
    return [operation_of(row) for row in rows]


def unfinished(tx: Connection, instance_uuid: str) -> list[StoredOperation]:
    """The instance's unfinished operations, oldest first."""
    return [operation_of(row) for row in _OF_INSTANCE.rows(tx, {"instance": instance_uuid})]


def of_kind(found: Iterable[StoredOperation], operation: Operation[Any, Any]) -> list[StoredOperation]:
    """The operations of that declaration."""
    return [each for each in found if each.kind == operation.name]


def open_for(tx: Connection, host: str, now: datetime) -> int:
    """How many operations the host could claim now."""
    return int(_OPEN_FOR.rows(tx, {"host": host, "now": now})[0][0])


def renew(tx: Connection, operation_id: int, fence: int, *, now: datetime, lease_seconds: float) -> bool:
    """Renew the lease. False: the operation has ended, or another worker has it by now."""
    return (
        tx.execute(
            update(operations)
            .where(_claimed(operation_id, fence))
            .values(lease_until=now + timedelta(seconds=lease_seconds))
        ).rowcount
        == 1
    )


def postpone(tx: Connection, operation_id: int, fence: int, until: datetime) -> bool:
    """Release a claimed operation, undone; no worker claims it before `until`. False: it was lost."""
    return (
        tx.execute(
            update(operations)
            .where(_claimed(operation_id, fence))
            .values(
                phase=case((operations.c.phase == Phase.MOVING.value, Phase.MOVING.value), else_=Phase.OPEN.value),
                fence=operations.c.fence + 1,
                owner=None,
                lease_until=until,
            )
        ).rowcount
        == 1
    )


def finish(
    tx: Connection, operation: StoredOperation, phase: Phase, now: datetime, kept: dict[str, Any] | None = None
) -> None:
    """End the operation as DONE, FAILED or SUPERSEDED, without its secrets; `kept`: with these arguments.

    Raises OperationLost unless its fence is the newest and it is unfinished.
    """
    given = {"key": operation.id, "claimed": operation.fence, "ended": phase.value, "now": now}
    if not _FINISHING.change(tx, given):
        raise OperationLost(operation_id=operation.id, fence=operation.fence)
    left = secret.without_secrets(declared(operation).arguments, operation.arguments if kept is None else kept)
    if left != operation.arguments:
        tx.execute(update(operations).where(operations.c.id == operation.id).values(arguments=left))


def to_moving(tx: Connection, operation_id: int, fence: int, build: BuildArguments, arguments: dict[str, Any]) -> None:
    """Make a build that leaves its host MOVING; a conductor claims it next. Raises OperationLost."""
    moved = tx.execute(
        update(operations)
        .where(_claimed(operation_id, fence))
        .values(phase=Phase.MOVING.value, fence=operations.c.fence + 1, build=build, arguments=arguments, **_FREE)
    ).rowcount
    if not moved:
        raise OperationLost(operation_id=operation_id, fence=fence)


def reopen_on(tx: Connection, operation_id: int, fence: int, host: str, build: BuildArguments) -> None:
    """Open a moving build for its next host. Raises OperationLost."""
    moved = tx.execute(
        update(operations)
        .where(_claimed(operation_id, fence), operations.c.phase == Phase.MOVING.value)
        .values(phase=Phase.OPEN.value, host=host, fence=operations.c.fence + 1, build=build, **_FREE)
    ).rowcount
    if not moved:
        raise OperationLost(operation_id=operation_id, fence=fence)


def hand_over(tx: Connection, operation_id: int, fence: int) -> bool:
    """Give the operation to the conductors, in place of its host, which is down. False when it changed meanwhile."""
    return (
        tx.execute(
            update(operations)
            .where(_claimed(operation_id, fence))
            .values(host=None, phase=Phase.OPEN.value, fence=operations.c.fence + 1, **_FREE)
        ).rowcount
        == 1
    )


def note(tx: Connection, operation_id: int, fence: int, arguments: dict[str, Any]) -> None:
    """Replace the arguments of a claimed operation. Raises OperationLost."""
    if not tx.execute(update(operations).where(_claimed(operation_id, fence)).values(arguments=arguments)).rowcount:
        raise OperationLost(operation_id=operation_id, fence=fence)


def abandoned(tx: Connection, now: datetime, limit: int = 200) -> list[StoredOperation]:
    """Operations of hosts that no worker has: never claimed, or their lease has run out. Oldest first."""
    return [operation_of(row) for row in _ABANDONED.rows(tx, {"now": now, "most": limit})]


def overdue(tx: Connection, now: datetime, limit: int = 200) -> list[StoredOperation]:
    """Unfinished operations past their deadline, claimed or not; without those that are tried without end, and moving
    builds, which are a conductor's."""
    return [operation_of(row) for row in _OVERDUE.rows(tx, {"now": now, "most": limit})]


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
    """The condition that the operation is neither ended nor a moving build."""
    return among(operations.c.phase, (Phase.OPEN.value, Phase.RUNNING.value))


def unclaimed(now: datetime | BindParameter[datetime]) -> ColumnElement[bool]:
    """The condition that no worker has the operation, or its lease has run out."""
    return or_(operations.c.lease_until.is_(None), operations.c.lease_until < now)


def _claimed(operation_id: int, fence: int) -> ColumnElement[bool]:
    return and_(
        operations.c.id == operation_id,
        operations.c.fence == fence,
        operations.c.phase.in_(_UNFINISHED),
    )


_NOW = bindparam("now", type_=operations.c.lease_until.type)
_OPEN_FOR = Prepared(select(func.count()).where(operations.c.host == bindparam("host"), workable(), unclaimed(_NOW)))
_ABANDONED = Prepared(
    select(*_COLUMNS)
    .where(operations.c.host.is_not(None), workable(), unclaimed(_NOW))
    .order_by(operations.c.id)
    .limit(bindparam("most"))
)
_OVERDUE = Prepared(
    select(*_COLUMNS)
    .where(
        workable(),
        not_(among(operations.c.kind, _ENDLESS)),
        operations.c.deadline < _NOW,
        operations.c.owner.is_distinct_from(IN_TRANSIT),
    )
    .order_by(operations.c.id)
    .limit(bindparam("most"))
)
_OF_INSTANCE = Prepared(
    select(*_COLUMNS)
    .where(operations.c.instance_uuid == bindparam("instance"), among(operations.c.phase, _UNFINISHED))
    .order_by(operations.c.id)
)


def columns() -> list[Any]:
    """The columns that `operation_of` reads."""
    return list(_COLUMNS)


def operation_of(row: Sequence[Any]) -> StoredOperation:
    """The operation of a row that has the columns of `columns()`, in their order."""
    values = list(row)
    values[_PHASE] = Phase(values[_PHASE])
    return StoredOperation(*values)
