"""Drift: allocations that do not agree with the instances, or belong to nothing.

The two are in different databases, and the cloud goes on while they are read. So what seems wrong is read a second
time, and is drift only if it is the same then. Instances with work under way are left alone.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import Connection, select

from cell_service.context import Deadline
from cell_service.db import compute_nodes, instances
from cell_service.db.schema import instances as table
from cell_service.model import demand
from cell_service.model.instance import Instance
from mapping_db import instance_mappings, moves, request_specs
from mapping_db.cells.registry import Cell
from mapping_db.cloud import Cloud
from mapping_db.placement import allocations, orphans, providers, traits
from mapping_db.placement.allocations import Amounts, Consumer
from mapping_db.placement.sharing import SHARES

PAGE = 500
SECOND_LOOK_SECONDS = 0.5


class DriftKind(StrEnum):
    MISSING = "missing"
    """An instance on a host has no allocation."""
    ELSEWHERE = "elsewhere"
    """It has one of another host."""
    AMOUNTS = "amounts"
    """It has other amounts than its flavor demands."""
    ORPHAN = "orphan"
    """A consumer is neither an instance nor a move under way."""


@dataclass(frozen=True, slots=True)
class Drift:
    """`text`: what is wrong, a clause that begins with the consumer."""

    kind: DriftKind
    consumer_uuid: str
    text: str


@dataclass(frozen=True, slots=True)
class _Seen:
    """One instance at rest, as it was read. `node_uuid` None: its compute node has no record."""

    instance: Instance
    node_uuid: str | None
    demanded: Amounts
    consumer: Consumer | None


def of_cell(
    cloud: Cloud, cell: Cell, seconds: float, step: Callable[[int], None], stopping: threading.Event | None = None
) -> Iterator[Drift]:
    """The drift of the cell's instances, until `stopping`. `seconds`: for the cell to answer each page; `step` is
    called with how many instances were compared. Raises CellUnavailable, DatabaseUnavailable."""
    last, stopping = 0, stopping or threading.Event()
    while not stopping.is_set():
        query = select(table.c.id, table.c.uuid).where(
            table.c.id > last, table.c.deleted_at.is_(None), table.c.host.is_not(None), ~table.c.hidden
        )
        with cell.db.connect(Deadline.after(seconds, cloud.clock)) as tx:
            rows = tx.execute(query.order_by(table.c.id).limit(PAGE)).all()
        if not rows:
            return
        first = _compare(cloud, cell, [row.uuid for row in rows], seconds)
        if first:
            cloud.clock.wait(stopping, SECOND_LOOK_SECONDS)
            second = _compare(cloud, cell, list(first), seconds)
            yield from (found for uuid, found in second.items() if found == first[uuid])
        last = rows[-1].id
        step(len(rows))


def of_nothing(cloud: Cloud, stopping: threading.Event | None = None) -> Iterator[Drift]:
    """Allocations that belong to nothing, whatever the cells say, until `stopping`. Raises DatabaseUnavailable."""
    last, stopping = "", stopping or threading.Event()
    while not stopping.is_set():
        with cloud.db.connect() as tx:
            page = orphans.consumers(tx, last)
            first = {each.consumer_uuid for each in orphans.among(tx, page)}
        if not page:
            return
        if first:
            cloud.clock.wait(stopping, SECOND_LOOK_SECONDS)
            with cloud.db.connect() as tx:
                second = list(orphans.among(tx, first))
            for each in second:
                text = f"consumer {each.consumer_uuid} has allocations, and is neither an instance nor a move"
                yield Drift(DriftKind.ORPHAN, each.consumer_uuid, text)
        last = page[-1]


def _compare(cloud: Cloud, cell: Cell, uuids: list[str], seconds: float) -> dict[str, Drift]:
    """The differences that one look shows of these instances of the cell, by uuid."""
    with cloud.db.connect() as tx:
        have, mine = allocations.of_consumers(tx, uuids), _at_rest(tx, cell.mapping.id, uuids)
        specs = request_specs.get_many(tx, mine)
    with cell.db.connect(Deadline.after(seconds, cloud.clock)) as tx:
        found = instances.get_many(tx, mine)
        nodes = compute_nodes.uuids_on(tx, {each.host for each in found.values() if each.host is not None})
    seen = [
        _Seen(
            instance,
            nodes.get((instance.host, instance.node or instance.host)),
            demand.of_flavor(instance.flavor, volume_backed=uuid in specs and specs[uuid].volume_backed),
            have.get(uuid),
        )
        for uuid, instance in found.items()
        if instance.host is not None and instance.task_state is None and instance.deleted_at is None
    ]
    with cloud.db.connect() as tx:
        roots = _roots(tx, {uuid for each in have.values() for uuid in each.allocations})
    wrong = (_drift(each, roots) for each in seen)
    return {drift.consumer_uuid: drift for drift in wrong if drift is not None}


def _at_rest(tx: Connection, cell_id: int, uuids: list[str]) -> list[str]:
    """Those of the instances that the cell owns, and that are neither moved nor deleted just now."""
    owned = instance_mappings.get_many(tx, uuids)
    moving = moves.moving_among(tx, uuids)
    return [
        uuid
        for uuid, mapping in owned.items()
        if mapping.cell_id == cell_id and uuid not in moving and not (mapping.gone or mapping.queued_for_delete)
    ]


def _roots(tx: Connection, provider_uuids: set[str]) -> dict[str, str | None]:
    """The root of each provider; None for one that shares its resources, which may serve any host."""
    known = providers.by_uuids(tx, provider_uuids)
    marked = traits.of_providers(tx, [provider.id for provider in known.values()])
    return {
        uuid: None if SHARES in marked.get(provider.id, ()) else provider.root_uuid for uuid, provider in known.items()
    }


def _drift(seen: _Seen, roots: Mapping[str, str | None]) -> Drift | None:
    instance, uuid = seen.instance, seen.instance.uuid
    if seen.consumer is None:
        if not seen.demanded:
            return None
        return Drift(DriftKind.MISSING, uuid, f"instance {uuid} on {instance.host} has no allocation")
    strange = sorted(
        provider for provider in seen.consumer.allocations if roots.get(provider) not in (None, seen.node_uuid)
    )
    if strange:
        text = f"instance {uuid} on {instance.host} has an allocation of another host: {', '.join(strange)}"
        return Drift(DriftKind.ELSEWHERE, uuid, text)
    held: Counter[str] = Counter()
    for amounts in seen.consumer.allocations.values():
        held.update(amounts)
    wrong = [f"{name} {held[name]} for {due}" for name, due in sorted(seen.demanded.items()) if held[name] != due]
    if not wrong:
        return None
    text = f"instance {uuid} on {instance.host} has other amounts than its flavor demands: {', '.join(wrong)}"
    return Drift(DriftKind.AMOUNTS, uuid, text)
