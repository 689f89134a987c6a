"""Usages: of a provider, and by a project."""

from __future__ import annotations

from sqlalchemy import Connection, func, select

from mapping_db.schema import allocations, consumers, inventories


def of_provider(tx: Connection, provider_id: int) -> dict[str, int]:
    """Resource class → amount, for each class that the provider has."""
    rows = tx.execute(
        select(inventories.c.resource_class, inventories.c.used)
        .where(inventories.c.resource_provider_id == provider_id)
        .order_by(inventories.c.resource_class)
    )
    return {row.resource_class: row.used for row in rows}


def of_project(tx: Connection, project_id: str, user_id: str | None = None) -> dict[str | None, dict[str, int]]:
    """Consumer type → resource class → amount; `consumer_count` counts the consumers of the type."""
    mine = [consumers.c.project_id == project_id]
    if user_id is not None:
        mine.append(consumers.c.user_id == user_id)
    joined = allocations.join(consumers, consumers.c.uuid == allocations.c.consumer_uuid)
    kind, name = consumers.c.consumer_type, allocations.c.resource_class
    found: dict[str | None, dict[str, int]] = {}
    for row in tx.execute(
        select(kind, func.count(func.distinct(consumers.c.uuid)).label("consumer_count"))
        .select_from(joined)
        .where(*mine)
        .group_by(kind)
    ):
        found[row.consumer_type] = {"consumer_count": row.consumer_count}
    for row in tx.execute(
        select(kind, name, func.sum(allocations.c.used).label("used"))
        .select_from(joined)
        .where(*mine)
        .group_by(kind, name)
    ):
        found.setdefault(row.consumer_type, {})[row.resource_class] = int(row.used)
    return found
