"""The checks of `polycell-status upgrade check`, each by itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import IntEnum

from cell_service.context import Context, Deadline, new_request_id
from cell_service.db import compute_nodes
from cell_service.db import upgrades as cell_schema
from cell_service.errors import PolycellError
from cell_service.peers.settings import PlacementSettings
from mapping_db import cell_mappings, host_mappings
from mapping_db import upgrades as migrate
from mapping_db.cell_mappings import CellMapping
from mapping_db.cells.registry import Cell
from mapping_db.cloud import Cloud
from tools.manage.failures import explained
from tools.manage.settings import Settings

ASK_SECONDS = 10.0
MIN_PLACEMENT = (1, 36)
"""The version that nova of the same wire requires (25.0.0)."""


class Level(IntEnum):
    """Also the exit code."""

    SUCCESS = 0
    WARNING = 1
    FAILURE = 2


@dataclass(frozen=True, slots=True)
class Result:
    """`details` is None when there is nothing to say."""

    check: str
    level: Level
    details: str | None = None


@dataclass(frozen=True, slots=True)
class CellAnswer:
    """One cell's answer: its schema version, why its queue does not answer, nodes by whether they are mapped."""

    version: str | None
    queue: str | None
    mapped: int
    unmapped: int


def every(cloud: Cloud, settings: Settings) -> list[Result]:
    """The results of all checks; what could not be checked is a failure that says so."""
    first = global_database(cloud)
    if first.level is Level.FAILURE:
        return [first, placement(settings.placement)]
    with cloud.db.connect() as tx:
        mappings = cell_mappings.every(tx)
        hosts = sum(host_mappings.counts(tx).values())
    answers, failures = ask_cells(cloud, mappings)
    return [
        first,
        cells_mapped(mappings),
        *(cell(mapping, answers.get(mapping.id), failures.get(mapping.id)) for mapping in mappings),
        hosts_mapped(mappings, answers, hosts),
        placement(settings.placement),
    ]


def global_database(cloud: Cloud) -> Result:
    name = "Global database"
    newest = cell_schema.newest(migrate.GLOBAL)
    try:
        found = cell_schema.version(cloud.db)
    except PolycellError as error:
        return Result(name, Level.FAILURE, explained(error))
    if found != newest:
        return Result(name, Level.FAILURE, f"Schema is {found or 'missing'}, not {newest}: run api_db sync.")
    return Result(name, Level.SUCCESS)


def cells_mapped(mappings: tuple[CellMapping, ...]) -> Result:
    name = "Cell mappings"
    if not any(each.is_cell0 for each in mappings):
        return Result(name, Level.FAILURE, "cell0 is not mapped: run cell_v2 map_cell0.")
    if all(each.is_cell0 for each in mappings):
        return Result(name, Level.FAILURE, "No cell is mapped but cell0: run cell_v2 create_cell.")
    if all(each.disabled for each in mappings if not each.is_cell0):
        return Result(name, Level.WARNING, "All cells are disabled: nothing can be scheduled.")
    return Result(name, Level.SUCCESS)


def cell(mapping: CellMapping, answer: CellAnswer | None, failure: PolycellError | None) -> Result:
    name = f"Cell {mapping.shown}"
    if answer is None:
        reason = str(failure) + (f" ({failure.fields['reason']})" if failure and "reason" in failure.fields else "")
        level = Level.WARNING if mapping.disabled else Level.FAILURE
        return Result(name, level, ("It is disabled. " if mapping.disabled else "") + reason)
    newest = cell_schema.newest()
    if answer.version != newest:
        return Result(name, Level.FAILURE, f"Schema is {answer.version or 'missing'}, not {newest}: run db sync.")
    if answer.queue is not None:
        level = Level.WARNING if mapping.disabled else Level.FAILURE
        return Result(name, level, f"Its queue does not answer: {answer.queue}")
    return Result(name, Level.SUCCESS)


def hosts_mapped(mappings: tuple[CellMapping, ...], answers: Mapping[int, CellAnswer], hosts: int) -> Result:
    name = "Host mappings"
    waiting = {each.shown: answers[each.id].unmapped for each in mappings if each.id in answers}
    unmapped = {shown: count for shown, count in waiting.items() if count}
    nodes = sum(answer.mapped + answer.unmapped for answer in answers.values())
    if nodes and not hosts:
        return Result(name, Level.FAILURE, f"{nodes} compute nodes and no host mapping: run cell_v2 discover_hosts.")
    if unmapped:
        named = ", ".join(f"{count} in {shown}" for shown, count in unmapped.items())
        return Result(
            name, Level.WARNING, f"Compute nodes that are not mapped yet: {named}. Run cell_v2 discover_hosts."
        )
    if not nodes:
        return Result(name, Level.SUCCESS, "No cell has reported a compute node.")
    return Result(name, Level.SUCCESS)


def placement(settings: PlacementSettings) -> Result:
    name = "Placement API"
    if not settings.auth_url and not settings.endpoint_override:
        return Result(name, Level.SUCCESS, "[placement] is not configured here, so it was not checked.")
    from cell_service.peers.session import Peer  # the client of the HTTP services costs half a second

    try:
        ctx = Context(request_id=new_request_id(), is_admin=True, deadline=Deadline.after(ASK_SECONDS))
        reply = Peer("placement", settings).ask(ctx, "GET", "/")
        newest = tuple(int(part) for part in reply.json["versions"][0]["max_version"].split("."))
    except PolycellError as error:
        return Result(name, Level.FAILURE, explained(error))
    except (KeyError, IndexError, TypeError, ValueError, AttributeError):
        return Result(name, Level.FAILURE, "What answers at the endpoint is not the Placement API.")
    if newest < MIN_PLACEMENT:
        return Result(name, Level.FAILURE, f"It speaks up to {newest[0]}.{newest[1]}; 1.36 is needed.")
    return Result(name, Level.SUCCESS)


def ask_cells(
    cloud: Cloud, mappings: tuple[CellMapping, ...]
) -> tuple[Mapping[int, CellAnswer], Mapping[int, PolycellError]]:
    """All cells at once, by one deadline."""
    deadline = Deadline.after(ASK_SECONDS, cloud.clock)
    ask: Callable[[Cell], CellAnswer] = lambda cell: _ask(cell, deadline)  # noqa: E731
    gathered = cloud.cells.scatter([each.id for each in mappings], ask, deadline)
    return gathered.answers, gathered.failures


def _ask(cell: Cell, deadline: Deadline) -> CellAnswer:
    with cell.db.connect(deadline) as tx:
        version = cell_schema.stored_version(tx)
        nodes = compute_nodes.list_all(tx) if version == cell_schema.newest() else []
    queue = None
    if not cell.mapping.is_cell0:
        try:
            cell.bus.ping(timeout=deadline.sooner(ASK_SECONDS / 2).remaining())
        except PolycellError as error:
            queue = explained(error)
    mapped = sum(node.mapped for node in nodes)
    return CellAnswer(version, queue, mapped, len(nodes) - mapped)
