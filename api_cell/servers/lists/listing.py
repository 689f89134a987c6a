"""Lists of servers over all cells.

In order of creation and without filters the mappings alone say which servers are on the page: one ordered scan, then
only the cells that own them are asked, by key. Else the sorted pages of the cells are merged. Either way the servers
of a silent cell are values: they stand in their places as what the mappings say of them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from api_cell.edge.route import Request
from api_cell.servers.lists import marking, merging
from api_cell.servers.lists.query import Asked
from api_cell.servers.lists.rows import Listed, Named, Page, Silent, refuse_gaps, shows_silent, silent
from cell_service.db import instances
from cell_service.model.lifecycle import VmState
from mapping_db import build_requests, instance_mappings
from mapping_db.cells.registry import Cell
from mapping_db.instance_mappings import InstanceMapping

__all__ = ["Listed", "Named", "Page", "Silent", "page_of"]

FEWEST = 20
"""So many mappings are read at a time at least, when some turn out to have nothing behind them."""


def page_of(req: Request, asked: Asked) -> Page:
    """The page that was asked for. Raises Invalid for a marker that is no server, CellUnavailable as configured."""
    if asked.limit == 0 or asked.nothing:
        return Page([], more=False)
    return _by_index(req, asked) if asked.indexed else merging.page_of(req, asked)


def _by_index(req: Request, asked: Asked) -> Page:
    """Servers that are deleted in their cell, for now or not yet marked gone, are left out; the scan then goes on."""
    found: list[Listed] = []
    cells: set[int] = set()
    missing: set[int] = set()
    after = marking.mapping_of(req, asked.marker)
    rising = asked.listing.sort[0][1] == "asc"
    while len(found) < asked.limit:
        wanted = max(asked.limit - len(found), min(FEWEST, asked.limit))
        with req.cloud.db.connect() as tx:
            mappings = instance_mappings.page(
                tx, project_id=asked.project_id, limit=wanted, after=after, rising=rising,
                without_cells=() if shows_silent(req) else missing,
            )  # fmt: skip
        listed, failed = _fetched(req, mappings, brief=asked.brief)
        missing |= failed
        refuse_gaps(req, failed, partial=shows_silent(req))
        found += [each for each in listed if shows_silent(req) or not isinstance(each, Silent)]
        cells.update(mapping.cell_id for mapping in mappings if mapping.cell_id is not None)
        if len(mappings) < wanted:
            break
        after = mappings[-1]
    del found[asked.limit :]
    return Page(found, len(found) >= asked.limit, frozenset(cells), frozenset(missing))


def _fetched(req: Request, mappings: list[InstanceMapping], *, brief: bool) -> tuple[list[Listed], set[int]]:
    """The servers of these mappings, in the same order, without those that are gone; and the cells that were silent."""
    current = {mapping.instance_uuid: mapping for mapping in mappings}
    known: dict[str, Listed] = {}
    silent_cells: set[int] = set()
    asking: Iterable[InstanceMapping] = mappings
    for _ in range(2):
        failed = _look(req, asking, known, brief=brief)
        silent_cells |= failed
        lost = [each.instance_uuid for each in asking if each.instance_uuid not in known and each.cell_id not in failed]
        asking = _elsewhere(req, lost, current)
        if not asking:
            break
        current.update({each.instance_uuid: each for each in asking})
    listed: list[Listed] = []
    for mapping in map(current.__getitem__, (each.instance_uuid for each in mappings)):
        if mapping.instance_uuid in known:
            listed.append(known[mapping.instance_uuid])
        elif mapping.cell_id in silent_cells and not mapping.queued_for_delete:
            listed.append(silent(mapping))
    return listed, silent_cells


def _look(req: Request, mappings: Iterable[InstanceMapping], known: dict[str, Listed], *, brief: bool) -> set[int]:
    """Add the living ones of these servers to `known`. Answers the cells that were silent."""
    by_cell: dict[int, list[str]] = defaultdict(list)
    unplaced = []
    for mapping in mappings:
        if mapping.cell_id is None:
            unplaced.append(mapping.instance_uuid)
        else:
            by_cell[mapping.cell_id].append(mapping.instance_uuid)

    def fetch(cell: Cell) -> dict[str, Listed]:
        uuids = by_cell[cell.mapping.id]
        with cell.db.connect(req.ctx.deadline) as tx:
            if brief:
                return {uuid: Named(uuid, name) for uuid, name in instances.get_names(tx, uuids).items()}
            living = instances.get_many(tx, uuids)
        return {uuid: each for uuid, each in living.items() if each.vm_state is not VmState.SOFT_DELETED}

    gathered = req.cloud.cells.scatter(by_cell, fetch, req.ctx.deadline, reads=True)
    for answer in gathered.answers.values():
        known.update(answer)
    if unplaced:
        with req.cloud.db.connect() as tx:
            requests = build_requests.get_many(tx, unplaced)
        known.update({uuid: each.instance for uuid, each in requests.items() if not each.delete_requested})
    return set(gathered.failures)


def _elsewhere(req: Request, uuids: list[str], asked: dict[str, InstanceMapping]) -> list[InstanceMapping]:
    """The mappings of those of the servers that are in another cell by now than the one that was asked."""
    if not uuids:
        return []
    with req.cloud.db.connect() as tx:
        now = instance_mappings.get_many(tx, uuids)
    return [each for uuid, each in now.items() if each.cell_id is not None and each.cell_id != asked[uuid].cell_id]
