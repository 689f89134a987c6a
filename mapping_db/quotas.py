"""Rows of quotas: the limits of projects and users, and their usage of the counted resources.

instances, cores, ram and server groups are counted in `quota_usages` by the transaction that accepts a create or a
delete; a conditional update of the project's row (user_id "") decides every race. Limits of the other resources are
checked where those objects are counted. -1 is no limit.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import ColumnElement, Connection, Table, and_, case, delete, select, update
from sqlalchemy.dialects import mysql, postgresql, sqlite

from cell_service.errors import OverQuota
from mapping_db.schema import project_user_quotas, quota_classes, quota_usages, quotas

DEFAULT_CLASS = "default"
COUNTED = ("instances", "cores", "ram", "server_groups")
PROJECT = ""
"""The user id of a project's own row of usage."""


def limits_of(tx: Connection, project_id: str, defaults: Mapping[str, int]) -> dict[str, int]:
    """The project's limits by resource: its own, else those of the default class, else `defaults`."""
    own = _rows(tx, quotas, project_id=project_id)
    return {**class_limits_of(tx, DEFAULT_CLASS, defaults), **{k: v for k, v in own.items() if k in defaults}}


def user_limits_of(tx: Connection, project_id: str, user_id: str, defaults: Mapping[str, int]) -> dict[str, int]:
    """The limits of one user in a project: the user's own, else the project's."""
    return both_limits_of(tx, project_id, user_id, defaults)[1]


def both_limits_of(
    tx: Connection, project_id: str, user_id: str, defaults: Mapping[str, int]
) -> tuple[dict[str, int], dict[str, int]]:
    """The project's limits, and those of one user in it."""
    of_project = limits_of(tx, project_id, defaults)
    own = _rows(tx, project_user_quotas, project_id=project_id, user_id=user_id)
    return of_project, {**of_project, **{k: v for k, v in own.items() if k in defaults}}


def class_limits_of(tx: Connection, class_name: str, defaults: Mapping[str, int]) -> dict[str, int]:
    """The limits of a quota class: its own, else `defaults`."""
    own = _rows(tx, quota_classes, class_name=class_name)
    return {**defaults, **{k: v for k, v in own.items() if k in defaults}}


def set_limits(tx: Connection, project_id: str, limits: Mapping[str, int]) -> None:
    """Set limits of the project's own."""
    _put(tx, quotas, {"project_id": project_id}, limits)


def set_user_limits(tx: Connection, project_id: str, user_id: str, limits: Mapping[str, int]) -> None:
    """Set limits of one user in the project."""
    _put(tx, project_user_quotas, {"project_id": project_id, "user_id": user_id}, limits)


def set_class_limits(tx: Connection, class_name: str, limits: Mapping[str, int]) -> None:
    """Set the limits of a quota class."""
    _put(tx, quota_classes, {"class_name": class_name}, limits)


def delete_limits(tx: Connection, project_id: str) -> None:
    """Remove the project's own limits, and those of all its users. None there: no error."""
    tx.execute(delete(quotas).where(quotas.c.project_id == project_id))
    tx.execute(delete(project_user_quotas).where(project_user_quotas.c.project_id == project_id))


def delete_user_limits(tx: Connection, project_id: str, user_id: str) -> None:
    """Remove one user's own limits. None there: no error."""
    table = project_user_quotas
    tx.execute(delete(table).where(table.c.project_id == project_id, table.c.user_id == user_id))


def usage_of(tx: Connection, project_id: str, user_id: str = PROJECT) -> dict[str, int]:
    """How much the project, or one user in it, uses of every counted resource."""
    found = dict.fromkeys(COUNTED, 0)
    query = select(quota_usages.c.resource, quota_usages.c.in_use).where(
        quota_usages.c.project_id == project_id, quota_usages.c.user_id == user_id
    )
    found.update({resource: in_use for resource, in_use in tx.execute(query) if resource in found})
    return found


def reserve(
    tx: Connection,
    project_id: str,
    user_id: str,
    deltas: Mapping[str, int],
    limits: Mapping[str, int],
    user_limits: Mapping[str, int] | None = None,
    also: Mapping[str, int] | None = None,
) -> None:
    """Count `deltas` (resource → amount) as used by the project and the user, all of them or none; `also`: amounts
    that count only in rows that exist (`class_usage`).

    `limits` are the project's (`limits_of`), `user_limits` the user's where they have their own. Raises OverQuota,
    naming every resource that falls short; the caller's transaction must then be rolled back. A negative or zero
    delta is always counted.
    """
    used = _claimed(tx, project_id, user_id, deltas)
    for owner, bounds in ((PROJECT, limits), (user_id, user_limits or {})):
        short = [
            name for name, delta in deltas.items()
            if 0 <= bounds.get(name, -1) < used[owner, name] + delta and delta > 0
        ]  # fmt: skip
        if short:
            raise over_quota(short, deltas, {name: used[owner, name] for name in short}, bounds)
    change(tx, project_id, user_id, {**deltas, **(also or {})})


def release(tx: Connection, project_id: str, user_id: str, deltas: Mapping[str, int]) -> None:
    """Release what was reserved, in the rows that exist; never below zero."""
    change(tx, project_id, user_id, {name: -delta for name, delta in deltas.items()})


def _claimed(tx: Connection, project_id: str, user_id: str, resources: Iterable[str]) -> dict[tuple[str, str], int]:
    """How much project and user use of the resources, their rows locked until the transaction ends."""
    wanted = [(owner, name) for owner in (PROJECT, user_id) for name in resources]
    query = select(quota_usages.c.user_id, quota_usages.c.resource, quota_usages.c.in_use).where(
        _rows_of(project_id, user_id, resources)
    )
    found = {(row.user_id, row.resource): row.in_use for row in tx.execute(query.with_for_update())}
    missing = [key for key in wanted if key not in found]
    if not missing:
        return found
    for owner, name in missing:
        row = {"project_id": project_id, "user_id": owner, "resource": name, "in_use": 0}
        tx.execute(insert_unless_there(tx, quota_usages, row))
    return {(row.user_id, row.resource): row.in_use for row in tx.execute(query.with_for_update())}


def change(tx: Connection, project_id: str, user_id: str, deltas: Mapping[str, int]) -> None:
    """Add the deltas, in the rows that exist."""
    # UPDATE quota_usages SET in_use = in_use + CASE resource … END, all rows in one statement
    after = quota_usages.c.in_use + case(deltas, value=quota_usages.c.resource, else_=0)
    statement = update(quota_usages).where(_rows_of(project_id, user_id, deltas))
    tx.execute(statement.values(in_use=case((after < 0, 0), else_=after)))


def _rows_of(project_id: str, user_id: str, resources: Iterable[str]) -> ColumnElement[bool]:
    table = quota_usages
    return and_(
        table.c.project_id == project_id, table.c.user_id.in_([PROJECT, user_id]), table.c.resource.in_(list(resources))
    )


def insert_unless_there(tx: Connection, table: Table, row: Mapping[str, Any]) -> Any:
    """A statement that adds the row, or nothing when its key is taken."""
    if tx.dialect.name == "sqlite":
        return sqlite.insert(table).values(row).on_conflict_do_nothing()
    if tx.dialect.name == "postgresql":
        return postgresql.insert(table).values(row).on_conflict_do_nothing()
    return mysql.insert(table).values(row).on_duplicate_key_update(resource=table.c.resource)


def over_quota(
    short: list[str], deltas: Mapping[str, int], used: Mapping[str, int], limits: Mapping[str, int]
) -> OverQuota:
    """The error that these resources would exceed their limits."""
    return OverQuota(
        resources=", ".join(short),
        requested=", ".join(str(deltas[name]) for name in short),
        used=", ".join(str(used.get(name, 0)) for name in short),
        limit=", ".join(str(limits[name]) for name in short),
    )


def _rows(tx: Connection, table: Table, **key: str) -> dict[str, int]:
    query = select(table.c.resource, table.c.hard_limit).where(*(table.c[name] == value for name, value in key.items()))
    return {row.resource: row.hard_limit for row in tx.execute(query)}


def _put(tx: Connection, table: Table, key: Mapping[str, str], limits: Mapping[str, int]) -> None:
    where = [table.c[name] == value for name, value in key.items()]
    for resource, limit in sorted(limits.items()):
        statement = update(table).where(*where, table.c.resource == resource).values(hard_limit=limit)
        if not tx.execute(statement).rowcount:
            tx.execute(insert_unless_there(tx, table, {**key, "resource": resource, "hard_limit": limit}))
            tx.execute(statement)
