"""Taking operations, with all that whoever takes them needs. The row's fence decides who has got one."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache

from sqlalchemy import Connection, and_, bindparam, case, exists, or_, select, update
from sqlalchemy.sql.elements import ColumnElement

from cell_service.db import actions, instances
from cell_service.db.operations import columns, get_many, operation_of, unheld, workable
from cell_service.db.schema import instances as instance_rows
from cell_service.db.schema import operations
from cell_service.db.sql.prepared import Prepared, keys, one_of, room
from cell_service.model.instance import Instance
from cell_service.model.operation import UNFINISHED, Kind, Operation, Phase

_COLUMNS = columns()
_INSTANCE = 1 + len(_COLUMNS)
"""Where the columns of the instance begin."""


@dataclass(frozen=True, slots=True)
class Standing:
    """An operation as it stands, with its instance (deleted or not; None: there is none), and the id of the action that
    it is part of."""

    operation: Operation
    instance: Instance | None
    action_id: int | None


def standing(tx: Connection, operation_ids: Collection[int]) -> dict[int, Standing]:
    """Those of the operations that are there, by id. One read."""
    if not operation_ids:
        return {}
    wanted = list(operation_ids)
    found = {}
    for row in _standing(room(len(wanted))).rows(tx, keys("key", wanted)):
        instance = instances.instance_of(row[_INSTANCE:]) if row[_INSTANCE] is not None else None
        found[row[1]] = Standing(operation_of(row[1:_INSTANCE]), instance, row[0])
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
) -> list[Operation]:
    """Take up to `limit` operations of the host, `builds` of them builds at most (None: any number).

    `host` None: what conductors do themselves, which is operations without a host, and builds that are moving.
    Of each instance only the oldest unfinished operation is taken, and only if nobody holds it, its lease has
    run out, or `owner` holds it already and does not name it in `holding`. Anything but builds comes first.
    """
    until = now + timedelta(seconds=lease_seconds)
    taken = _take(tx, host, owner, now, until, limit, builds, holding)
    found = get_many(tx, taken)
    return [found[key] for key in taken]


def claim_standing(
    tx: Connection,
    host: str,
    *,
    owner: str,
    now: datetime,
    lease_seconds: float,
    limit: int,
    builds: int | None = None,
    holding: Collection[int] = (),
) -> list[Standing]:
    """As `claim`, with what belongs to each."""
    until = now + timedelta(seconds=lease_seconds)
    taken = _take(tx, host, owner, now, until, limit, builds, holding)
    found = standing(tx, taken)
    return [found[key] for key in taken]


@cache
def _standing(count: int) -> Prepared:
    action = actions.action_id_of(operations.c.instance_uuid, operations.c.request_id)
    joined = operations.outerjoin(instance_rows, instance_rows.c.uuid == operations.c.instance_uuid)
    wanted = select(action, *_COLUMNS, *instances.columns()).select_from(joined)
    if count == 1:
        return Prepared(wanted.where(operations.c.id == bindparam("key0")))
    return Prepared(wanted.where(one_of(operations.c.id, "key", count)))


def _take(
    tx: Connection,
    host: str | None,
    owner: str,
    now: datetime,
    until: datetime,
    limit: int,
    builds: int | None,
    holding: Collection[int],
) -> list[int]:
    """The ids of what has been taken. One is taken by its fence; several are locked first, so that it is known which
    of them somebody else has got meanwhile."""
    seen = _claimable(tx, host, owner, now, limit, builds, holding)
    still = or_(unheld(now), operations.c.owner == owner)
    if len(seen) > 1:
        mine = select(operations.c.id).where(_are(seen), still).order_by(operations.c.id).with_for_update()
        locked = set(tx.scalars(mine))
        seen = [one for one in seen if one[0] in locked]
    if not seen:
        return []
    won = tx.execute(
        update(operations)
        .where(_are(seen), still)
        .values(
            phase=case((operations.c.phase == Phase.MOVING.value, Phase.MOVING.value), else_=Phase.RUNNING.value),
            owner=owner,
            lease_until=until,
            fence=operations.c.fence + 1,
            attempt=operations.c.attempt + 1,
        )
    ).rowcount
    return [key for key, _, _ in seen] if won else []


def _are(seen: Sequence[tuple[int, int, str]]) -> ColumnElement[bool]:
    """The operations (id, fence, phase) are as they were seen."""
    each = (
        and_(operations.c.id == key, operations.c.fence == fence, operations.c.phase == phase)
        for key, fence, phase in seen
    )
    return or_(*each)


def _claimable(
    tx: Connection,
    host: str | None,
    owner: str,
    now: datetime,
    limit: int,
    builds: int | None,
    holding: Collection[int],
) -> list[tuple[int, int, str]]:
    """What could be taken: id, fence, phase. By hand:

    SELECT … FROM operations o WHERE host = ? AND phase IN ('open', 'running')
       AND (lease_until IS NULL OR lease_until < now OR owner = ?) AND id NOT IN (…)
       AND NOT EXISTS (SELECT 1 FROM operations e WHERE e.instance_uuid = o.instance_uuid
                       AND e.id < o.id AND e.phase IN ('open', 'running', 'moving')
                       AND (e.kind <> 'move_drop' OR e.host = o.host))
     ORDER BY kind = 'create', id
    """
    earlier = operations.alias("earlier")
    mine = (
        and_(operations.c.host == host, workable())
        if host is not None
        else or_(
            and_(operations.c.host.is_(None), workable()),
            operations.c.phase == Phase.MOVING.value,
        )
    )
    query = select(operations.c.id, operations.c.fence, operations.c.phase, operations.c.kind).where(
        mine,
        or_(unheld(now), operations.c.owner == owner),
        ~exists().where(
            earlier.c.instance_uuid == operations.c.instance_uuid,
            earlier.c.id < operations.c.id,
            earlier.c.phase.in_([phase.value for phase in UNFINISHED]),
            or_(earlier.c.kind != Kind.MOVE_DROP.value, earlier.c.host == operations.c.host),
        ),
    )
    if holding:
        query = query.where(operations.c.id.not_in(tuple(holding)))
    build_last = case((operations.c.kind == Kind.BUILD.value, 1), else_=0)
    rows = tx.execute(query.order_by(build_last, operations.c.id).limit(limit)).all()
    others = [row for row in rows if row.kind != Kind.BUILD.value]
    some = [row for row in rows if row.kind == Kind.BUILD.value][:builds]
    return [(row.id, row.fence, row.phase) for row in (*others, *some)]
