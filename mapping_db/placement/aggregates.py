"""Groups of providers, by a uuid that the callers choose and that is shown as they wrote it, with dashes or without."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from uuid import UUID

from sqlalchemy import Connection, delete, insert, select

from cell_service.errors import ProviderChanged
from mapping_db.placement import changes, providers
from mapping_db.placement.providers import Provider
from mapping_db.schema import resource_provider_aggregates as members


def as_stored(text: str) -> str:
    """The form, of the two that exist, in which the aggregate is written."""
    canonical = UUID(text)
    return text if text == canonical.hex else str(canonical)


def forms(uuids: Collection[str]) -> set[str]:
    """The aggregates in both forms."""
    return {form for text in uuids for form in (str(UUID(text)), UUID(text).hex)}


def of_provider(tx: Connection, provider_id: int) -> list[str]:
    return sorted(
        tx.execute(select(members.c.aggregate_uuid).where(members.c.resource_provider_id == provider_id)).scalars()
    )


def put(tx: Connection, provider: Provider, wanted: Collection[str], generation: int | None, now: datetime) -> int:
    """Put the provider into exactly these aggregates. Returns its new generation. Raises GenerationConflict."""
    advanced = providers.advance(tx, provider, generation, now, ProviderChanged)
    have = set(of_provider(tx, provider.id))
    if gone := sorted(have - set(wanted)):
        tx.execute(
            delete(members).where(members.c.resource_provider_id == provider.id, members.c.aggregate_uuid.in_(gone))
        )
    if new := sorted(set(wanted) - have):
        tx.execute(insert(members), [{"resource_provider_id": provider.id, "aggregate_uuid": uuid} for uuid in new])
    changes.note(tx, [provider.id], now)
    return advanced
