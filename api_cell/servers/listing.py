"""Lists of servers over all cells.

In the default order and without filters the mappings alone say which servers are on the page: one ordered scan, then
only the cells that own them are asked, by key. Else every cell gives its sorted page, and they are merged. Either
way the servers of a silent cell are values: they stand in the page as what the mappings say of them.
"""

from __future__ import annotations

import functools
import re
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from api_cell.edge.route import Request
from api_cell.servers.query import Asked
from cell_service.db import instance_lists, instances
from cell_service.db.instance_lists import Listing, StatusFilter
from cell_service.errors import CellUnavailable, InstanceNotFound, Invalid
from cell_service.model.instance import Instance
from mapping_db import build_requests, instance_mappings
from mapping_db.cells import Cell
from mapping_db.instance_mappings import InstanceMapping


@dataclass(frozen=True, slots=True)
class Silent:
    """A server whose cell does not answer: what the mapping knows of it."""

    uuid: str
    project_id: str
    name: str
    created_at: datetime


Listed = Instance | Silent


@dataclass(frozen=True, slots=True)
class Page:
    """The servers, in order; `more`: there may be another page after the last one. `cells` own some of them."""

    servers: list[Listed]
    more: bool
    cells: frozenset[int] = frozenset()


def page_of(req: Request, asked: Asked) -> Page:
    """The page that was asked for. Raises Invalid for a marker that is no server, CellUnavailable as configured."""
    if asked.limit == 0 or asked.nothing:
        return Page([], more=False)
    cells: set[int] = set()
    servers = _by_index(req, asked, cells) if asked.indexed else _merged(req, asked, cells)
    if not (req.at_least(2, 69) or req.services.settings.api.list_records_by_skipping_down_cells):
        silent = next((server for server in servers if isinstance(server, Silent)), None)
        if silent is not None:
            raise CellUnavailable(cell="of server " + silent.uuid)
    return Page(servers, more=len(servers) >= asked.limit, cells=frozenset(cells))


# -- by the index -----------------------------------------------------------------------------


def _by_index(req: Request, asked: Asked, cells: set[int]) -> list[Listed]:
    """Servers that are deleted in their cell, but not yet marked gone, are left out; the scan then goes on."""
    found: list[Listed] = []
    after = _marker_mapping(req, asked.marker)
    while len(found) < asked.limit:
        wanted = asked.limit - len(found)
        with req.cloud.db.connect() as tx:
            mappings = instance_mappings.page(tx, project_id=asked.project_id, limit=wanted, after=after)
        found += _fetched(req, mappings)
        cells.update(mapping.cell_id for mapping in mappings if mapping.cell_id is not None)
        if len(mappings) < wanted:
            break
        after = mappings[-1]
    return found


def _fetched(req: Request, mappings: list[InstanceMapping]) -> list[Listed]:
    """The servers of these mappings, in the same order, without those that are gone."""
    by_cell: dict[int, list[str]] = defaultdict(list)
    unplaced = []
    for mapping in mappings:
        if mapping.cell_id is None:
            unplaced.append(mapping.instance_uuid)
        else:
            by_cell[mapping.cell_id].append(mapping.instance_uuid)

    def fetch(cell: Cell) -> dict[str, Instance]:
        with cell.db.connect(req.ctx.deadline) as tx:
            return instances.get_many(tx, by_cell[cell.mapping.id])

    gathered = req.cloud.cells.scatter(by_cell, fetch, req.ctx.deadline)
    known: dict[str, Instance] = {}
    for answer in gathered.answers.values():
        known.update(answer)
    if unplaced:
        with req.cloud.db.connect() as tx:
            requests = build_requests.get_many(tx, unplaced)
        known.update({uuid: each.instance for uuid, each in requests.items() if not each.delete_requested})
        known.update(_placed_meanwhile(req, [uuid for uuid in unplaced if uuid not in requests]))
    listed: list[Listed] = []
    for mapping in mappings:
        if mapping.instance_uuid in known:
            listed.append(known[mapping.instance_uuid])
        elif mapping.cell_id in gathered.failures:
            listed.append(_silent(mapping))
    return listed


def _placed_meanwhile(req: Request, uuids: list[str]) -> dict[str, Instance]:
    """Servers that came into a cell between the look at the mappings and that at the build requests."""
    if not uuids:
        return {}
    with req.cloud.db.connect() as tx:
        mappings = [each for each in instance_mappings.get_many(tx, uuids).values() if each.cell_id is not None]
    return {each.uuid: each for each in _fetched(req, mappings) if isinstance(each, Instance)}


def _marker_mapping(req: Request, marker: str | None) -> InstanceMapping | None:
    if marker is None:
        return None
    with req.cloud.db.connect() as tx:
        mapping = instance_mappings.get_many(tx, [marker]).get(marker)
    if mapping is None or not (req.ctx.is_admin or mapping.project_id == req.ctx.project_id):
        raise Invalid(reason=f"marker [{marker}] not found")
    return mapping


# -- by merging -------------------------------------------------------------------------------


def _merged(req: Request, asked: Asked, cells: set[int]) -> list[Listed]:
    listing = _after_marker(req, asked)

    def fetch(cell: Cell) -> list[Instance]:
        with cell.db.connect(req.ctx.deadline) as tx:
            return instance_lists.page(tx, listing)

    cell_ids = [mapping.id for mapping in req.cloud.cells.all()]
    gathered = req.cloud.cells.scatter(cell_ids, fetch, req.ctx.deadline)
    for failure in gathered.failures.values():
        if isinstance(failure, Invalid):
            raise failure
    found = {each.uuid: each for each in _unplaced(req, asked, listing)}
    for cell_id, answer in gathered.answers.items():
        found.update({each.uuid: each for each in answer})
        if answer:
            cells.add(cell_id)
    order = _order(listing.sort)
    ordered: list[Listed] = [*sorted(found.values(), key=lambda each: order(_values(each, listing)))[: asked.limit]]
    if gathered.failures and _owner_only(listing):
        ordered += _known_of(req, asked, gathered.failures)[: max(0, asked.limit - len(ordered))]
    return ordered


def _after_marker(req: Request, asked: Asked) -> Listing:
    """The listing from the marker on; the ids of rows mean nothing across cells, so they are not compared."""
    sort = tuple(pair for pair in asked.listing.sort if pair[0] != "id")
    listing = replace(asked.listing, sort=sort)
    if asked.marker is None:
        return listing
    mapping = _marker_mapping(req, asked.marker)
    assert mapping is not None
    instance = _instance_of(req, mapping)
    return replace(listing, after=_values(instance, listing))


def _instance_of(req: Request, mapping: InstanceMapping) -> Instance:
    def look(cell: Cell) -> Instance:
        with cell.db.connect(req.ctx.deadline) as tx:
            return instances.get(tx, mapping.instance_uuid, deleted=True)

    try:
        if mapping.cell_id is not None:
            return look(req.cloud.cells.open(mapping.cell_id))
    except InstanceNotFound:
        raise Invalid(reason=f"marker [{mapping.instance_uuid}] not found") from None
    with req.cloud.db.connect() as tx:
        request = build_requests.get(tx, mapping.instance_uuid)
    if request is None:
        raise Invalid(reason=f"marker [{mapping.instance_uuid}] not found")
    return request.instance


def _values(instance: Instance, listing: Listing) -> tuple[Any, ...]:
    return instance_lists.sort_values(instance, listing.sort)


def _order(sort: tuple[tuple[str, str], ...]) -> Callable[[tuple[Any, ...]], Any]:
    """A sort key that orders values as the databases do: no value before any, each key in its own direction."""

    def compare(one: tuple[Any, ...], other: tuple[Any, ...]) -> int:
        for (_, direction), mine, theirs in zip(sort, one, other, strict=True):
            if mine == theirs:
                continue
            less = mine is None or (theirs is not None and mine < theirs)
            return -1 if less == (direction == "asc") else 1
        return 0

    return functools.cmp_to_key(compare)


def _unplaced(req: Request, asked: Asked, listing: Listing) -> Iterable[Instance]:
    """The servers in no cell yet that the listing's conditions let pass."""
    if listing.deleted or listing.changes_before is not None:
        return []
    with req.cloud.db.connect() as tx:
        requests = build_requests.of_project(tx, asked.project_id)
    order = _order(listing.sort)
    chosen = [each.instance for each in requests if _matches(each.instance, listing)]
    if listing.after is None:
        return chosen
    return [each for each in chosen if order(_values(each, listing)) > order(listing.after)]


def _matches(instance: Instance, listing: Listing) -> bool:
    """Whether a server that is in no cell yet meets conditions which cells put to their databases."""

    for name, values in listing.equal.items():
        if name == "project_id":
            continue
        held = instance.flavor.flavorid if name == "flavorid" else getattr(instance, name)
        if (held.value if hasattr(held, "value") else held) not in values:
            return False
    for name, pattern in listing.patterns.items():
        try:
            if not re.search(pattern, getattr(instance, name) or ""):
                return False
        except re.error:
            raise Invalid(reason=f"Invalid regular expression '{pattern}'") from None
    if listing.statuses is not None and not any(_has_status(instance, status) for status in listing.statuses):
        return False
    if listing.address_patterns or listing.locked:
        return False
    tags = set(instance.tags)
    return (
        tags.issuperset(listing.all_tags)
        and (not listing.any_tags or not tags.isdisjoint(listing.any_tags))
        and (not listing.not_all_tags or not tags.issuperset(listing.not_all_tags))
        and tags.isdisjoint(listing.not_any_tags)
        and listing.metadata.items() <= instance.metadata.items()
        and (listing.changes_since is None or instance.created_at >= listing.changes_since)
    )


def _has_status(instance: Instance, status: StatusFilter) -> bool:
    if instance.vm_state.value != status.vm_state:
        return False
    task = instance.task_state.value if instance.task_state else None
    return (task not in status.tasks) if status.other else (task in status.tasks)


def _owner_only(listing: Listing) -> bool:
    """Whether the mappings can tell which servers of a silent cell are meant: no condition but whose they are."""
    plain = Listing(equal=listing.equal, sort=listing.sort, after=listing.after, limit=listing.limit)
    return listing == plain and listing.after is None and set(listing.equal) <= {"project_id"}


def _known_of(req: Request, asked: Asked, silent_cells: Iterable[int]) -> list[Silent]:
    with req.cloud.db.connect() as tx:
        mappings = instance_mappings.page(tx, project_id=asked.project_id, limit=asked.limit)
    return [_silent(each) for each in mappings if each.cell_id in set(silent_cells)]


def _silent(mapping: InstanceMapping) -> Silent:
    return Silent(mapping.instance_uuid, mapping.project_id, mapping.display_name, mapping.created_at)
