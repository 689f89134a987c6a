"""Events of other services about servers: sorted by the cells that own them, and reported there once for each cell."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from cell_service.context import Context
from cell_service.db import instances
from cell_service.errors import InstanceNotFound, PolycellError
from cell_service.logs import about
from cell_service.model.events import ACCELERATOR_BOUND, POWER_OFF, POWER_ON, POWER_UPDATE, ServerEvent
from cell_service.model.instance import Instance
from mapping_db.cells.registry import Cell
from mapping_db.cloud import Cloud

log = logging.getLogger(__name__)

TAKEN, MALFORMED, UNKNOWN, HOMELESS = 200, 400, 404, 422


@dataclass(frozen=True, slots=True)
class Receipt:
    """How an event was received; `code` is an HTTP status."""

    event: ServerEvent
    code: int


def deliver(cloud: Cloud, ctx: Context, events: Sequence[ServerEvent]) -> list[Receipt]:
    """Report each event to the cell that owns its server, in one call for each cell.

    An event of a cell that does not answer is not taken, and the others are.
    """
    codes: dict[ServerEvent, int] = {event: MALFORMED for event in events if _is_malformed(event)}
    left = [event for event in dict.fromkeys(events) if event not in codes]
    for fresh in (False, True):
        left = _deliver(cloud, ctx, left, codes, fresh=fresh)
    return [Receipt(event, codes.get(event, UNKNOWN)) for event in events]


def _deliver(
    cloud: Cloud, ctx: Context, events: list[ServerEvent], codes: dict[ServerEvent, int], *, fresh: bool
) -> list[ServerEvent]:
    """Answers the events whose servers were not in the cell that was queried."""
    places = _places(cloud, {event.instance_uuid for event in events}, fresh=fresh)
    by_cell: dict[int, list[ServerEvent]] = defaultdict(list)
    for event in events:
        if event.instance_uuid in places:
            cell_id = places[event.instance_uuid]
            if cell_id is None:
                codes[event] = HOMELESS
            else:
                by_cell[cell_id].append(event)

    def report(cell: Cell) -> list[ServerEvent]:
        return _report(ctx, cell, by_cell[cell.mapping.id], codes)

    gathered = cloud.cells.scatter(list(by_cell), report, ctx.deadline)
    for cell_id, error in gathered.failures.items():
        log.warning("events not reported", extra=about(ctx, cell=cloud.cells.name(cell_id), reason=error))
        codes.update(dict.fromkeys(by_cell[cell_id], HOMELESS))
    lost = [event for cell_id in sorted(gathered.answers) for event in gathered.answers[cell_id]]
    return lost + [event for event in events if event.instance_uuid not in places]


def _places(cloud: Cloud, uuids: set[str], *, fresh: bool) -> dict[str, int | None]:
    """Server → its cell, None for one that is in no cell yet."""
    if not fresh:
        return {uuid: place.cell_id for uuid, place in cloud.locator.find_many(sorted(uuids)).items()}
    found: dict[str, int | None] = {}
    for uuid in sorted(uuids):
        try:
            found[uuid] = cloud.locator.find(uuid, fresh=True).cell_id
        except InstanceNotFound:
            continue
    return found


def _report(ctx: Context, cell: Cell, events: list[ServerEvent], codes: dict[ServerEvent, int]) -> list[ServerEvent]:
    with cell.db.connect(ctx.deadline) as tx:
        known = instances.get_many(tx, {event.instance_uuid for event in events}, deleted=True)
    taken, lost = [], []
    for event in events:
        instance = known.get(event.instance_uuid)
        if instance is None or instance.hidden:
            lost.append(event)
            continue
        codes[event] = _code(instance)
        if codes[event] == TAKEN:
            taken.append(event)
    if taken:
        try:
            cell.conductor().external_events(ctx, tuple(taken))
        except PolycellError as error:
            log.warning("events not reported", extra=about(ctx, cell=cell.name, reason=error))
            codes.update(dict.fromkeys(taken, HOMELESS))
    return lost


def _code(instance: Instance) -> int:
    if instance.deleted_at is not None:
        return UNKNOWN
    return TAKEN if instance.host is not None else HOMELESS


def _is_malformed(event: ServerEvent) -> bool:
    if event.name == POWER_UPDATE:
        return event.tag not in (POWER_ON, POWER_OFF)
    return event.name == ACCELERATOR_BOUND and not event.tag
