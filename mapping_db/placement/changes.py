"""The feed that schedulers follow: one row for each change of a provider, written in the change's transaction."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import datetime

from sqlalchemy import Connection, delete, func, insert, or_, select

from mapping_db.schema import placement_changes

HOST_AGGREGATES = 0
"""Its meaning in the feed is "the host aggregates changed"; no provider has this id."""


def note(tx: Connection, provider_ids: Iterable[int], now: datetime) -> None:
    """Record that this transaction changes these providers."""
    rows = [{"resource_provider_id": provider_id, "created_at": now} for provider_id in sorted(set(provider_ids))]
    if rows:
        tx.execute(insert(placement_changes), rows)


def newest(tx: Connection) -> int:
    """The highest id of the feed, 0 when nothing has ever changed."""
    return tx.execute(select(func.max(placement_changes.c.id))).scalar() or 0


def since(tx: Connection, last: int, holes: Collection[int] = ()) -> list[tuple[int, int]]:
    """Pairs (id, provider id) after `last`, and of the ids in `holes`, in order.

    Ids are assigned before transactions commit, so a lower id may appear later: a scheduler that follows the feed keeps
    the ids that it skipped, for a while, and reads them again.
    """
    wanted = placement_changes.c.id > last
    if holes:
        wanted = or_(wanted, placement_changes.c.id.in_(sorted(holes)))
    rows = tx.execute(
        select(placement_changes.c.id, placement_changes.c.resource_provider_id)
        .where(wanted)
        .order_by(placement_changes.c.id)
    )
    return [(row.id, row.resource_provider_id) for row in rows]


def purge(tx: Connection, before: datetime) -> int:
    """Delete rows older than that, except the newest row, so that ids never start again. Returns how many."""
    last = newest(tx)
    return tx.execute(
        delete(placement_changes).where(placement_changes.c.created_at < before, placement_changes.c.id < last)
    ).rowcount
