"""The statements that write `instance_actions` and their events, in the dialect of each kind of database."""

from __future__ import annotations

from datetime import datetime
from functools import cache
from typing import Any

from sqlalchemy import bindparam, func, select, update
from sqlalchemy.dialects import mysql, postgresql, sqlite

from cell_service.context import Context
from cell_service.db.schema import instance_actions, instance_actions_events
from cell_service.db.sql.prepared import Prepared

OF_REQUEST = Prepared(
    select(func.max(instance_actions.c.id)).where(
        instance_actions.c.instance_uuid == bindparam("uuid"), instance_actions.c.request_id == bindparam("request")
    )
)
ENDING_EVENT = {
    hosted: Prepared(
        update(instance_actions_events)
        .where(
            instance_actions_events.c.action_id == bindparam("action"),
            instance_actions_events.c.event == bindparam("step"),
            instance_actions_events.c.host == bindparam("where")
            if hosted
            else instance_actions_events.c.host.is_(None),
        )
        .values(
            finish_time=bindparam("now"),
            result=bindparam("ended"),
            traceback=bindparam("trace"),
            details=bindparam("words"),
        )
    )
    for hosted in (True, False)
}
ENDING = Prepared(
    update(instance_actions)
    .where(instance_actions.c.id == bindparam("action"))
    .values(finish_time=bindparam("now"), updated_at=bindparam("touched"))
)


def started(ctx: Context, instance_uuid: str, action: str, now: datetime) -> dict[str, Any]:
    """The row of an action that begins."""
    return {
        "instance_uuid": instance_uuid,
        "action": action,
        "request_id": ctx.request_id,
        "user_id": ctx.user_id,
        "project_id": ctx.project_id,
        "start_time": now,
        "created_at": now,
        "updated_at": now,
    }


UNENDED: dict[str, Any] = {"finish_time": None, "result": None, "traceback": None, "details": None}


def begun(action_id: int, event: str, host: str | None, now: datetime) -> dict[str, Any]:
    """The row of a step that begins."""
    return {"action_id": action_id, "event": event, "host": host, "start_time": now, **UNENDED}


@cache
def recording(dialect: str) -> Any:
    """The statement that inserts a row of actions, unless it exists."""
    if dialect in ("mysql", "mariadb"):
        return mysql.insert(instance_actions).on_duplicate_key_update(action=instance_actions.c.action)
    made = (postgresql.insert if dialect == "postgresql" else sqlite.insert)(instance_actions)
    return made.on_conflict_do_nothing(index_elements=["instance_uuid", "request_id", "action"])


@cache
def starting(dialect: str) -> Any:
    """The statement that inserts rows of events, or overwrites those of the same steps."""
    if dialect in ("mysql", "mariadb"):
        new = mysql.insert(instance_actions_events)
        return new.on_duplicate_key_update({name: new.inserted[name] for name in ("start_time", *UNENDED)})
    made = (postgresql.insert if dialect == "postgresql" else sqlite.insert)(instance_actions_events)
    return made.on_conflict_do_update(
        index_elements=["action_id", "event", "host"],
        set_={name: made.excluded[name] for name in ("start_time", *UNENDED)},
    )
