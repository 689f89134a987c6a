"""A page of servers in any order and under any conditions: the sorted pages of the cells, merged.

The cells first say only which servers stand where; the rows of those on the page are then read by key, under the same
conditions. So a list holds little more than its page. A row in transit between two cells is shown once, as the cell
has it that the mapping points at. What turns out not to be there (any more) makes room for the next.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from api_cell.edge.route import Request
from api_cell.lists.merge import Kind, Merge
from api_cell.lists.rows_in_transit import read_whole
from api_cell.servers.lists import marking
from api_cell.servers.lists.query import Asked
from api_cell.servers.lists.rows import Listed, Named, Page, refuse_gaps, shows_silent, silent
from api_cell.servers.lists.unplaced import matches
from cell_service.db import instance_lists
from cell_service.db.instance_lists import Key, Listing, Question
from cell_service.db.sql.sorting import comparable, pads_text
from cell_service.model.instance import Instance
from mapping_db import build_requests, host_mappings, host_moves, instance_mappings
from mapping_db.cells.registry import Cell
from mapping_db.instance_mappings import InstanceMapping


@dataclass(frozen=True, slots=True)
class _Head:
    """A server and its place. `row` None: to be read from the cell that owns it, which `moving` leaves in doubt."""

    uuid: str
    values: tuple[Any, ...]
    cell_id: int | None
    moving: bool = False
    row: Listed | None = None


def page_of(req: Request, asked: Asked) -> Page:
    """The page. Raises Invalid, CellUnavailable."""

    def read() -> tuple[Page, Merge[_Head]]:
        merging = _Merging(req, asked)
        return merging.page(), merging.merge

    return read_whole(req.cloud, read)


class _Merging:
    def __init__(self, req: Request, asked: Asked) -> None:
        self.req, self.limit = req, asked.limit
        self.listing = replace(asked.listing, after=marking.values_of(req, asked.marker, asked.listing.sort))
        self.partial = shows_silent(req) and decidable(self.listing)
        self._gaps: set[int] = set()
        cell_ids = _concerned(req, asked)
        urls = {mapping.id: mapping.database_connection for mapping in req.cloud.cells.all()}
        pads = any(pads_text(urls.get(cell_id, "")) for cell_id in cell_ids)
        self._place = comparable(self.listing.sort, pads=pads)
        self._brief = asked.brief
        self._whole = len(cell_ids) == 1 and not asked.brief
        self._cells: set[int] = set()
        self._first: Question | None = None
        unplaced = self._unplaced(asked.project_id)  # before the cells: who is placed meanwhile is in either
        self.merge = Merge(
            req.cloud.cells, req.ctx.deadline, cell_ids,
            Kind(self._page, lambda head: self._place(head.values), lambda head: head.uuid, self._instead),
            want=asked.limit, beside=unplaced,
        )  # fmt: skip

    def page(self) -> Page:
        found: list[Listed] = []
        heads = iter(self.merge)
        while len(found) < self.limit:
            wanted = self.limit - len(found)
            batch = list(islice(heads, wanted))
            found += self._filled(batch)
            if len(batch) < wanted:
                break
        missing = self._gaps | set(self.merge.failures)
        refuse_gaps(self.req, missing, partial=self.partial)
        return Page(found, len(found) >= self.limit, frozenset(self._cells), frozenset(missing))

    def _page(self, cell: Cell, after: _Head | None, limit: int) -> list[_Head]:
        own = cell.mapping.id
        with cell.db.connect(self.req.ctx.deadline) as tx:
            if self._whole:
                listing = self._from(after, limit)
                return [
                    _Head(each.uuid, self._values(each), own, each.hidden, None if each.hidden else each)
                    for each in instance_lists.page(tx, listing)
                ]
            places = self._asked(after, limit).keys(tx)
        return [_Head(each.uuid, each.values, own, each.hidden, self._shown(each)) for each in places]

    def _shown(self, place: Key) -> Named | None:
        """The server as it is listed, if its place says all that is needed."""
        return Named(place.uuid, place.display_name) if self._brief and not place.hidden else None

    def _from(self, after: _Head | None, limit: int) -> Listing:
        return replace(self.listing, limit=limit, after=after.values if after else self.listing.after)

    def _asked(self, after: _Head | None, limit: int) -> Question:
        """The cells' first pages are one question, which is long in the making."""
        if after is not None:
            return Question(self._from(after, limit))
        if self._first is None:
            self._first = Question(self._from(None, limit))
        return self._first

    def _instead(self, cell_id: int, after: _Head | None, limit: int) -> list[_Head] | None:
        """What the mappings know of a cell that does not answer; None where they can't tell who is meant."""
        if not self.partial:
            return None
        equal, sort = self.listing.equal, self.listing.sort
        with self.req.cloud.db.connect() as tx:
            found = instance_mappings.page_of_cell(
                tx, cell_id, project_ids=equal.get("project_id"), user_ids=equal.get("user_id"),
                uuids=equal.get("uuid"), name_pattern=self.listing.patterns.get("display_name"), sort=sort,
                after=after.values if after else self.listing.after, limit=limit,
            )  # fmt: skip
        return [
            _Head(each.instance_uuid, instance_mappings.sort_values(each, sort), cell_id, row=silent(each))
            for each in found
        ]

    def _unplaced(self, project_id: str | None) -> list[_Head]:
        with self.req.cloud.db.connect() as tx:
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
        asking: dict[str, int] = {}
        for head in heads:
            if head.uuid in owners and owners[head.uuid].cell_id is not None:
                asking[head.uuid] = owners[head.uuid].cell_id or 0
            elif head.row is not None:
                rows[head.uuid] = head.row
                if head.cell_id is not None:
                    self._cells.add(head.cell_id)
            elif not head.moving and head.cell_id is not None:
                asking[head.uuid] = head.cell_id
        for _ in range(2):
            lost = self._read(asking, rows)
            now = self._owners(lost)
            asking = {uuid: each.cell_id for uuid, each in now.items() if each.cell_id not in (None, asking[uuid])}
            if not asking:
                break
        return [rows[head.uuid] for head in heads if head.uuid in rows]

    def _read(self, asking: dict[str, int], rows: dict[str, Listed]) -> list[str]:
        """Add the servers' rows as these cells have them. Answers the uuids of those that are not there."""
        by_cell: dict[int, list[str]] = defaultdict(list)
        for uuid, cell_id in asking.items():
            by_cell[cell_id].append(uuid)

        question = self._first or Question(self.listing)

        def fetch(cell: Cell) -> dict[str, Instance]:
            with cell.db.connect(self.req.ctx.deadline) as tx:
                return question.some(tx, by_cell[cell.mapping.id])

        gathered = self.req.cloud.cells.scatter(by_cell, fetch, self.req.ctx.deadline, reads=True)
        for cell_id, answer in gathered.answers.items():
            rows.update(answer)
            self._cells.add(cell_id)
        self._gaps |= set(gathered.failures)
        silenced = [uuid for cell_id in gathered.failures for uuid in by_cell[cell_id]]
        if silenced and self.partial:
            known = self._owners(silenced).values()
            rows.update({each.instance_uuid: silent(each) for each in known if not each.queued_for_delete})
        return [uuid for uuid, cell_id in asking.items() if uuid not in rows and cell_id not in gathered.failures]

    def _owners(self, uuids: list[str]) -> dict[str, InstanceMapping]:
        if not uuids:
            return {}
        with self.req.cloud.db.connect() as tx:
            return instance_mappings.get_many(tx, uuids)


def decidable(listing: Listing) -> bool:
    """Whether the mappings alone can tell which servers of a silent cell are meant, and where they stand."""
    plain = Listing(
        equal=listing.equal, patterns=listing.patterns, sort=listing.sort, after=listing.after, limit=listing.limit
    )
    return (
        listing == plain
        and set(listing.equal) <= {"project_id", "user_id", "uuid"}
        and set(listing.patterns) <= {"display_name"}
        and {name for name, _ in listing.sort} <= instance_mappings.SORTABLE
    )


def _concerned(req: Request, asked: Asked) -> list[int]:
    """The cells that may have such servers, as far as the mappings can tell."""
    uuids = asked.listing.equal.get("uuid")
    with req.cloud.db.connect() as tx:
        if uuids is not None:
            places = instance_mappings.places(tx, uuids).values()
            return sorted({place.cell_id for place in places if place.cell_id is not None})
        hosts = asked.listing.equal.get("host", ())
        if hosts and asked.listing.deleted is False:
            moving = [move for move in host_moves.every(tx) if move.host in hosts]
            mapped = host_mappings.of_hosts(tx, hosts)
            if {mapping.host for mapping in mapped} == set(hosts):
                there = {cell_id for move in moving for cell_id in (move.source_cell, move.target_cell)}
                return sorted(there.union(mapping.cell_id for mapping in mapped))
        if asked.project_id is not None:
            return instance_mappings.cells_of_project(tx, asked.project_id)
    return [mapping.id for mapping in req.cloud.cells.all()]
