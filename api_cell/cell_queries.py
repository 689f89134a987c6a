"""Queries to every cell for its services or hypervisors. A cell that is down is named in the result."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from sqlalchemy import Connection

from cell_service.context import Context
from cell_service.errors import CellUnavailable, NotFound
from cell_service.model.host import Service
from mapping_db import aggregates, host_mappings
from mapping_db.cells.registry import Cell
from mapping_db.cloud import Cloud

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class CellAnswers(Generic[T]):
    """The cells' results, by cell id and in each cell's own order, and the ids of the cells that were down."""

    found: list[tuple[int, T]]
    down: list[int]


def query_services(
    cloud: Cloud, ctx: Context, question: Callable[[Connection], list[Service]], *, above: bool = False
) -> CellAnswers[Service]:
    """Services of every cell, each once; `above`: also those above the cells, which are stored in cell0."""
    answers = query_cells(cloud, ctx, question, cell0=above)
    return CellAnswers(list(settled(cloud, answers.found, lambda service: service)), answers.down)


def query_cells(
    cloud: Cloud, ctx: Context, question: Callable[[Connection], list[T]], *, cell0: bool = False
) -> CellAnswers[T]:
    """Run the query on every cell, on cell0 if that is wanted."""

    def ask(cell: Cell) -> list[T]:
        with cell.db.connect(ctx.deadline) as tx:
            return question(tx)

    ids = [mapping.id for mapping in cloud.cells.all() if cell0 or not mapping.is_cell0]
    gathered = cloud.cells.scatter(ids, ask, ctx.deadline)
    found = [(cell_id, item) for cell_id in sorted(gathered.answers) for item in gathered.answers[cell_id]]
    return CellAnswers(found, sorted(gathered.failures))


def settled(
    cloud: Cloud, found: Iterable[tuple[int, T]], service_of: Callable[[T], Service | None]
) -> Iterator[tuple[int, T]]:  # fmt: skip
    """Keep only the rows of the cell that a host's mapping names: while a host moves, both cells list it."""
    places: dict[str, int | None] = {}
    for cell_id, item in found:
        service = service_of(item)
        if service is not None and service.leaving:
            if service.host not in places:
                places[service.host] = _cell_of(cloud, service.host)
            if places[service.host] not in (None, cell_id):
                continue
        yield cell_id, item


def _cell_of(cloud: Cloud, host: str) -> int | None:
    with cloud.db.connect() as tx:
        return next((mapping.cell_id for mapping in host_mappings.of_hosts(tx, [host])), None)


def only_one(cloud: Cloud, answers: CellAnswers[T], nothing: NotFound) -> tuple[int, T]:
    """The first thing that was found, with its cell.

    Raises `nothing`, but CellUnavailable while a cell that is down may have it.
    """
    if answers.found:
        return answers.found[0]
    if answers.down:
        raise CellUnavailable(cell=cloud.cells.names(answers.down))
    raise nothing


def hosts_of(cloud: Cloud, cell_ids: list[int]) -> list[str]:
    """The compute hosts that the mappings know in these cells: what is known of cells that are down."""
    if not cell_ids:
        return []
    with cloud.db.connect() as tx:
        return [mapping.host for cell_id in cell_ids for mapping in host_mappings.every(tx, cell_id)]


def zones(cloud: Cloud) -> dict[str, str]:
    """Host → availability zone, for the hosts that an aggregate puts in one."""
    with cloud.db.connect() as tx:
        return aggregates.zones(tx)
