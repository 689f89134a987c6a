"""Hypervisors: the compute nodes of every cell. Those of a cell that is down are missing from lists, never "not
found"."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from typing import Any

from sqlalchemy import Connection, select

from api_cell import cell_queries
from api_cell.cell_queries import CellAnswers
from api_cell.compute import behaviours
from api_cell.compute.hosts.hypervisor_views import Servers, brief, full, sizes
from api_cell.compute.hosts.services import is_up
from api_cell.edge import missing_cells as missing
from api_cell.edge.links import next_link, page_marker, page_size
from api_cell.edge.route import Request, Response
from api_cell.edge.shapes import is_true
from api_cell.lists.merge import MOST_ROWS, Merge, RowSource
from cell_service.db import compute_nodes, services
from cell_service.db.schema import instances
from cell_service.errors import ComputeHostNotFound, Invalid, NotFound, NotSupported
from cell_service.model.host import ComputeNode, Service
from mapping_db.cells.registry import Cell

View = Callable[[Request, ComputeNode, Service | None, Servers | None], dict[str, Any]]
_SUMMED = ("vcpus", "vcpus_used", "memory_mb", "memory_mb_used", "free_ram_mb", "local_gb", "local_gb_used",
           "free_disk_gb", "disk_available_least", "current_workload", "running_vms")  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Found:
    """A node with its service, and (where requested) the servers it runs."""

    node: ComputeNode
    service: Service | None
    servers: Servers | None = None


def index(req: Request) -> Response:
    """200 {"hypervisors": [{"id", "hypervisor_hostname", "state", "status"}, ...]}."""
    return _list(req, "/os-hypervisors", brief)


def detail(req: Request) -> Response:
    """200 {"hypervisors": [{...}, ...]}."""
    return _list(req, "/os-hypervisors/detail", full)


def show(req: Request) -> Response:
    """200 {"hypervisor": {...}}."""
    found = _one(req, with_servers=_with_servers(req))
    return Response(200, {"hypervisor": full(req, found.node, found.service, found.servers)})


def uptime(req: Request) -> Response:
    """200 {"hypervisor": {..., "uptime"}}, up to 2.87; 400 when the host is down, 501 when it does not know."""
    found = _one(req, with_servers=False)
    if found.service is None or not is_up(req, found.service):
        raise Invalid(reason=f"Service is unavailable at this time: host {found.node.host} is down.")
    if found.node.report.uptime is None:
        raise NotSupported(reason="The host's hypervisor does not tell its uptime.")
    return Response(200, {"hypervisor": brief(req, found.node, found.service) | {"uptime": found.node.report.uptime}})


def search(req: Request) -> Response:
    """200 {"hypervisors": [...]} whose name contains the text, up to 2.52; 404 when there are none."""
    answers = _matching(req, False)
    views = [brief(req, f.node, f.service) for _, f in answers.found]
    return Response(200, {"hypervisors": views}, missing.header(req, answers.down))


def servers(req: Request) -> Response:
    """200 {"hypervisors": [...]} whose name contains the text, with their servers, up to 2.52."""
    answers = _matching(req, True)
    views = [brief(req, f.node, f.service, f.servers) for _, f in answers.found]
    return Response(200, {"hypervisors": views}, missing.header(req, answers.down))


def statistics(req: Request) -> Response:
    """200 {"hypervisor_statistics": {...}}: sums over all hypervisors, up to 2.87."""
    answers = _settled(
        req, cell_queries.query_cells(req.cloud, req.ctx, lambda tx: _with(tx, compute_nodes.list_all(tx), False))
    )
    views = [sizes(found.node.report) for _, found in answers.found]
    sums: dict[str, int] = {name: sum(view[name] or 0 for view in views) for name in _SUMMED}
    statistics = {"count": len(views), **sums}
    return Response(200, {"hypervisor_statistics": statistics}, missing.header(req, answers.down))


def _list(req: Request, path: str, view: View) -> Response:
    paged = behaviours.HYPERVISORS_IN_PAGES.at(req.version)
    pattern = req.one("hypervisor_hostname_pattern")
    if pattern is not None and ("limit" in req.query or "marker" in req.query):
        raise Invalid(
            reason="Paging over hypervisors with the hypervisor_hostname_pattern query parameter is not supported."
        )
    most = page_size(req, req.services.settings.api.max_limit) if paged else None
    if most == 0:
        return Response(200, {"hypervisors": []})
    answers = _ask(req, pattern, _with_servers(req), after=_marker(req) if paged else None, most=most)
    found = [one for _, one in answers.found]
    if pattern is not None:
        _demand_some(req, answers, pattern)
    body: dict[str, Any] = {"hypervisors": [view(req, f.node, f.service, f.servers) for f in found]}
    if found and len(found) == most and pattern is None:
        body["hypervisors_links"] = next_link(req, path, str(body["hypervisors"][-1]["id"]))
    return Response(200, body, missing.header(req, answers.down))


def _marker(req: Request) -> tuple[int, int] | None:
    """The number and the cell of the marker's node. Raises Invalid; CellUnavailable when a cell is down that may
    have it."""
    marker = page_marker(req)
    if marker is None:
        return None
    nothing = NotFound(reason=f"marker [{marker}] not found")
    try:
        cell_id, found = cell_queries.only_one(req.cloud, _named(req, marker), nothing)
    except NotFound:
        raise Invalid(reason=str(nothing)) from None
    return found.node.id, cell_id


def _one(req: Request, *, with_servers: bool) -> _Found:
    node_id = req.params["id"]
    nothing = NotFound(reason=f"Hypervisor with ID '{node_id}' could not be found.")
    return cell_queries.only_one(req.cloud, _named(req, node_id, with_servers=with_servers), nothing)[1]


def _named(req: Request, node_id: str, *, with_servers: bool = False) -> CellAnswers[_Found]:
    """The node with this uuid, or (up to 2.52) those with this number."""
    by_uuid = behaviours.HYPERVISORS_BY_UUID.at(req.version)
    if not by_uuid and (not node_id.isdecimal() or len(node_id) > 9):
        return CellAnswers([], [])

    def question(tx: Connection) -> list[_Found]:
        try:
            node = compute_nodes.by_uuid(tx, node_id) if by_uuid else compute_nodes.by_id(tx, int(node_id))
        except ComputeHostNotFound:
            return []
        return _with(tx, [node], with_servers)

    return _settled(req, cell_queries.query_cells(req.cloud, req.ctx, question))


def _settled(req: Request, answers: CellAnswers[_Found]) -> CellAnswers[_Found]:
    return CellAnswers(list(cell_queries.settled(req.cloud, answers.found, lambda found: found.service)), answers.down)


def _matching(req: Request, with_servers: bool) -> CellAnswers[_Found]:
    answers = _ask(req, req.params["id"], with_servers)
    _demand_some(req, answers, req.params["id"])
    return answers


def _demand_some(req: Request, answers: CellAnswers[_Found], pattern: str) -> None:
    """Raises NotFound when nothing was found, and CellUnavailable while a cell that is down may have something."""
    if not answers.found:
        cell_queries.only_one(
            req.cloud, answers, NotFound(reason=f"No hypervisor matching '{pattern}' could be found.")
        )


def _ask(
    req: Request,
    pattern: str | None,
    with_servers: bool,
    *,
    after: tuple[int, int] | None = None,
    most: int | None = None,
) -> CellAnswers[_Found]:
    """The next hypervisors, by their numbers; those of one number, which each cell may have, by cell."""

    def page(cell: Cell, last: tuple[int, _Found] | None, limit: int) -> list[tuple[int, _Found]]:
        own = cell.mapping.id
        behind = 0 if after is None else after[0] if own > after[1] else after[0] + 1
        start = last[1].node.id + 1 if last is not None else behind
        with cell.db.connect(req.ctx.deadline) as tx:
            nodes = compute_nodes.page(tx, start=start, limit=limit, pattern=pattern)
            return [(own, found) for found in _with(tx, nodes, with_servers)]

    merged = Merge(
        req.cloud.cells,
        req.ctx.deadline,
        [mapping.id for mapping in req.cloud.cells.all() if not mapping.is_cell0],
        RowSource(page, lambda row: (row[1].node.id, row[0]), lambda row: (row[0], row[1].node.id)),
        want=most or MOST_ROWS,
    )
    found = list(islice(cell_queries.settled(req.cloud, merged, lambda found: found.service), most))
    return CellAnswers(found, sorted(merged.failures))


def _with(tx: Connection, nodes: list[ComputeNode], with_servers: bool) -> list[_Found]:
    known = {service.id: service for service in services.list_all(tx, binary=services.COMPUTE)}
    running = _servers(tx, nodes) if with_servers else None
    return [
        _Found(node, known.get(node.service_id), None if running is None else running[node.host, node.report.node])
        for node in nodes
    ]


def _servers(tx: Connection, nodes: list[ComputeNode]) -> dict[tuple[str, str], Servers]:
    """The instances of these nodes, by host and node."""
    query = (
        select(instances.c.host, instances.c.node, instances.c.uuid, instances.c.display_name)
        .where(instances.c.deleted_at.is_(None), instances.c.host.in_(sorted({node.host for node in nodes})))
        .order_by(instances.c.id)
    )
    running: dict[tuple[str, str], Servers] = defaultdict(list)
    for row in tx.execute(query):
        running[row.host, row.node].append({"uuid": row.uuid, "name": row.display_name})
    return running


def _with_servers(req: Request) -> bool:
    return behaviours.HYPERVISORS_WITH_SERVERS.at(req.version) and is_true(req.one("with_servers", "false"))
