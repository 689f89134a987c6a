"""Resource providers: rows, their tree, and the generation by which a client knows that nothing has changed.

A claim increments the generations of its providers and is not guarded by them: the inventory's own conditional update
decides, so that no claim fails because of another one for which there was room as well.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, Select, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from cell_service.errors import (
    GenerationConflict,
    Invalid,
    ProviderTaken,
    ResourceProviderHasChildren,
    ResourceProviderInUse,
    ResourceProviderNotFound,
)
from mapping_db.placement import changes
from mapping_db.schema import (
    inventories,
    resource_provider_aggregates,
    resource_provider_traits,
)
from mapping_db.schema import resource_providers as table

_UNSAVED = "Unable to save resource provider"
_root = table.alias("root")
_parent = table.alias("parent")


@dataclass(frozen=True, slots=True)
class Provider:
    """One row of `resource_providers`. A provider without a parent is its own root."""

    id: int
    uuid: str
    name: str
    generation: int
    root_id: int
    root_uuid: str
    parent_uuid: str | None
    updated_at: datetime


def selection() -> Select[Any]:
    """SELECT of providers, in the order they were made; callers may add conditions on `table`."""
    return (
        select(table, _root.c.uuid.label("root_uuid"), _parent.c.uuid.label("parent_uuid"))
        .outerjoin(_root, _root.c.id == table.c.root_provider_id)
        .outerjoin(_parent, _parent.c.id == table.c.parent_provider_id)
        .order_by(table.c.id)
    )


def from_row(row: Row[Any]) -> Provider:
    return Provider(
        id=row.id,
        uuid=row.uuid,
        name=row.name,
        generation=row.generation,
        root_id=row.root_provider_id or row.id,
        root_uuid=row.root_uuid or row.uuid,
        parent_uuid=row.parent_uuid,
        updated_at=row.updated_at or row.created_at,
    )


def get(tx: Connection, uuid: str) -> Provider:
    """Raises ResourceProviderNotFound."""
    row = tx.execute(selection().where(table.c.uuid == uuid)).first()
    if row is None:
        raise ResourceProviderNotFound(uuid=uuid)
    return from_row(row)


def hold(tx: Connection, uuid: str) -> Provider:
    """The provider, whose row is locked until the transaction ends. Raises ResourceProviderNotFound."""
    tx.execute(select(table.c.id).where(table.c.uuid == uuid).with_for_update())
    return get(tx, uuid)


def by_uuids(tx: Connection, uuids: Collection[str]) -> dict[str, Provider]:
    """Those of the providers that exist."""
    rows = tx.execute(selection().where(table.c.uuid.in_(sorted(uuids))))
    return {row.uuid: from_row(row) for row in rows}


def add(tx: Connection, uuid: str, name: str, now: datetime, *, parent_uuid: str | None = None) -> Provider:
    """Add a provider of generation 0. Raises ProviderTaken, Invalid when there is no such parent."""
    uncreated = f'Unable to create resource provider "{name}", {uuid}: '
    if parent_uuid == uuid:
        raise Invalid(reason=f"{uncreated}parent provider UUID cannot be same as UUID.")
    parent = _parent_of(tx, parent_uuid, uncreated)
    values = {
        "uuid": uuid,
        "name": name,
        "generation": 0,
        "root_provider_id": parent.root_id if parent else None,
        "parent_provider_id": parent.id if parent else None,
        "created_at": now,
    }
    try:
        with tx.begin_nested():
            made = tx.execute(insert(table).values(**values)).inserted_primary_key
    except IntegrityError as error:
        taken = tx.execute(select(table.c.id).where(table.c.uuid == uuid)).first() is not None
        raise ProviderTaken(what="uuid" if taken else "name", name=uuid if taken else name) from error
    assert made is not None
    if parent is None:
        tx.execute(update(table).where(table.c.id == made[0]).values(root_provider_id=made[0]))
    changes.note(tx, [made[0]], now)
    return get(tx, uuid)


def alter(
    tx: Connection, provider: Provider, name: str, parent_uuid: str | None, now: datetime, *, reparent: bool
) -> Provider:
    """Set the name and the parent (None: none). A root may get a parent; changing or removing one needs `reparent`.

    Raises ProviderTaken, Invalid (no such parent, a loop, or a change that is not allowed).
    """
    values: dict[str, Any] = {"name": name, "updated_at": now}
    changed = {provider.id}
    if parent_uuid != provider.parent_uuid:
        if provider.parent_uuid is not None and not reparent:
            verb = "re-parenting" if parent_uuid is not None else "un-parenting"
            raise Invalid(reason=f"{_UNSAVED} {provider.uuid}: {verb} a provider is not currently allowed.")
        parent = _parent_of(tx, parent_uuid, f"{_UNSAVED} {provider.uuid}: ")
        family = _descendants(tx, provider)
        if parent is not None and parent.id in family:
            raise Invalid(reason=f"{_UNSAVED} {provider.uuid}: creating loop in the provider tree is not allowed.")
        values["parent_provider_id"] = parent.id if parent else None
        new_root = parent.root_id if parent else provider.id
        tx.execute(update(table).where(table.c.id.in_(sorted(family))).values(root_provider_id=new_root))
        changed = family
    try:
        tx.execute(update(table).where(table.c.id == provider.id).values(**values))
    except IntegrityError as error:
        raise ProviderTaken(what="name", name=name) from error
    changes.note(tx, changed, now)
    return get(tx, provider.uuid)


def remove(tx: Connection, provider: Provider, now: datetime) -> None:
    """Remove the provider with its inventories, traits and aggregates.

    The inventories' rows decide against a racing claim. Raises ResourceProviderInUse, ResourceProviderHasChildren.
    """
    if tx.execute(select(table.c.id).where(table.c.parent_provider_id == provider.id).limit(1)).first():
        raise ResourceProviderHasChildren(uuid=provider.uuid)
    tx.execute(delete(inventories).where(inventories.c.resource_provider_id == provider.id, inventories.c.used == 0))
    left = select(func.count()).select_from(inventories).where(inventories.c.resource_provider_id == provider.id)
    if tx.execute(left).scalar():
        raise ResourceProviderInUse(uuid=provider.uuid)
    for owned in (resource_provider_traits, resource_provider_aggregates):
        tx.execute(delete(owned).where(owned.c.resource_provider_id == provider.id))
    if not tx.execute(delete(table).where(table.c.id == provider.id)).rowcount:
        raise ResourceProviderNotFound(uuid=provider.uuid)
    changes.note(tx, [provider.id], now)


def advance(
    tx: Connection,
    provider: Provider,
    generation: int | None,
    now: datetime,
    conflict: type[GenerationConflict] = GenerationConflict,
) -> int:
    """Increment the generation, if the provider is still at `generation` (None: whatever it is), and return it.

    The row decides: of two callers that read the same generation one gets the conflict.
    """
    expected = provider.generation if generation is None else generation
    where = [table.c.id == provider.id]
    if generation is not None:
        where.append(table.c.generation == generation)
    if not tx.execute(update(table).where(*where).values(generation=table.c.generation + 1, updated_at=now)).rowcount:
        raise conflict(what="resource provider", uuid=provider.uuid)
    return expected + 1


def advance_all(tx: Connection, provider_ids: Collection[int], now: datetime) -> None:
    """Increment the generations of providers, whatever they are. It locks their rows, in the order of their ids."""
    if provider_ids:
        generations = update(table).where(table.c.id.in_(sorted(provider_ids)))
        tx.execute(generations.values(generation=table.c.generation + 1, updated_at=now))


def _parent_of(tx: Connection, uuid: str | None, words: str) -> Provider | None:
    if uuid is None:
        return None
    found = by_uuids(tx, [uuid]).get(uuid)
    if found is None:
        raise Invalid(reason=f"{words}parent provider UUID does not exist: {uuid}")
    return found


def _descendants(tx: Connection, provider: Provider) -> set[int]:
    """The ids of the provider and of all its descendants."""
    pairs = tx.execute(
        select(table.c.id, table.c.parent_provider_id).where(table.c.root_provider_id == provider.root_id)
    ).all()
    family = {provider.id}
    grown = True
    while grown:
        below = {row.id for row in pairs if row.parent_provider_id in family}
        grown = not below <= family
        family |= below
    return family
