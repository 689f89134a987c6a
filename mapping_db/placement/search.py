"""Which providers can serve a request: one SELECT, for listings and for allocation candidates."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import ColumnElement, Connection, or_, select

from mapping_db.placement import aggregates, providers
from mapping_db.placement.providers import Provider
from mapping_db.schema import (
    inventories,
    resource_provider_aggregates,
    resource_provider_traits,
)
from mapping_db.schema import resource_providers as table


@dataclass(frozen=True, slots=True)
class ProviderQuery:
    """The conditions on a provider. It must match at least one element of each set in `member_of` and `required`.

    `by_root`: what is in the aggregates of its tree's root is in them, too.
    """

    name: str | None = None
    uuid: str | None = None
    in_tree: str | None = None
    resources: Mapping[str, int] = field(default_factory=dict)
    required: tuple[frozenset[str], ...] = ()
    forbidden: frozenset[str] = frozenset()
    member_of: tuple[frozenset[str], ...] = ()
    not_member_of: frozenset[str] = frozenset()
    by_root: bool = False


def matching(tx: Connection, wanted: ProviderQuery) -> list[Provider]:
    """Every provider that meets all conditions by itself, in the order they were made."""
    query = providers.selection().where(*_conditions(wanted))
    return [providers.from_row(row) for row in tx.execute(query)]


def _conditions(wanted: ProviderQuery) -> list[ColumnElement[bool]]:
    where: list[ColumnElement[bool]] = []
    if wanted.name is not None:
        where.append(table.c.name == wanted.name)
    if wanted.uuid is not None:
        where.append(table.c.uuid == wanted.uuid)
    if wanted.in_tree is not None:
        other = table.alias("other")
        where.append(
            table.c.root_provider_id.in_(select(other.c.root_provider_id).where(other.c.uuid == wanted.in_tree))
        )
    where += [has_capacity(name, amount) for name, amount in wanted.resources.items()]
    where += [_with_trait(choice) for choice in wanted.required]
    if wanted.forbidden:
        where.append(~_with_trait(wanted.forbidden))
    where += [_in_aggregate(choice, wanted.by_root) for choice in wanted.member_of]
    if wanted.not_member_of:
        where.append(~_in_aggregate(wanted.not_member_of, wanted.by_root))
    return where


def has_capacity(name: str, amount: int) -> ColumnElement[bool]:
    """The provider has that amount of the class free, in units that its inventory allows."""
    column = inventories.c
    return table.c.id.in_(
        select(column.resource_provider_id).where(
            column.resource_class == name,
            column.used + amount <= column.capacity,
            column.min_unit <= amount,
            column.max_unit >= amount,
            amount % column.step_size == 0,
        )
    )


def _with_trait(names: Collection[str]) -> ColumnElement[bool]:
    column = resource_provider_traits.c
    return table.c.id.in_(select(column.resource_provider_id).where(column.trait.in_(sorted(names))))


def _in_aggregate(uuids: Collection[str], by_root: bool) -> ColumnElement[bool]:
    column = resource_provider_aggregates.c
    members = select(column.resource_provider_id).where(column.aggregate_uuid.in_(sorted(aggregates.forms(uuids))))
    return or_(table.c.id.in_(members), table.c.root_provider_id.in_(members)) if by_root else table.c.id.in_(members)


def trees_of(tx: Connection, root_ids: Collection[int]) -> list[Provider]:
    """All providers of these trees."""
    query: Any = providers.selection().where(table.c.root_provider_id.in_(sorted(root_ids)))
    return [providers.from_row(row) for row in tx.execute(query)]
