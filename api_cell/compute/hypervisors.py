"""Hypervisors: the compute nodes of every cell. Those of silent cells are missing from lists, but never "not found"."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, select

from api_cell.compute.hypervisor_views import Servers, brief, full, sizes
from api_cell.compute.services import is_up
from api_cell.edge.links import next_link, page_size
from api_cell.edge.route import Request, Response
from api_cell.edge.shapes import is_true
from api_cell.hosts import ask
from cell_service.db import compute_nodes, services
from cell_service.db.schema import instances
from cell_service.errors import ComputeHostNotFound, Invalid, NotFound, NotSupported
from cell_service.model.host import ComputeNode, Service

View = Callable[[Request, ComputeNode, Service | None, Servers | None], dict[str, Any]]
_SUMMED = ("vcpus", "vcpus_used", "memory_mb", "memory_mb_used", "free_ram_mb", "local_gb", "local_gb_used",
           "free_disk_gb", "disk_available_least", "current_workload", "running_vms")  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Found:
    """A node with its service, and (where asked for) the servers it runs."""

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
    """200 {"hypervisor": {..., "uptime"}}, up to 2.87; 400 when the host is down, 501 when it can't tell."""
    found = _one(req, with_servers=False)
    if found.service is None or not is_up(req, found.service):
        raise Invalid(reason=f"Service is unavailable at this time: host {found.node.host} is down.")
    if found.node.report.uptime is None:
        raise NotSupported(reason="The host's hypervisor does not tell its uptime.")
    return Response(200, {"hypervisor": brief(req, found.node, found.service) | {"uptime": found.node.report.uptime}})


def search(req: Request) -> Response:
    """200 {"hypervisors": [...]} whose name contains the text, up to 2.52; 404 when there are none."""
    return Response(200, {"hypervisors": [brief(req, f.node, f.service) for f in _matching(req, False)]})


def servers(req: Request) -> Response:
    """200 {"hypervisors": [...]} whose name contains the text, with their servers, up to 2.52."""
    return Response(200, {"hypervisors": [brief(req, f.node, f.service, f.servers) for f in _matching(req, True)]})


def statistics(req: Request) -> Response:
    """200 {"hypervisor_statistics": {...}}: sums over all hypervisors, up to 2.87."""
    told = ask.ask_cells(req.cloud, req.ctx, compute_nodes.list_all)
    views = [sizes(node.report) for _, node in told.found]
    sums: dict[str, int] = {name: sum(view[name] or 0 for view in views) for name in _SUMMED}
    return Response(200, {"hypervisor_statistics": {"count": len(views), **sums}})


def _list(req: Request, path: str, view: View) -> Response:
    paged = req.at_least(2, 33)
    pattern = req.one("hypervisor_hostname_pattern")
    if pattern is not None and ("limit" in req.query or "marker" in req.query):
        raise Invalid(
            reason="Paging over hypervisors with the hypervisor_hostname_pattern query parameter is not supported."
        )
    with_servers = _with_servers(req)
    found = _ask(req, pattern, with_servers) if pattern is None else _demanded(req, pattern, with_servers)
    most = page_size(req, req.services.settings.api.max_limit) if paged else None
    if paged:
        found = _after(req, found, req.one("marker"))[:most]
    body: dict[str, Any] = {"hypervisors": [view(req, f.node, f.service, f.servers) for f in found]}
    if found and len(found) == most and pattern is None:
        body["hypervisors_links"] = next_link(req, path, _id(req, found[-1].node))
    return Response(200, body)


def _after(req: Request, found: list[_Found], marker: str | None) -> list[_Found]:
    if marker is None:
        return found
    ids = [_id(req, one.node) for one in found]
    if marker not in ids:
        raise Invalid(reason=f"marker [{marker}] not found")
    return found[ids.index(marker) + 1 :]


def _one(req: Request, *, with_servers: bool) -> _Found:
    asked = req.params["id"]
    nothing = NotFound(reason=f"Hypervisor with ID '{asked}' could not be found.")

    def question(tx: Connection) -> list[_Found]:
        try:
            by_uuid = req.at_least(2, 53)
            node = compute_nodes.by_uuid(tx, asked) if by_uuid else compute_nodes.by_id(tx, int(asked))
        except ComputeHostNotFound:
            return []
        return _with(tx, [node], with_servers)

    if not req.at_least(2, 53) and (not asked.isdecimal() or len(asked) > 9):
        raise nothing
    return ask.only(ask.ask_cells(req.cloud, req.ctx, question), nothing)[1]


def _matching(req: Request, with_servers: bool) -> list[_Found]:
    return _demanded(req, req.params["id"], with_servers)


def _demanded(req: Request, pattern: str, with_servers: bool) -> list[_Found]:
    found = _ask(req, pattern, with_servers)
    if not found:
        raise NotFound(reason=f"No hypervisor matching '{pattern}' could be found.")
    return found


def _ask(req: Request, pattern: str | None, with_servers: bool) -> list[_Found]:
    def question(tx: Connection) -> list[_Found]:
        nodes = compute_nodes.list_all(tx)
        return _with(tx, [node for node in nodes if pattern is None or pattern in node.report.node], with_servers)

    return [found for _, found in ask.ask_cells(req.cloud, req.ctx, question).found]


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
    return req.at_least(2, 53) and is_true(req.one("with_servers", "false"))


def _id(req: Request, node: ComputeNode) -> str:
    return node.report.uuid if req.at_least(2, 53) else str(node.id)
