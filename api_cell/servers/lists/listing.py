"""Lists of servers over all cells.

In order of creation and without filters the mappings alone say which servers are on the page: one ordered scan, then
only the cells that own them are queried, by key. Else the sorted pages of the cells are merged. Either way the servers
of a cell that is down are values: each keeps its place, with what its mapping has of it.
"""

from __future__ import annotations

from api_cell.caller import Caller
from api_cell.config import ApiSettings
from api_cell.servers.lists import marking, merging
from api_cell.servers.lists.query import ListQuery
from api_cell.servers.lists.rows import Listed, Named, ServerPage, Unreachable, refuse_gaps, unreachable
from cell_service.context import Deadline
from cell_service.db import instances
from cell_service.model.lifecycle import VmState
from mapping_db import build_requests, instance_mappings
from mapping_db.cells.registry import Cell
from mapping_db.cloud import Cloud
from mapping_db.instance_mappings import InstanceMapping
from mapping_db.locating.routing import Owned, read_owned

__all__ = ["Listed", "Named", "ServerPage", "Unreachable", "page_of"]

FEWEST = 20
"""The least number of mappings that are read at a time, when some turn out to have no server."""


def page_of(cloud: Cloud, settings: ApiSettings, caller: Caller, query: ListQuery) -> ServerPage:
    """The page. Raises Invalid for a marker that is no server, CellUnavailable as configured."""
    if query.limit == 0 or query.nothing:
        return ServerPage([], more=False)
    if query.indexed:
        return _by_index(cloud, settings, caller, query)
    return merging.page_of(cloud, settings, caller, query)


def _by_index(cloud: Cloud, settings: ApiSettings, caller: Caller, query: ListQuery) -> ServerPage:
    """The page in the mappings' own order. Servers that are deleted in their cell, for now or not yet marked gone, are
    left out; the scan then goes on."""
    found: list[Listed] = []
    cells: set[int] = set()
    missing: set[int] = set()
    after = marking.mapping_of(cloud, caller, query.marker)
    rising = query.listing.sort[0][1] == "asc"
    while len(found) < query.limit:
        wanted = max(query.limit - len(found), min(FEWEST, query.limit))
        with cloud.db.connect() as tx:
            mappings = instance_mappings.page(
                tx, project_id=query.project_id, limit=wanted, after=after, rising=rising,
                without_cells=() if query.shows_down_cells else missing,
            )  # fmt: skip
        owned = _read(cloud, caller.ctx.deadline, mappings, brief=query.brief)
        missing |= owned.failures.keys()
        if not query.shows_down_cells:
            refuse_gaps(cloud, settings, owned.failures)
        found += _in_order(mappings, owned, shows_down_cells=query.shows_down_cells)
        cells.update(mapping.cell_id for mapping in mappings if mapping.cell_id is not None)
        if len(mappings) < wanted:
            break
        after = mappings[-1]
    del found[query.limit :]
    return ServerPage(found, len(found) >= query.limit, frozenset(cells), frozenset(missing))


def _in_order(mappings: list[InstanceMapping], owned: Owned[Listed], *, shows_down_cells: bool) -> list[Listed]:
    """The servers of these mappings, without those that are gone."""
    unread = set(owned.unread) if shows_down_cells else set()
    listed: list[Listed] = []
    for mapping in mappings:
        row = owned.rows.get(mapping.instance_uuid)
        if row is not None:
            listed.append(row)
        elif mapping.instance_uuid in unread and not mapping.queued_for_delete:
            listed.append(unreachable(mapping))
    return listed


def _read(cloud: Cloud, deadline: Deadline, mappings: list[InstanceMapping], *, brief: bool) -> Owned[Listed]:
    """The living ones of these servers, as their cells have them."""

    def fetch(cell: Cell, uuids: list[str]) -> dict[str, Listed]:
        with cell.db.connect(deadline) as tx:
            if brief:
                return {uuid: Named(uuid, name) for uuid, name in instances.get_names(tx, uuids).items()}
            living = instances.get_many(tx, uuids)
        return {uuid: each for uuid, each in living.items() if each.vm_state is not VmState.SOFT_DELETED}

    def unplaced(uuids: list[str]) -> dict[str, Listed]:
        with cloud.db.connect() as tx:
            requests = build_requests.get_many(tx, uuids)
        return {uuid: each.instance for uuid, each in requests.items() if not each.delete_requested}

    places = {mapping.instance_uuid: mapping.cell_id for mapping in mappings}
    return read_owned(cloud, places, fetch, deadline, unplaced)
