"""Claiming operations, with all that the worker needs. The row's fence decides which worker has one."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from functools import cache
from typing import Any

from sqlalchemy import Connection, Select, Update, and_, bindparam, case, exists, or_, select, update
from sqlalchemy.sql.elements import ColumnElement

from cell_service.db import actions, instances
from cell_service.db.operations import columns, finish, get_many, operation_of, unclaimed, workable
from cell_service.db.schema import instances as instance_rows
from cell_service.db.schema import operations
from cell_service.db.sql.prepared import Prepared, among, keys, one_of, padded_size
from cell_service.model.operation import UNFINISHED, ClaimedOperation, Phase
from cell_service.operations.declaration import Pool
from cell_service.operations.table import names

_BUILDS = names(lambda each: each.pool is Pool.BUILDS)
_LEFTOVERS = names(lambda each: each.removes_leftovers)
_COLUMNS = columns()
_INSTANCE = 2 + len(_COLUMNS)
"""The index at which the columns of the instance begin."""


def with_instances(tx: Connection, operation_ids: Collection[int]) -> dict[int, ClaimedOperation]:
    """Those of the operations whose instances are there, deleted or not; by id. One read."""
    if not operation_ids:
        return {}
    wanted = list(operation_ids)
    found = {}
    for row in _with_instances(padded_size(len(wanted))).rows(tx, keys("key", wanted)):
        if row[_INSTANCE] is not None:
            instance, operation = instances.instance_of(row[_INSTANCE:]), operation_of(row[2:_INSTANCE])
            found[operation.id] = ClaimedOperation(operation, instance, row[0], row[1])
    return found


def claim(
    tx: Connection,
    host: str | None,
    *,
    owner: str,
    now: datetime,
    lease_seconds: float,
    limit: int,
    builds: int | None = None,
    holding: Collection[int] = (),
) -> list[ClaimedOperation]:
    """Claim up to `limit` operations of the host, `builds` of them builds at most (None: any number).

    `host` None: what conductors do themselves, which is operations without a host, and builds that are moving.
    Of each instance only the oldest unfinished operation is claimed, and only if no worker has it, its lease has
    run out, or `owner` has it already and does not name it in `holding`. Anything but builds comes first.

    One whose instance the cell does not know is superseded.
    """
    until = now + timedelta(seconds=lease_seconds)
    taken = _claim(tx, host, owner, now, until, limit, builds, holding)
    found = with_instances(tx, taken)
    for orphan in get_many(tx, [key for key in taken if key not in found]).values():
        finish(tx, orphan, Phase.SUPERSEDED, now)
    return [found[key] for key in taken if key in found]


@cache
def _with_instances(count: int) -> Prepared:
    action = actions.action_id_of(operations.c.instance_uuid, operations.c.request_id)
    joined = operations.outerjoin(instance_rows, instance_rows.c.uuid == operations.c.instance_uuid)
    wanted = select(action, operations.c.sealed, *_COLUMNS, *instances.columns()).select_from(joined)
    if count == 1:
        return Prepared(wanted.where(operations.c.id == bindparam("key0")))
    return Prepared(wanted.where(one_of(operations.c.id, "key", count)))


def _claim(
    tx: Connection,
    host: str | None,
    owner: str,
    now: datetime,
    until: datetime,
    limit: int,
    builds: int | None,
    holding: Collection[int],
) -> list[int]:
    """Claim them, and return their ids. One is claimed by its fence; several are locked first, which shows which of
    them another worker has claimed meanwhile."""
    seen = _claimable(tx, host, owner, now, limit, builds, holding)
    given = {"now": now, "worker": owner, "until": until}
    if len(seen) == 1:
        ((key, fence, phase),) = seen
        one = {"key": key, "read_fence": fence, "read_phase": phase, **given}
        return [key] if _CLAIMING_ONE.change(tx, one) else []
    if seen:
        still = or_(unclaimed(now), operations.c.owner == owner)
        mine = select(operations.c.id).where(_are(seen), still).order_by(operations.c.id).with_for_update()
        locked = set(tx.scalars(mine))
        seen = [one for one in seen if one[0] in locked]
    if not seen:
        return []
    won = tx.execute(_claiming(_are(seen)), given).rowcount
    return [key for key, _, _ in seen] if won else []


def _are(read: Sequence[tuple[int, int, str]]) -> ColumnElement[bool]:
    """The condition that the operations (id, fence, phase) are as they were read."""
    each = (
        and_(operations.c.id == key, operations.c.fence == fence, operations.c.phase == phase)
        for key, fence, phase in read
    )
    return or_(*each)


def _free() -> ColumnElement[bool]:
    """The condition that an operation is free at `now`, or is `worker`'s."""
    return or_(
        unclaimed(bindparam("now", type_=operations.c.lease_until.type)), operations.c.owner == bindparam("worker")
    )


def _claiming(which: ColumnElement[bool]) -> Update:
    return (
        update(operations)
        .where(which, _free())
        .values(
            phase=case((operations.c.phase == Phase.MOVING.value, Phase.MOVING.value), else_=Phase.RUNNING.value),
            owner=bindparam("worker"),
            lease_until=bindparam("until"),
            fence=operations.c.fence + 1,
            attempt=operations.c.attempt + 1,
        )
    )


_CLAIMING_ONE = Prepared(
    _claiming(
        and_(
            operations.c.id == bindparam("key"),
            operations.c.fence == bindparam("read_fence"),
            operations.c.phase == bindparam("read_phase"),
        )
    )
)


def _claimable(
    tx: Connection,
    host: str | None,
    owner: str,
    now: datetime,
    limit: int,
    builds: int | None,
    holding: Collection[int],
) -> list[tuple[int, int, str]]:
    """The operations that could be claimed: id, fence, phase."""
    given = {"worker": owner, "now": now, "most": limit + len(holding)}
    found = _FOR_CONDUCTORS.rows(tx, given) if host is None else _FOR_HOST.rows(tx, {**given, "host": host})
    rows = [(key, fence, phase, kind) for key, fence, phase, kind in found if key not in holding][:limit]
    others = [row for row in rows if row[3] not in _BUILDS]
    some = [row for row in rows if row[3] in _BUILDS][:builds]
    return [(key, fence, phase) for key, fence, phase, _ in (*others, *some)]


def _the_oldest(which: ColumnElement[bool]) -> Select[Any]:
    """By hand:

    SELECT … FROM operations o WHERE host = ? AND phase IN ('open', 'running')
       AND (lease_until IS NULL OR lease_until < now OR owner = ?)
       AND NOT EXISTS (SELECT 1 FROM operations e WHERE e.instance_uuid = o.instance_uuid
                       AND e.id < o.id AND e.phase IN ('open', 'running', 'moving')
                       AND (e.kind <> 'move_drop' OR e.host = o.host))
     ORDER BY kind = 'create', id
    """
    earlier = operations.alias("earlier")
    older = exists().where(
        earlier.c.instance_uuid == operations.c.instance_uuid,
        earlier.c.id < operations.c.id,
        among(earlier.c.phase, [phase.value for phase in UNFINISHED]),
        or_(~among(earlier.c.kind, _LEFTOVERS), earlier.c.host == operations.c.host),
    )
    build_last = case((among(operations.c.kind, _BUILDS), 1), else_=0)
    return (
        select(operations.c.id, operations.c.fence, operations.c.phase, operations.c.kind)
        .where(which, _free(), ~older)
        .order_by(build_last, operations.c.id)
        .limit(bindparam("most"))
    )


_FOR_HOST = Prepared(_the_oldest(and_(operations.c.host == bindparam("host"), workable())))
_FOR_CONDUCTORS = Prepared(
    _the_oldest(or_(and_(operations.c.host.is_(None), workable()), operations.c.phase == Phase.MOVING.value))
)
