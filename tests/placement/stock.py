"""Providers with something on them, and what must always hold of them."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime

from sqlalchemy import Connection, func, select

from cell_service.db.sql.engine import Database
from mapping_db import schema
from mapping_db.placement import inventories, providers
from mapping_db.placement.allocations import Claim
from mapping_db.placement.inventories import Inventory
from mapping_db.placement.providers import Provider

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def new_uuid() -> str:
    return str(uuid.uuid4())


def provider(db: Database, name: str = "", parent: str | None = None, **has: Inventory | int) -> Provider:
    """A provider with these inventories; a number is a total."""

    def make(tx: Connection) -> Provider:
        made = providers.add(tx, new_uuid(), name or new_uuid(), NOW, parent_uuid=parent)
        wanted = {key: value if isinstance(value, Inventory) else Inventory(value) for key, value in has.items()}
        inventories.put(tx, made, wanted, 0, NOW)
        return providers.get(tx, made.uuid)

    return db.run(make)


def claim(consumer: str, where: dict[str, dict[str, int]], **more: object) -> Claim:
    return Claim(consumer, where, project_id="p1", user_id="u1", **more)  # type: ignore[arg-type]


def used(db: Database, of: Provider, name: str) -> int:
    with db.connect() as tx:
        return inventories.of_provider(tx, of.id)[name].used


def assert_sound(db: Database) -> None:
    """What inventories say is in use is what the consumers have, and never more than there is."""
    with db.connect() as tx:
        rows = tx.execute(select(schema.inventories)).all()
        table = schema.allocations
        sums = {
            (row.resource_provider_id, row.resource_class): int(row.total)
            for row in tx.execute(
                select(
                    table.c.resource_provider_id, table.c.resource_class, func.sum(table.c.used).label("total")
                ).group_by(table.c.resource_provider_id, table.c.resource_class)
            )
        }
        having = set(tx.execute(select(table.c.consumer_uuid).distinct()).scalars())
        assert having == set(tx.execute(select(schema.consumers.c.uuid)).scalars())
    for row in rows:
        assert row.used == sums.pop((row.resource_provider_id, row.resource_class), 0)
        assert row.used <= row.capacity
    assert not sums
