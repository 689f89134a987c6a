"""Rows of `host_moves`: hosts on their way to another cell, with the last step that is done."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from sqlalchemy import Connection, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from cell_service.errors import Conflict
from mapping_db.schema import host_mappings, host_moves


class HostMoveStep(StrEnum):
    """The steps, in order. Before INSTANCES nothing has moved, and the move may be undone."""

    BEGUN = "begun"
    LEAVING = "leaving"
    ANNOUNCED = "announced"
    INSTANCES = "instances"
    MAPPED = "mapped"
    SWITCHED = "switched"


class HostIsMoving(Conflict):
    """The host is on its way to another cell, or in another one than was assumed."""

    message = "Host {host} is being moved to another cell already."


@dataclass(frozen=True, slots=True)
class HostMove:
    """One row."""

    host: str
    source_cell: int
    target_cell: int
    step: HostMoveStep
    started_at: datetime
    updated_at: datetime | None = None


_COLUMNS = [host_moves.c[name] for name in HostMove.__dataclass_fields__]


def begin(tx: Connection, host: str, *, source: int, target: int, now: datetime) -> HostMove:
    """Record the move; one that was begun before, to the same cell, is continued. Raises HostIsMoving.

    A move of a server to the host (`demand_stays`) is committed before this, or finds this record.
    """
    tx.execute(select(host_mappings.c.id).where(host_mappings.c.host == host).with_for_update())
    values = {
        "host": host,
        "source_cell": source,
        "target_cell": target,
        "step": HostMoveStep.BEGUN.value,
        "started_at": now,
    }
    try:
        with tx.begin_nested():
            tx.execute(insert(host_moves).values(values))
    except IntegrityError:
        pass  # begun before
    found = get(tx, host)
    if found is None or found.target_cell != target:
        raise HostIsMoving(host=host)
    return found


def demand_stays(tx: Connection, host: str, cell_id: int) -> None:
    """Raises HostIsMoving unless the host is in the cell, and no move of it begins before this transaction ends."""
    where = (host_mappings.c.host == host) & (host_mappings.c.cell_id == cell_id)
    mapped = tx.execute(select(host_mappings.c.id).where(where).with_for_update(read=True)).first()
    moving = tx.execute(select(host_moves.c.host).where(host_moves.c.host == host).with_for_update(read=True)).first()
    if mapped is None or moving is not None:
        raise HostIsMoving(host=host)


def get(tx: Connection, host: str) -> HostMove | None:
    row = tx.execute(select(*_COLUMNS).where(host_moves.c.host == host)).one_or_none()
    return None if row is None else HostMove(**{**row._mapping, "step": HostMoveStep(row.step)})


def every(tx: Connection) -> list[HostMove]:
    """All that have not ended, by host."""
    rows = tx.execute(select(*_COLUMNS).order_by(host_moves.c.host))
    return [HostMove(**{**row._mapping, "step": HostMoveStep(row.step)}) for row in rows]


def record(tx: Connection, move: HostMove, step: HostMoveStep, now: datetime) -> HostMove:
    """Record that the step is done. Of two callers at once, the later step stays."""
    if list(HostMoveStep).index(step) > list(HostMoveStep).index(move.step):
        tx.execute(
            update(host_moves)
            .where(host_moves.c.host == move.host, host_moves.c.target_cell == move.target_cell,
                   host_moves.c.step == move.step.value)
            .values(step=step.value, updated_at=now)
        )  # fmt: skip
    return get(tx, move.host) or HostMove(move.host, move.source_cell, move.target_cell, step, move.started_at, now)


def end(tx: Connection, host: str) -> None:
    """Remove the row of a move that is done or undone."""
    tx.execute(delete(host_moves).where(host_moves.c.host == host))
