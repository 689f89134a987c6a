"""Traits: the standard ones, custom ones in a table, and which provider has which."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import datetime

import os_traits
from sqlalchemy import Connection, delete, insert, select
from sqlalchemy.exc import IntegrityError

from cell_service.errors import Invalid, ProviderChanged, TraitInUse, TraitNotFound
from mapping_db.placement import changes, providers
from mapping_db.placement.providers import Provider
from mapping_db.schema import resource_provider_traits, traits

STANDARD: frozenset[str] = frozenset(os_traits.get_traits())


def names(tx: Connection, *, starting: str = "", among: Collection[str] | None = None) -> list[str]:
    """All traits in order; those with a prefix; those among some names."""
    every = STANDARD.union(tx.execute(select(traits.c.name)).scalars())
    return sorted(name for name in every if name.startswith(starting) and (among is None or name in among))


def associated(tx: Connection) -> set[str]:
    """The traits that at least one provider has."""
    return set(tx.execute(select(resource_provider_traits.c.trait).distinct()).scalars())


def unknown(tx: Connection, wanted: Iterable[str]) -> list[str]:
    """Those of the names that are no trait."""
    custom = sorted(set(wanted) - STANDARD)
    if not custom:
        return []
    known = set(tx.execute(select(traits.c.name).where(traits.c.name.in_(custom))).scalars())
    return [name for name in custom if name not in known]


def demand(tx: Connection, wanted: Iterable[str]) -> None:
    """Raises Invalid unless all of them exist."""
    if strange := unknown(tx, wanted):
        raise Invalid(reason=f"No such trait(s): {', '.join(strange)}.")


def add(tx: Connection, name: str) -> bool:
    """Make sure that the custom trait exists. False when it existed before."""
    if not unknown(tx, [name]):
        return False
    try:
        with tx.begin_nested():
            tx.execute(insert(traits).values(name=name))
    except IntegrityError:
        return False
    return True


def remove(tx: Connection, name: str) -> None:
    """Raises TraitNotFound, TraitInUse, Invalid for a standard trait."""
    if name in STANDARD:
        raise Invalid(reason=f"Cannot delete standard trait {name}.")
    if tx.execute(
        select(resource_provider_traits.c.trait).where(resource_provider_traits.c.trait == name).limit(1)
    ).first():
        raise TraitInUse(name=name)
    if not tx.execute(delete(traits).where(traits.c.name == name)).rowcount:
        raise TraitNotFound(names=name)


def of_provider(tx: Connection, provider_id: int) -> list[str]:
    return sorted(
        tx.execute(
            select(resource_provider_traits.c.trait).where(
                resource_provider_traits.c.resource_provider_id == provider_id
            )
        ).scalars()
    )


def of_providers(tx: Connection, provider_ids: Collection[int]) -> dict[int, set[str]]:
    """Traits of many providers, by id; every given provider has an entry."""
    found: dict[int, set[str]] = {provider_id: set() for provider_id in provider_ids}
    rows = tx.execute(
        select(resource_provider_traits.c.resource_provider_id, resource_provider_traits.c.trait).where(
            resource_provider_traits.c.resource_provider_id.in_(sorted(found))
        )
    )
    for provider_id, trait in rows:
        found[provider_id].add(trait)
    return found


def put(tx: Connection, provider: Provider, wanted: Collection[str], generation: int | None, now: datetime) -> int:
    """Give the provider exactly these traits. Returns its new generation.

    Raises Invalid for names that are no traits, GenerationConflict.
    """
    if strange := unknown(tx, wanted):
        raise Invalid(reason=f"No such trait {', '.join(strange)}")
    advanced = providers.advance(tx, provider, generation, now, ProviderChanged)
    have = set(of_provider(tx, provider.id))
    if gone := sorted(have - set(wanted)):
        tx.execute(
            delete(resource_provider_traits).where(
                resource_provider_traits.c.resource_provider_id == provider.id,
                resource_provider_traits.c.trait.in_(gone),
            )
        )
    if new := sorted(set(wanted) - have):
        rows = [{"resource_provider_id": provider.id, "trait": trait} for trait in new]
        tx.execute(insert(resource_provider_traits), rows)
    changes.note(tx, [provider.id], now)
    return advanced
