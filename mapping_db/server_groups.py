"""Server groups: their members, and the host on which each was placed.

A member's host is set in the transaction that claims it, under a lock on the group's row; so two schedulers can't
break a group's policy by placing members at the same time.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from cell_service.errors import ServerGroupNotFound
from mapping_db.schema import instance_group_members as members
from mapping_db.schema import instance_groups as table


@dataclass(frozen=True, slots=True)
class Group:
    """One group. `members`: instance uuid → host, None while it has none."""

    id: int
    uuid: str
    project_id: str
    user_id: str
    name: str
    policy: str
    created_at: datetime
    rules: Mapping[str, Any] = field(default_factory=dict)
    members: Mapping[str, str | None] = field(default_factory=dict)

    @property
    def max_server_per_host(self) -> int:
        return int(self.rules.get("max_server_per_host", 1))


def add(
    tx: Connection,
    *,
    uuid: str,
    project_id: str,
    user_id: str,
    name: str,
    policy: str,
    now: datetime,
    rules: Mapping[str, Any] | None = None,
) -> Group:
    """Add a group without members."""
    tx.execute(
        insert(table).values(
            uuid=uuid,
            project_id=project_id,
            user_id=user_id,
            name=name,
            policy=policy,
            rules=dict(rules or {}),
            created_at=now,
        )
    )
    return get(tx, uuid)


def get(tx: Connection, uuid: str) -> Group:
    """Raises ServerGroupNotFound."""
    found = by_uuids(tx, [uuid])
    if not found:
        raise ServerGroupNotFound(group_uuid=uuid)
    return found[uuid]


def by_uuids(tx: Connection, uuids: Collection[str], *, lock: bool = False) -> dict[str, Group]:
    """Those of the groups that exist. With `lock`, their rows are locked until the transaction ends, in the order
    of their uuids, and the members are read after that."""
    if not uuids:
        return {}
    query = select(table).where(table.c.uuid.in_(sorted(uuids))).order_by(table.c.uuid)
    rows = tx.execute(query.with_for_update() if lock else query).all()
    return {group.uuid: group for group in _with_members(tx, rows)}


def of_project(tx: Connection, project_id: str | None, *, limit: int | None = None, offset: int = 0) -> list[Group]:
    """The groups of a project (None: of all), in the order they were made."""
    query = select(table).order_by(table.c.id).offset(offset).limit(limit)
    if project_id is not None:
        query = query.where(table.c.project_id == project_id)
    return _with_members(tx, tx.execute(query).all())


def count(tx: Connection, project_id: str) -> int:
    """How many groups a project has, for its quota."""
    return tx.execute(select(func.count()).select_from(table).where(table.c.project_id == project_id)).scalar() or 0


def remove(tx: Connection, uuid: str) -> None:
    """Remove the group; its servers stay. Raises ServerGroupNotFound."""
    group_id = _id(tx, uuid)
    tx.execute(delete(members).where(members.c.group_id == group_id))
    tx.execute(delete(table).where(table.c.id == group_id))


def join(tx: Connection, uuid: str, instance_uuids: Collection[str]) -> None:
    """Add the instances as members, on no host yet. Raises ServerGroupNotFound."""
    group_id = _id(tx, uuid)
    rows = [{"group_id": group_id, "instance_uuid": instance} for instance in sorted(instance_uuids)]
    if rows:
        tx.execute(insert(members), rows)


def leave(tx: Connection, instance_uuids: Sequence[str]) -> None:
    """Remove the instances from their groups."""
    tx.execute(delete(members).where(members.c.instance_uuid.in_(instance_uuids)))


def of_instance(tx: Connection, instance_uuid: str) -> str | None:
    """The uuid of the group that the instance is in."""
    joined = table.join(members, members.c.group_id == table.c.id)
    query = select(table.c.uuid).select_from(joined).where(members.c.instance_uuid == instance_uuid)
    return tx.execute(query.limit(1)).scalar()


def place(tx: Connection, group: Group, instance_uuid: str, host: str | None) -> None:
    """Record the member's host. Call it with the group's row locked."""
    where = (members.c.group_id == group.id) & (members.c.instance_uuid == instance_uuid)
    if tx.execute(update(members).where(where).values(host=host)).rowcount:
        return
    try:
        with tx.begin_nested():
            tx.execute(insert(members).values(group_id=group.id, instance_uuid=instance_uuid, host=host))
    except IntegrityError:
        tx.execute(update(members).where(where).values(host=host))


def _id(tx: Connection, uuid: str) -> int:
    row = tx.execute(select(table.c.id).where(table.c.uuid == uuid)).first()
    if row is None:
        raise ServerGroupNotFound(group_uuid=uuid)
    return int(row.id)


def _with_members(tx: Connection, rows: Collection[Row[Any]]) -> list[Group]:
    inside: dict[int, dict[str, str | None]] = defaultdict(dict)
    if rows:
        query = select(members).where(members.c.group_id.in_([row.id for row in rows]))
        for member in tx.execute(query.order_by(members.c.instance_uuid)):
            inside[member.group_id][member.instance_uuid] = member.host
    return [
        Group(
            id=row.id,
            uuid=row.uuid,
            project_id=row.project_id,
            user_id=row.user_id,
            name=row.name,
            policy=row.policy,
            created_at=row.created_at,
            rules=row.rules,
            members=inside[row.id],
        )
        for row in rows
    ]
