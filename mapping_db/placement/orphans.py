"""Allocations of consumers that are neither an instance nor a move of one: what nothing will ever release."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, select

from mapping_db import build_requests, instance_mappings, moves
from mapping_db.placement import allocations
from mapping_db.schema import allocations as table

CLASSES = (
    "VCPU", "PCPU", "MEMORY_MB", "DISK_GB", "VGPU", "NET_BW_EGR_KILOBIT_PER_SEC", "NET_BW_IGR_KILOBIT_PER_SEC",
    "MEM_ENCRYPTION_CONTEXT",
)  # fmt: skip
"""Servers consume these; who has none of them may be another service's consumer."""
_PAGE = 1000


@dataclass(frozen=True, slots=True)
class Orphan:
    """A consumer with what it has: provider uuid → resource class → amount."""

    consumer_uuid: str
    consumer_type: str | None
    project_id: str
    allocations: Mapping[str, Mapping[str, int]]


def consumers(tx: Connection, after: str = "", provider_id: int | None = None) -> list[str]:
    """The next consumers of servers' resources (of one provider), by uuid."""
    query = select(table.c.consumer_uuid).distinct().where(table.c.resource_class.in_(CLASSES))
    if provider_id is not None:
        query = query.where(table.c.resource_provider_id == provider_id)
    return list(
        tx.execute(query.where(table.c.consumer_uuid > after).order_by(table.c.consumer_uuid).limit(_PAGE)).scalars()
    )


def among(tx: Connection, consumer_uuids: Collection[str]) -> Iterator[Orphan]:
    """The orphans among the consumers."""
    living = {mapping.instance_uuid for mapping in instance_mappings.get_many(tx, consumer_uuids).values()
              if not mapping.gone}  # fmt: skip
    living |= build_requests.get_many(tx, consumer_uuids).keys()
    living |= {move.uuid for move in moves.get_many(tx, consumer_uuids) if move.finished_at is None}
    lost = allocations.of_consumers(tx, set(consumer_uuids) - living)
    for uuid, consumer in sorted(lost.items()):
        yield Orphan(uuid, consumer.consumer_type, consumer.project_id, consumer.allocations)
