"""Rows of `moves`: instances on their way to another host. The row's fence decides which super-conductor may write.

A super-conductor claims a move under a lease, which raises its fence, and names the fence in all that it records.
The row's phase decides whether a request about the move (confirm, revert) is accepted.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid5

from sqlalchemy import Connection, Integer, Row, and_, bindparam, delete, not_, or_, select, update
from sqlalchemy import insert as sql_insert
from sqlalchemy.exc import IntegrityError
from sqlalchemy.sql.elements import ColumnElement

from cell_service.db.sql.prepared import Prepared
from cell_service.errors import AlreadyMoving, OperationLost
from cell_service.model.move import MoveKind, MovePhase, MovePlan
from mapping_db.schema import instance_mappings, moves

ENDED = frozenset({MovePhase.DONE, MovePhase.UNDONE})


@dataclass(frozen=True, slots=True)
class Move:
    """One row. `uuid` is also the migration's, and the consumer of the allocations that the source keeps. `active` is
    the instance's uuid while no other move of it may begin. `target_cell`, `target_host`: None until chosen. `sealed`:
    the password that the guest is to get, sealed; None when there is none (any more)."""

    uuid: str
    instance_uuid: str
    kind: MoveKind
    phase: MovePhase
    request_id: str
    user_id: str
    project_id: str
    created_at: datetime
    source_cell: int
    source_host: str | None
    plan: MovePlan = field(default_factory=MovePlan)
    active: str | None = None
    target_cell: int | None = None
    target_host: str | None = None
    updated_at: datetime | None = None
    finished_at: datetime | None = None
    attempt: int = 0
    fence: int = 0
    owner: str | None = None
    lease_until: datetime | None = None
    not_before: datetime | None = None
    sealed: str | None = field(default=None, repr=False)
    id: int = 0

    @property
    def is_parked(self) -> bool:
        """Whether it waits for its confirmation, and no super-conductor has anything to do for it until then."""
        return self.phase is MovePhase.WAITING and self.owner is None and self.not_before is None

    @property
    def crosses(self) -> bool:
        """Whether it goes from one cell to another."""
        return self.target_cell is not None and self.target_cell != self.source_cell


_UNSETTLED = tuple(
    phase.value
    for phase in (MovePhase.GOING, MovePhase.CONFIRMING, MovePhase.REVERTING, MovePhase.UNDOING, MovePhase.LEAVING)
)
BLOCKED = datetime(9000, 1, 1, tzinfo=UTC)
"""`not_before` of a move that waits until the move before it has updated the cell."""

_FIELDS = tuple(Move.__dataclass_fields__)
_COLUMNS = [moves.c[name] for name in _FIELDS]
_PARKED = and_(moves.c.phase == MovePhase.WAITING.value, moves.c.owner.is_(None), moves.c.not_before.is_(None))
_DUE = Prepared(
    select(moves.c.uuid)
    .where(
        moves.c.finished_at.is_(None),
        not_(_PARKED),
        or_(moves.c.not_before.is_(None), moves.c.not_before <= bindparam("now")),
        or_(moves.c.lease_until.is_(None), moves.c.lease_until < bindparam("now"), moves.c.owner == bindparam("owner")),
    )
    .order_by(moves.c.id)
    .limit(bindparam("most", type_=Integer))
)


def insert_new(tx: Connection, move: Move) -> int:
    """Record the intent. Answers the move's id. Raises AlreadyMoving when another move of the instance is active."""
    values = {name: getattr(move, name) for name in _FIELDS if name != "id"}
    try:
        with tx.begin_nested():
            made = tx.execute(sql_insert(moves).values(_plain(values)))
    except IntegrityError:
        raise AlreadyMoving(instance_uuid=move.instance_uuid) from None
    key = made.inserted_primary_key
    assert key is not None
    return int(key[0])


def next_uuid(move: Move) -> str:
    """The uuid of the move that continues when this one gives up."""
    return str(uuid5(UUID(move.uuid), "next"))


def unblock(tx: Connection, uuid: str) -> None:
    """Let a move begin that had to wait for the one before it."""
    tx.execute(update(moves).where(moves.c.uuid == uuid, moves.c.not_before == BLOCKED).values(not_before=None))


def withdraw(tx: Connection, uuid: str, owner: str) -> None:
    """Remove the move that `owner` has just recorded: its cell refused to begin it."""
    tx.execute(delete(moves).where(moves.c.uuid == uuid, moves.c.owner == owner))


def get(tx: Connection, uuid: str) -> Move | None:
    row = tx.execute(select(*_COLUMNS).where(moves.c.uuid == uuid)).one_or_none()
    return None if row is None else _move(row)


def get_many(tx: Connection, uuids: Collection[str]) -> list[Move]:
    """Those of the moves that are there."""
    if not uuids:
        return []
    return [_move(row) for row in tx.execute(select(*_COLUMNS).where(moves.c.uuid.in_(list(uuids))))]


def active_of(tx: Connection, instance_uuid: str) -> Move | None:
    """The instance's active move, alongside which no other may begin; None when there is none."""
    row = tx.execute(select(*_COLUMNS).where(moves.c.active == instance_uuid)).one_or_none()
    return None if row is None else _move(row)


def unsettled_before(tx: Connection, move: Move) -> frozenset[str]:
    """The uuids of the instance's earlier moves of which its cell may not show yet how they ended."""
    query = select(moves.c.uuid).where(
        moves.c.instance_uuid == move.instance_uuid, moves.c.finished_at.is_(None), moves.c.id < move.id,
        moves.c.phase.in_(_UNSETTLED),
    )  # fmt: skip
    return frozenset(tx.execute(query).scalars())


def active_in(tx: Connection, project_id: str) -> list[Move]:
    """The moves that servers of the project wait for."""
    query = select(*_COLUMNS).join(instance_mappings, instance_mappings.c.instance_uuid == moves.c.active)
    return [_move(row) for row in tx.execute(query.where(instance_mappings.c.project_id == project_id))]


def of_instance(tx: Connection, instance_uuid: str) -> list[Move]:
    """The instance's moves that have not ended, oldest first."""
    query = select(*_COLUMNS).where(moves.c.instance_uuid == instance_uuid, moves.c.finished_at.is_(None))
    return [_move(row) for row in tx.execute(query.order_by(moves.c.id))]


def unfinished(tx: Connection, *, source_host: str | None = None, limit: int = 10000) -> list[Move]:
    """Moves that have not ended, oldest first, perhaps only those away from a host."""
    query = select(*_COLUMNS).where(moves.c.finished_at.is_(None))
    if source_host is not None:
        query = query.where(moves.c.source_host == source_host)
    return [_move(row) for row in tx.execute(query.order_by(moves.c.id).limit(limit))]


def moving_among(tx: Connection, instance_uuids: Collection[str]) -> set[str]:
    """Those of the instances with a move that has not ended."""
    query = select(moves.c.instance_uuid).where(
        moves.c.instance_uuid.in_(list(instance_uuids)), moves.c.finished_at.is_(None)
    )
    return set(tx.scalars(query))


def touching_cell(tx: Connection, cell_id: int) -> int:
    """How many unfinished moves come from the cell or go there."""
    query = select(moves.c.id).where(
        moves.c.finished_at.is_(None), or_(moves.c.source_cell == cell_id, moves.c.target_cell == cell_id)
    )
    return len(tx.execute(query).all())


def crossing_since(tx: Connection, since: datetime) -> set[int]:
    """The cells between which instances were on their way at some moment since then; not those that wait."""
    under_way = and_(
        moves.c.finished_at.is_(None),
        or_(moves.c.phase != MovePhase.WAITING.value, moves.c.updated_at > since),
    )
    query = select(moves.c.source_cell, moves.c.target_cell).where(
        or_(under_way, moves.c.finished_at > since), moves.c.target_cell != moves.c.source_cell
    )
    return {cell_id for row in tx.execute(query.distinct()) for cell_id in row}


def due(tx: Connection, now: datetime, *, owner: str, limit: int) -> list[str]:
    """The uuids of moves that `owner` may claim or has claimed, and that are not parked, oldest first."""
    return [row[0] for row in _DUE.rows(tx, {"now": now, "owner": owner, "most": limit})]


def take(tx: Connection, uuid: str, *, owner: str, now: datetime, lease_seconds: float) -> Move | None:
    """Claim the move for `owner`, if no other has. None: another has it, or it is parked or has ended."""
    won = tx.execute(
        update(moves)
        .where(
            moves.c.uuid == uuid,
            moves.c.finished_at.is_(None),
            not_(_PARKED),
            or_(moves.c.lease_until.is_(None), moves.c.lease_until < now, moves.c.owner == owner),
        )
        .values(
            owner=owner,
            lease_until=now + timedelta(seconds=lease_seconds),
            fence=moves.c.fence + 1,
            attempt=moves.c.attempt + 1,
        )
    ).rowcount
    return get(tx, uuid) if won else None


def renew(tx: Connection, uuids: Collection[str], *, owner: str, now: datetime, lease_seconds: float) -> None:
    """Keep the leases of those of the moves that are still the owner's."""
    if uuids:
        tx.execute(
            update(moves)
            .where(moves.c.uuid.in_(list(uuids)), moves.c.owner == owner)
            .values(lease_until=now + timedelta(seconds=lease_seconds))
        )


def record(tx: Connection, move: Move, now: datetime, **columns: Any) -> Move:
    """Change columns of a move that the caller has claimed. Raises OperationLost when its fence is old."""
    changed = tx.execute(update(moves).where(_fenced(move)).values(updated_at=now, **_plain(columns))).rowcount
    if not changed:
        raise OperationLost(operation_id=move.uuid, fence=move.fence)
    after = get(tx, move.uuid)
    assert after is not None
    return after


def rest(tx: Connection, move: Move, now: datetime, *, until: datetime | None, **columns: object) -> None:
    """Release a move that the caller has claimed; it is not claimed before `until`. Raises OperationLost."""
    record(tx, move, now, owner=None, lease_until=None, not_before=until, **columns)


def steer(tx: Connection, uuid: str, now: datetime, *, source: MovePhase, target: MovePhase, **columns: object) -> bool:
    """Change the phase of a waiting move; its phase decides. False: it was no longer `source`."""
    return bool(
        tx.execute(
            update(moves)
            .where(moves.c.uuid == uuid, moves.c.phase == source.value)
            .values(phase=target.value, updated_at=now, not_before=None, owner=None, lease_until=None,
                    attempt=0, fence=moves.c.fence + 1, **_plain(columns))
        ).rowcount
    )  # fmt: skip


def cancel(tx: Connection, uuid: str, now: datetime, *, before: str) -> Move | None:
    """Have the move undone, unless its step `before` is recorded; its super-conductor loses the claim. None: too late.

    The fence is raised first: from then on no other worker records a step, so the recorded steps are all that were
    begun.
    """
    mine = and_(moves.c.uuid == uuid, moves.c.phase == MovePhase.GOING.value, moves.c.finished_at.is_(None))
    if not tx.execute(update(moves).where(mine).values(fence=moves.c.fence + 1)).rowcount:
        return None
    move = get(tx, uuid)
    assert move is not None
    if before in move.plan.done:
        return None
    plan = replace(move.plan, awaited=None, retries=0, cancelled=True)
    return record(tx, move, now, phase=MovePhase.UNDOING, plan=plan, owner=None, lease_until=None, not_before=None,
                  attempt=0)  # fmt: skip


def parked_since(tx: Connection, before: datetime, limit: int) -> list[Move]:
    """Moves that have waited since before then to be confirmed or reverted."""
    rows = tx.execute(
        select(*_COLUMNS)
        .where(_PARKED, moves.c.finished_at.is_(None), moves.c.updated_at < before)
        .order_by(moves.c.id)
        .limit(limit)
    )
    return [_move(row) for row in rows]


def purge(tx: Connection, before: datetime, limit: int = 1000) -> int:
    """Remove up to `limit` moves that ended before then. Answers how many."""
    ids = [row[0] for row in tx.execute(select(moves.c.id).where(moves.c.finished_at < before).limit(limit))]
    return tx.execute(delete(moves).where(moves.c.id.in_(ids))).rowcount if ids else 0


def _fenced(move: Move) -> ColumnElement[bool]:
    return and_(moves.c.uuid == move.uuid, moves.c.fence == move.fence, moves.c.finished_at.is_(None))


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value.value if isinstance(value, (MoveKind, MovePhase)) else value for name, value in values.items()}


def _move(row: Row[Any]) -> Move:
    fields = dict(row._mapping)
    return Move(**{**fields, "kind": MoveKind(fields["kind"]), "phase": MovePhase(fields["phase"])})
