"""The state of providers as schedulers keep it in memory: read for all providers, or for those that the feed names."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from sqlalchemy import Column, ColumnElement, Connection, Select, Table, func, select

from mapping_db.placement import inventories
from mapping_db.placement.inventories import Inventory
from mapping_db.schema import allocations, resource_provider_aggregates, resource_provider_traits, resource_providers
from mapping_db.schema import inventories as inventory_table

_CHUNK = 500
_ROWS = select(*(resource_providers.c[name] for name in ("id", "uuid", "root_provider_id", "parent_provider_id")))


@dataclass(frozen=True, slots=True)
class ProviderState:
    """A provider with all that a scheduler needs of it. `consumers`: how many have allocations there; of a root with
    others below it, anywhere in its tree. `parent_id` None: it is a root."""

    id: int
    uuid: str
    inventories: dict[str, Inventory]
    traits: frozenset[str]
    aggregates: frozenset[str]
    consumers: int
    root_id: int
    parent_id: int | None = None


def read(
    tx: Connection, provider_ids: Collection[int] | None = None, trees: Collection[int] = ()
) -> dict[int, ProviderState]:
    """All providers, or those of the ids that exist and the roots above them, by id. `trees`: the ids of roots that are
    known to have others below them."""
    if provider_ids is None:
        return _counted(tx, _read(tx, None), ())
    found = _of(tx, provider_ids)
    found |= _of(tx, {state.root_id for state in found.values()} - found.keys())
    return _counted(tx, found, trees)


def _of(tx: Connection, ids: Collection[int]) -> dict[int, ProviderState]:
    found: dict[int, ProviderState] = {}
    wanted = sorted(ids)
    for start in range(0, len(wanted), _CHUNK):
        found.update(_read(tx, wanted[start : start + _CHUNK]))
    return found


def _counted(tx: Connection, found: dict[int, ProviderState], trees: Collection[int]) -> dict[int, ProviderState]:
    """The same, with the consumers of whole trees at their roots."""
    roots = sorted(
        {state.root_id for state in found.values() if state.parent_id is not None}.union(trees) & found.keys()
    )
    root, consumer = resource_providers.c.root_provider_id, allocations.c.consumer_uuid
    for start in range(0, len(roots), _CHUNK):
        among = roots[start : start + _CHUNK]
        rows = tx.execute(
            select(root, func.count(func.distinct(consumer)).label("consumers"))
            .join(allocations, allocations.c.resource_provider_id == resource_providers.c.id)
            .where(root.in_(among))
            .group_by(root)
        )
        counts = {row.root_provider_id: row.consumers for row in rows}
        found |= {id: replace(found[id], consumers=counts.get(id, 0)) for id in among}
    return found


def _read(tx: Connection, ids: list[int] | None) -> dict[int, ProviderState]:
    def among(query: Select[*tuple[Any, ...]], column: ColumnElement[Any]) -> Iterator[Any]:
        return iter(tx.execute(query if ids is None else query.where(column.in_(ids))))

    owned: dict[int, dict[str, Inventory]] = {}
    for row in among(select(inventory_table), inventory_table.c.resource_provider_id):
        owned.setdefault(row.resource_provider_id, {})[row.resource_class] = inventories.from_row(row)
    marks = _sets(among(select(*_pair(resource_provider_traits, "trait")), _owner(resource_provider_traits)))
    members = among(
        select(*_pair(resource_provider_aggregates, "aggregate_uuid")), _owner(resource_provider_aggregates)
    )
    inside = _sets((owner, str(UUID(text))) for owner, text in members)
    owner = allocations.c.resource_provider_id
    counted = select(owner, func.count(func.distinct(allocations.c.consumer_uuid)).label("consumers")).group_by(owner)
    consumers = {row.resource_provider_id: row.consumers for row in among(counted, owner)}
    nothing: frozenset[str] = frozenset()
    return {
        row.id: ProviderState(
            id=row.id,
            uuid=row.uuid,
            inventories=owned.get(row.id, {}),
            traits=marks.get(row.id, nothing),
            aggregates=inside.get(row.id, nothing),
            consumers=consumers.get(row.id, 0),
            root_id=row.id if row.parent_provider_id is None else row.root_provider_id,
            parent_id=row.parent_provider_id,
        )
        for row in among(_ROWS, resource_providers.c.id)
    }


def _owner(table: Table) -> Column[int]:
    return table.c.resource_provider_id


def _pair(table: Table, column: str) -> tuple[Column[int], Column[str]]:
    return table.c.resource_provider_id, table.c[column]


def _sets(rows: Iterator[Any]) -> dict[int, frozenset[str]]:
    """The sets by provider id. Equal sets are one object: thousands of hosts have the same traits."""
    gathered: dict[int, set[str]] = {}
    for owner, value in rows:
        gathered.setdefault(owner, set()).add(value)
    one: dict[frozenset[str], frozenset[str]] = {}
    frozen = {owner: frozenset(values) for owner, values in gathered.items()}
    return {owner: one.setdefault(values, values) for owner, values in frozen.items()}
