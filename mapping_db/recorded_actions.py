"""Rows of `recorded_actions`: what is to be done to a server once its cell answers again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, delete, insert, select

from mapping_db.schema import recorded_actions


@dataclass(frozen=True, slots=True)
class RecordedAction:
    """One row. `id` gives the order (0 before it is stored); the user's rights were checked when it was accepted."""

    instance_uuid: str
    action: str
    arguments: Mapping[str, Any]
    request_id: str
    user_id: str
    project_id: str
    is_admin: bool
    created_at: datetime
    id: int = 0


_COLUMNS = [recorded_actions.c[name] for name in RecordedAction.__dataclass_fields__]


def record(tx: Connection, action: RecordedAction) -> None:
    values = {name: getattr(action, name) for name in RecordedAction.__dataclass_fields__ if name != "id"}
    tx.execute(insert(recorded_actions).values(values))


def oldest(tx: Connection, limit: int, after_id: int = 0) -> list[RecordedAction]:
    """The oldest actions, in their order."""
    after = recorded_actions.c.id > after_id
    rows = tx.execute(select(*_COLUMNS).where(after).order_by(recorded_actions.c.id).limit(limit))
    return [RecordedAction(*row) for row in rows]


def remove(tx: Connection, action_id: int) -> None:
    tx.execute(delete(recorded_actions).where(recorded_actions.c.id == action_id))
