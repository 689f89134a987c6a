"""The history of an instance, which its owner can read: `instance_actions` and their events."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, ScalarSelect, delete, func, insert, select, update

from cell_service.context import Context
from cell_service.db import action_rows as rows
from cell_service.db.schema import instance_actions, instance_actions_events
from cell_service.errors import ActionNotFound

Beginning = tuple[Context, str, str, datetime]
"""The context of the request, the instance (its uuid), the action, and when it begins."""
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


def start(tx: Connection, ctx: Context, instance_uuid: str, action: str, now: datetime) -> None:
    """Record that the request of `ctx` acts on the instance. Done again, it changes nothing."""
    tx.execute(rows.recording(tx.dialect.name), [rows.started(ctx, instance_uuid, action, now)])


def is_over(tx: Connection, instance_uuid: str, request_id: str, action: str) -> bool | None:
    """Whether the request's action on the instance is finished; None when it is not recorded."""
    where = (
        (instance_actions.c.instance_uuid == instance_uuid)
        & (instance_actions.c.request_id == request_id)
        & (instance_actions.c.action == action)
    )
    row = tx.execute(select(instance_actions.c.finish_time).where(where)).first()
    return None if row is None else row[0] is not None


def has(tx: Connection, instance_uuid: str, request_id: str, action: str) -> bool:
    """Whether the request's action on the instance is recorded."""
    return is_over(tx, instance_uuid, request_id, action) is not None


def record_new(tx: Connection, beginnings: Sequence[Beginning]) -> None:
    """Record the actions on instances that are new in this transaction, and so have no actions yet."""
    if beginnings:
        tx.execute(insert(instance_actions), [rows.started(*each) for each in beginnings])


def start_event(
    tx: Connection, instance_uuid: str, request_id: str, event: str, host: str | None, now: datetime
) -> None:
    """Record that a step of the request's action begins on `host`. Without such an action nothing is recorded."""
    found = action_id(tx, instance_uuid, request_id)
    if found is not None:
        start_events(tx, [(found, event, host)], now)


def start_events(tx: Connection, steps: Sequence[tuple[int, str, str | None]], now: datetime) -> None:
    """Record that steps (action id, event, host) begin; those that began before begin again."""
    without_host = [step for step in steps if step[2] is None]
    for action_id, event, host in without_host:  # to the unique key, no NULL equals another
        if not tx.execute(update(instance_actions_events).where(_one_event(action_id, event, host))
                          .values(start_time=now, **rows.UNENDED)).rowcount:  # fmt: skip
            tx.execute(insert(instance_actions_events), [rows.begun(action_id, event, host, now)])
    hosted = [rows.begun(*step, now) for step in steps if step[2] is not None]
    if hosted:
        tx.execute(rows.starting(tx.dialect.name), hosted)


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
    """Record that a step ended; one that was never begun begins and ends now."""
    found = action_id(tx, instance_uuid, request_id)
    if found is not None:
        _end_event(tx, found, event, host, now, result, traceback, details)
        tx.execute(update(instance_actions).where(instance_actions.c.id == found).values(updated_at=now))


def finish(tx: Connection, instance_uuid: str, request_id: str, now: datetime, message: str | None = None) -> None:
    """Record that the request's action is over; `message` ERROR says that it failed, None leaves what is there."""
    found = action_id(tx, instance_uuid, request_id)
    if found is not None:
        _end(tx, found, now, message)


def end(
    tx: Connection,
    action_id: int | None,
    event: str | None,
    host: str | None,
    now: datetime,
) -> None:
    """Record that a step, and with it its action, succeeded. Without an id (None) nothing is recorded."""
    if action_id is None:
        return
    if event is not None:
        _end_event(tx, action_id, event, host, now, SUCCESS, None, None)
    _end(tx, action_id, now, None)


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
    found = tx.execute(
        select(*_EVENT)
        .where(instance_actions_events.c.action_id == action_id)
        .order_by(instance_actions_events.c.start_time.desc(), instance_actions_events.c.id.desc())
    )
    return [ActionEvent(**row._mapping) for row in found]


def purge(tx: Connection, instance_uuids: list[str]) -> int:
    """Remove all actions of these instances, with their events. Answers how many actions."""
    if not instance_uuids:
        return 0
    ids = select(instance_actions.c.id).where(instance_actions.c.instance_uuid.in_(instance_uuids))
    tx.execute(delete(instance_actions_events).where(instance_actions_events.c.action_id.in_(ids)))
    return tx.execute(delete(instance_actions).where(instance_actions.c.instance_uuid.in_(instance_uuids))).rowcount


def action_id_of(instance_uuid: ColumnElement[str], request_id: ColumnElement[str]) -> ScalarSelect[int | None]:
    """A subquery: the id of the request's action on the instance, its last one."""
    mine = (instance_actions.c.instance_uuid == instance_uuid) & (instance_actions.c.request_id == request_id)
    return select(func.max(instance_actions.c.id)).where(mine).scalar_subquery()


def action_id(tx: Connection, instance_uuid: str, request_id: str) -> int | None:
    """The id of the request's action on the instance, its last one; None when there is none."""
    found: int | None = rows.OF_REQUEST.rows(tx, {"uuid": instance_uuid, "request": request_id})[0][0]
    return found


def _end_event(
    tx: Connection,
    action_id: int,
    event: str,
    host: str | None,
    now: datetime,
    result: str,
    traceback: str | None,
    details: str | None,
) -> None:
    """Record the end in the event's row; an event that was never begun begins now."""
    given = {"action": action_id, "step": event, "now": now, "ended": result, "trace": traceback, "words": details}
    ending = rows.ENDING_EVENT[host is not None]
    given |= {"where": host} if host is not None else {}
    if not ending.change(tx, given):
        start_events(tx, [(action_id, event, host)], now)
        ending.change(tx, given)


def _end(tx: Connection, action_id: int, now: datetime, message: str | None) -> None:
    if message is None:
        rows.ENDING.change(tx, {"action": action_id, "now": now, "touched": now})
        return
    values = {"finish_time": now, "updated_at": now, "message": message}
    tx.execute(update(instance_actions).where(instance_actions.c.id == action_id).values(values))


def _one_event(action_id: int, event: str, host: str | None) -> Any:
    events = instance_actions_events.c
    return (events.action_id == action_id) & (events.event == event) & events.host.is_not_distinct_from(host)


def _action(row: Row[Any]) -> Action:
    return Action(**row._mapping)
