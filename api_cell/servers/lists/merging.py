"""A page of servers in any order and under any conditions: the sorted pages of the cells, merged.

The cells first return only the places of servers in the order; the rows of those on the page are then read by key,
under the same conditions. So a list keeps little more than its page. A row in transit between two cells is shown once,
as the cell has it that the mapping points at. A server that is not there (any more) is replaced by the next.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from api_cell.caller import Caller
from api_cell.config import ApiSettings
from api_cell.lists.merge import Merge, RowSource
from api_cell.lists.rows_in_transit import read_whole
from api_cell.servers.lists import marking
from api_cell.servers.lists.query import ListQuery
from api_cell.servers.lists.rows import Listed, Named, ServerPage, refuse_gaps, unreachable
from api_cell.servers.lists.unplaced import matches
from cell_service.db import instance_lists
from cell_service.db.instance_lists import Key, Listing, Question
from cell_service.db.sql.sorting import comparable, pads_text
from cell_service.model.instance import Instance
from mapping_db import build_requests, host_mappings, host_moves, instance_mappings
from mapping_db.cells.registry import Cell
from mapping_db.cloud import Cloud
from mapping_db.instance_mappings import InstanceMapping
from mapping_db.locating.routing import read_owned


@dataclass(frozen=True, slots=True)
class _Head:
    """A server and its place. `row` None: to be read from the cell that owns it, which `moving` leaves in doubt."""

    uuid: str
    values: tuple[Any, ...]
    cell_id: int | None
    moving: bool = False
    row: Listed | None = None


def page_of(cloud: Cloud, settings: ApiSettings, caller: Caller, query: ListQuery) -> ServerPage:
    """The page. Raises Invalid, CellUnavailable."""

    def read() -> tuple[ServerPage, Merge[_Head]]:
        merging = _Merging(cloud, caller, query)
        page = merging.page()
        if not merging.partial:
            refuse_gaps(cloud, settings, page.missing)
        return page, merging.merge

    return read_whole(cloud, read)


class _Merging:
    def __init__(self, cloud: Cloud, caller: Caller, query: ListQuery) -> None:
        self.cloud, self.limit = cloud, query.limit
        self._deadline = caller.ctx.deadline
        self.listing = replace(query.listing, after=marking.values_of(cloud, caller, query.marker, query.listing.sort))
        self.partial = query.shows_down_cells and decidable(self.listing)
        self._gaps: set[int] = set()
        cell_ids = _concerned(cloud, query)
        urls = {mapping.id: mapping.database_connection for mapping in cloud.cells.all()}
        pads = any(pads_text(urls.get(cell_id, "")) for cell_id in cell_ids)
        self._place = comparable(self.listing.sort, pads=pads)
        self._brief = query.brief
        self._whole = len(cell_ids) == 1 and not query.brief
        self._cells: set[int] = set()
        self._first: Question | None = None
        unplaced = self._unplaced(query.project_id)  # before the cells: a server that is placed meanwhile is in either
        self.merge = Merge(
            cloud.cells, self._deadline, cell_ids,
            RowSource(self._page, lambda head: self._place(head.values), lambda head: head.uuid, self._instead),
            want=query.limit, alongside=unplaced,
        )  # fmt: skip

    def page(self) -> ServerPage:
        found: list[Listed] = []
        heads = iter(self.merge)
        while len(found) < self.limit:
            wanted = self.limit - len(found)
            batch = list(islice(heads, wanted))
            found += self._filled(batch)
            if len(batch) < wanted:
                break
        missing = self._gaps | set(self.merge.failures)
        return ServerPage(found, len(found) >= self.limit, frozenset(self._cells), frozenset(missing))

    def _page(self, cell: Cell, after: _Head | None, limit: int) -> list[_Head]:
        own = cell.mapping.id
        with cell.db.connect(self._deadline) as tx:
            if self._whole:
                listing = self._from(after, limit)
                return [
                    _Head(each.uuid, self._values(each), own, each.hidden, None if each.hidden else each)
                    for each in instance_lists.page(tx, listing)
                ]
            places = self._question(after, limit).keys(tx)
        return [_Head(each.uuid, each.values, own, each.hidden, self._shown(each)) for each in places]

    def _shown(self, place: Key) -> Named | None:
        """The server as it is listed, if its place says all that is needed."""
        return Named(place.uuid, place.display_name) if self._brief and not place.hidden else None

    def _from(self, after: _Head | None, limit: int) -> Listing:
        return replace(self.listing, limit=limit, after=after.values if after else self.listing.after)

    def _question(self, after: _Head | None, limit: int) -> Question:
        """The cells' first pages are one query, which takes long to build."""
        if after is not None:
            return Question(self._from(after, limit))
        if self._first is None:
            self._first = Question(self._from(None, limit))
        return self._first

    def _instead(self, cell_id: int, after: _Head | None, limit: int) -> list[_Head] | None:
        """The rows of a cell that does not answer, as the mappings know them; None where they don't say which servers
        are meant."""
        if not self.partial:
            return None
        equal, sort = self.listing.equal, self.listing.sort
        with self.cloud.db.connect() as tx:
            found = instance_mappings.page_of_cell(
                tx, cell_id, project_ids=equal.get("project_id"), user_ids=equal.get("user_id"),
                uuids=equal.get("uuid"), name_pattern=self.listing.patterns.get("display_name"), sort=sort,
                after=after.values if after else self.listing.after, limit=limit,
            )  # fmt: skip
        return [
            _Head(each.instance_uuid, instance_mappings.sort_values(each, sort), cell_id, row=unreachable(each))
            for each in found
        ]

    def _unplaced(self, project_id: str | None) -> list[_Head]:
        with self.cloud.db.connect() as tx:
            requests = build_requests.of_project(tx, project_id)
        after = None if self.listing.after is None else self._place(self.listing.after)
        heads = [
            _Head(each.instance_uuid, self._values(each.instance), None, moving=True, row=each.instance)
            for each in requests
            if matches(each.instance, self.listing)
        ]
        return [head for head in heads if after is None or self._place(head.values) > after]

    def _values(self, instance: Instance) -> tuple[Any, ...]:
        return instance_lists.sort_values(instance, self.listing.sort)

    # -- from places to rows ------------------------------------------------------------------------

    def _filled(self, heads: list[_Head]) -> list[Listed]:
        """The servers of these places, in the same order, without those that are not there any more."""
        owners = self._owners([head.uuid for head in heads if head.moving])
        rows: dict[str, Listed] = {}
        places: dict[str, int | None] = {}
        for head in heads:
            owner = owners.get(head.uuid)
            if owner is not None and owner.cell_id is not None:
                places[head.uuid] = owner.cell_id
            elif head.row is not None:
                rows[head.uuid] = head.row
                if head.cell_id is not None:
                    self._cells.add(head.cell_id)
            elif not head.moving and head.cell_id is not None:
                places[head.uuid] = head.cell_id
        question = self._first or Question(self.listing)

        def fetch(cell: Cell, uuids: list[str]) -> dict[str, Listed]:
            with cell.db.connect(self._deadline) as tx:
                return dict(question.some(tx, uuids))

        owned = read_owned(self.cloud, places, fetch, self._deadline)
        self._cells |= owned.cells
        self._gaps |= owned.failures.keys()
        rows.update(owned.rows)
        if owned.unread and self.partial:
            known = self._owners(owned.unread).values()
            rows.update({each.instance_uuid: unreachable(each) for each in known if not each.queued_for_delete})
        return [rows[head.uuid] for head in heads if head.uuid in rows]

    def _owners(self, uuids: list[str]) -> dict[str, InstanceMapping]:
        if not uuids:
            return {}
        with self.cloud.db.connect() as tx:
            return instance_mappings.get_many(tx, uuids)


def decidable(listing: Listing) -> bool:
    """Whether the mappings alone decide which servers of a cell that is down are meant, and their order."""
    plain = Listing(
        equal=listing.equal, patterns=listing.patterns, sort=listing.sort, after=listing.after, limit=listing.limit
    )
    return (
        listing == plain
        and set(listing.equal) <= {"project_id", "user_id", "uuid"}
        and set(listing.patterns) <= {"display_name"}
        and {name for name, _ in listing.sort} <= instance_mappings.SORTABLE
    )


def _concerned(cloud: Cloud, query: ListQuery) -> list[int]:
    """The cells that may have such servers, as far as the mappings say."""
    uuids = query.listing.equal.get("uuid")
    with cloud.db.connect() as tx:
        if uuids is not None:
            places = instance_mappings.places(tx, uuids).values()
            return sorted({place.cell_id for place in places if place.cell_id is not None})
        hosts = query.listing.equal.get("host", ())
        if hosts and query.listing.deleted is False:
            moving = [move for move in host_moves.every(tx) if move.host in hosts]
            mapped = host_mappings.of_hosts(tx, hosts)
            if {mapping.host for mapping in mapped} == set(hosts):
                there = {cell_id for move in moving for cell_id in (move.source_cell, move.target_cell)}
                return sorted(there.union(mapping.cell_id for mapping in mapped))
        if query.project_id is not None:
            return instance_mappings.cells_of_project(tx, query.project_id)
    return [mapping.id for mapping in cloud.cells.all()]
