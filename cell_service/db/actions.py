"""What was done to an instance, for its owner to read: `instance_actions` and their events."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from cell_service.context import Context
from cell_service.db.schema import instance_actions, instance_actions_events
from cell_service.errors import ActionNotFound

SUCCESS = "Success"
ERROR = "Error"


@dataclass(frozen=True, slots=True)
class Action:
    """One row of `instance_actions`. `action` is nova's name (create, stop, …); `message` "Error" when it failed."""

    id: int
    instance_uuid: str
    action: str
    request_id: str
    user_id: str
    project_id: str
    start_time: datetime
    created_at: datetime
    finish_time: datetime | None = None
    updated_at: datetime | None = None
    message: str | None = None


@dataclass(frozen=True, slots=True)
class ActionEvent:
    """One step of an action. `result` Success or Error; `traceback` is for administrators, `details` for users."""

    id: int
    action_id: int
    event: str
    start_time: datetime
    finish_time: datetime | None = None
    result: str | None = None
    traceback: str | None = None
    host: str | None = None
    details: str | None = None


_ACTION = [instance_actions.c[name] for name in Action.__dataclass_fields__]
_EVENT = [instance_actions_events.c[name] for name in ActionEvent.__dataclass_fields__]


def start(tx: Connection, ctx: Context, instance_uuid: str, action: str, now: datetime) -> int:
    """Record that the request of `ctx` acts on the instance. Answers the action's id; done again, the same one."""
    values = {
        "instance_uuid": instance_uuid,
        "action": action,
        "request_id": ctx.request_id,
        "user_id": ctx.user_id,
        "project_id": ctx.project_id,
        "start_time": now,
        "created_at": now,
        "updated_at": now,
    }
    try:
        with tx.begin_nested():
            key = tx.execute(insert(instance_actions).values(values)).inserted_primary_key
    except IntegrityError:
        found = tx.execute(
            select(instance_actions.c.id).where(
                instance_actions.c.instance_uuid == instance_uuid,
                instance_actions.c.request_id == ctx.request_id,
                instance_actions.c.action == action,
            )
        ).scalar_one()
        return int(found)
    assert key is not None
    return int(key[0])


def has(tx: Connection, instance_uuid: str, request_id: str, action: str) -> bool:
    """Whether the request's action on the instance is recorded."""
    where = (
        (instance_actions.c.instance_uuid == instance_uuid)
        & (instance_actions.c.request_id == request_id)
        & (instance_actions.c.action == action)
    )
    return tx.execute(select(instance_actions.c.id).where(where)).first() is not None


def start_event(
    tx: Connection, instance_uuid: str, request_id: str, event: str, host: str | None, now: datetime
) -> None:
    """A step of the request's action begins on `host`. Without such an action nothing is recorded."""
    action_id = _action_id(tx, instance_uuid, request_id)
    if action_id is None:
        return
    again = tx.execute(
        update(instance_actions_events)
        .where(_one_event(action_id, event, host))
        .values(start_time=now, finish_time=None, result=None, traceback=None, details=None)
    ).rowcount
    if again:
        return
    try:
        with tx.begin_nested():
            tx.execute(
                insert(instance_actions_events).values(action_id=action_id, event=event, host=host, start_time=now)
            )
    except IntegrityError:
        return  # somebody else recorded the same beginning


def finish_event(
    tx: Connection,
    instance_uuid: str,
    request_id: str,
    event: str,
    host: str | None,
    now: datetime,
    *,
    result: str = SUCCESS,
    traceback: str | None = None,
    details: str | None = None,
) -> None:
    """A step ended; one that was never begun begins and ends now."""
    action_id = _action_id(tx, instance_uuid, request_id)
    if action_id is None:
        return
    values = {"finish_time": now, "result": result, "traceback": traceback, "details": details}
    where = _one_event(action_id, event, host)
    if not tx.execute(update(instance_actions_events).where(where).values(values)).rowcount:
        try:
            with tx.begin_nested():
                begun = {"action_id": action_id, "event": event, "host": host, "start_time": now}
                tx.execute(insert(instance_actions_events).values(begun | values))
        except IntegrityError:
            tx.execute(update(instance_actions_events).where(where).values(values))
    tx.execute(update(instance_actions).where(instance_actions.c.id == action_id).values(updated_at=now))


def finish(tx: Connection, instance_uuid: str, request_id: str, now: datetime, message: str | None = None) -> None:
    """The request's action is over; `message` ERROR says that it failed, None leaves what is there."""
    action_id = _action_id(tx, instance_uuid, request_id)
    values: dict[str, Any] = {"finish_time": now, "updated_at": now}
    if message is not None:
        values["message"] = message
    tx.execute(update(instance_actions).where(instance_actions.c.id == action_id).values(values))


def get(tx: Connection, instance_uuid: str, request_id: str) -> Action:
    """The request's action on the instance. Raises ActionNotFound."""
    row = tx.execute(
        select(*_ACTION)
        .where(instance_actions.c.instance_uuid == instance_uuid, instance_actions.c.request_id == request_id)
        .order_by(instance_actions.c.id.desc())
        .limit(1)
    ).one_or_none()
    if row is None:
        raise ActionNotFound(request_id=request_id, instance_uuid=instance_uuid)
    return _action(row)


def list_of(
    tx: Connection,
    instance_uuid: str,
    *,
    limit: int | None = None,
    marker: str | None = None,
    changes_since: datetime | None = None,
    changes_before: datetime | None = None,
) -> list[Action]:
    """The instance's actions, newest first; from after the action of request `marker`. Raises ActionNotFound."""
    query = (
        select(*_ACTION)
        .where(instance_actions.c.instance_uuid == instance_uuid)
        .order_by(instance_actions.c.created_at.desc(), instance_actions.c.id.desc())
    )
    if marker is not None:
        after = get(tx, instance_uuid, marker)
        query = query.where(
            (instance_actions.c.created_at < after.created_at)
            | ((instance_actions.c.created_at == after.created_at) & (instance_actions.c.id < after.id))
        )
    if changes_since is not None:
        query = query.where(instance_actions.c.updated_at >= changes_since)
    if changes_before is not None:
        query = query.where(instance_actions.c.updated_at <= changes_before)
    if limit is not None:
        query = query.limit(limit)
    return [_action(row) for row in tx.execute(query)]


def events_of(tx: Connection, action_id: int) -> list[ActionEvent]:
    """The action's events, newest first."""
    rows = tx.execute(
        select(*_EVENT)
        .where(instance_actions_events.c.action_id == action_id)
        .order_by(instance_actions_events.c.start_time.desc(), instance_actions_events.c.id.desc())
    )
    return [ActionEvent(**row._mapping) for row in rows]


def purge(tx: Connection, instance_uuids: list[str]) -> int:
    """Remove all actions of these instances, with their events. Answers how many actions."""
    if not instance_uuids:
        return 0
    ids = select(instance_actions.c.id).where(instance_actions.c.instance_uuid.in_(instance_uuids))
    tx.execute(delete(instance_actions_events).where(instance_actions_events.c.action_id.in_(ids)))
    return tx.execute(delete(instance_actions).where(instance_actions.c.instance_uuid.in_(instance_uuids))).rowcount


def _action_id(tx: Connection, instance_uuid: str, request_id: str) -> int | None:
    return tx.execute(
        select(instance_actions.c.id)
        .where(instance_actions.c.instance_uuid == instance_uuid, instance_actions.c.request_id == request_id)
        .order_by(instance_actions.c.id.desc())
        .limit(1)
    ).scalar()


def _one_event(action_id: int, event: str, host: str | None) -> Any:
    events = instance_actions_events.c
    return (events.action_id == action_id) & (events.event == event) & events.host.is_not_distinct_from(host)


def _action(row: Row[Any]) -> Action:
    return Action(**row._mapping)
