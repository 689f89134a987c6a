"""Providers that share by aggregate: one with the trait MISC_SHARES_VIA_AGGREGATE serves every tree that has a member
in one of its aggregates (Placement API reference, allocation candidates)."""

from __future__ import annotations

from collections import defaultdict

from sqlalchemy import ColumnElement, Connection, FromClause, func, select

from mapping_db.schema import resource_provider_aggregates, resource_provider_traits, resource_providers

SHARES = "MISC_SHARES_VIA_AGGREGATE"


def _bare(members: FromClause) -> ColumnElement[str]:
    return func.replace(members.c.aggregate_uuid, "-", "")


def anchors(tx: Connection) -> dict[int, set[int]]:
    """The ids of the roots of the trees that each sharing provider serves; providers that share nothing have no entry.

    SELECT mine.resource_provider_id, root_provider_id
    FROM resource_provider_traits JOIN resource_provider_aggregates AS mine … JOIN … AS theirs
    ON both are of one aggregate JOIN resource_providers ON id = theirs.resource_provider_id
    WHERE trait = 'MISC_SHARES_VIA_AGGREGATE'
    """
    marks, providers = resource_provider_traits.c, resource_providers.c
    mine, theirs = resource_provider_aggregates.alias("mine"), resource_provider_aggregates.alias("theirs")
    query = (
        select(mine.c.resource_provider_id, func.coalesce(providers.root_provider_id, providers.id))
        .join_from(resource_provider_traits, mine, mine.c.resource_provider_id == marks.resource_provider_id)
        .join(theirs, _bare(theirs) == _bare(mine))
        .join(resource_providers, providers.id == theirs.c.resource_provider_id)
        .where(marks.trait == SHARES)
        .distinct()
    )
    found: dict[int, set[int]] = defaultdict(set)
    for sharing, root in tx.execute(query):
        found[sharing].add(root)
    return dict(found)
