"""Hosts as they were shown before services and hypervisors had sections of their own (until 2.42)."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from sqlalchemy import Connection

from api_cell import cell_queries
from api_cell.compute.hosts.services import zone_of
from api_cell.edge import missing_cells as missing
from api_cell.edge.route import Handler, Request, Response, Route
from api_cell.edge.shapes import query
from api_cell.hosts import change, maintenance, power
from cell_service.db import compute_nodes, instances
from cell_service.db import services as rows
from cell_service.errors import ComputeHostNotFound
from cell_service.model.host import ComputeNode, PowerAction, Service
from cell_service.model.instance import Instance

LAST = (2, 42)
_WORDS = ["enable", "disable", "Enable", "Disable", "ENABLE", "DISABLE"]
_SWITCH = {"type": "string", "enum": _WORDS}
_UPDATE = {
    "type": "object",
    "properties": {"status": _SWITCH, "maintenance_mode": _SWITCH},
    "anyOf": [{"required": ["status"]}, {"required": ["maintenance_mode"]}],
    "additionalProperties": False,
}


def index(req: Request) -> Response:
    """200 {"hosts": […]}: every service of every cell."""
    answers = cell_queries.query_services(req.cloud, req.ctx, rows.list_all, above=True)
    zones, wanted = cell_queries.zones(req.cloud), req.one("zone")
    views = [
        {
            "host_name": service.host,
            "service": service.binary.removeprefix("nova-"),
            "zone": zone_of(req, service, zones),
        }
        for _, service in answers.found
    ]
    shown = [view for view in views if not wanted or view["zone"] == wanted]
    return Response(200, {"hosts": shown}, missing.header(req, answers.down))


def show(req: Request) -> Response:
    """200 {"host": […]}: a compute host's capacity, what is used, and by which project."""
    host = req.params["id"]

    def question(tx: Connection) -> list[tuple[ComputeNode, list[Instance]]]:
        nodes = compute_nodes.list_all(tx, host=host)
        return [(nodes[0], instances.on_host(tx, host))] if nodes else []

    _, (node, there) = cell_queries.only_one(
        req.cloud, cell_queries.query_cells(req.cloud, req.ctx, question), ComputeHostNotFound(host=host)
    )
    return Response(200, {"host": [{"resource": {"host": host, **line}} for line in _resources(node, there)]})


def update(req: Request) -> Response:
    """200 {"host": …, "status": …, "maintenance_mode": …}: no new servers go to a disabled host; those of one in
    maintenance move away, too. 501 where the driver has no such mode, 400 where the host does not answer."""
    cell_id, service = _compute(req)
    view = {"host": service.host}
    if "status" in req.body:
        disabled = req.body["status"].lower() == "disable"
        service = change.change_service(req.cloud, req.ctx, cell_id, service, disabled=disabled)
        view["status"] = "disabled" if disabled else "enabled"
    if "maintenance_mode" in req.body:
        on = req.body["maintenance_mode"].lower() == "enable"
        if on:
            maintenance.enter(req.cloud, req.ctx, req.services.superconductor, cell_id, service)
        else:
            maintenance.leave(req.cloud, req.ctx, cell_id, service)
        view["maintenance_mode"] = "on_maintenance" if on else "off_maintenance"
    return Response(200, view)


def _power(action: PowerAction) -> Handler:
    """200 {"host": …, "power_action": …}; 501 where the driver can't do that, 400 where the host does not answer."""

    def handle(req: Request) -> Response:
        cell_id, service = _compute(req)
        power.switch(req.cloud, req.ctx, cell_id, service, action)
        return Response(200, {"host": service.host, "power_action": action.value})

    return handle


def _compute(req: Request) -> tuple[int, Service]:
    """Raises ComputeHostNotFound, CellUnavailable."""
    host = req.params["id"]
    answers = cell_queries.query_services(
        req.cloud, req.ctx, lambda tx: rows.list_all(tx, host=host, binary=rows.COMPUTE)
    )
    return cell_queries.only_one(req.cloud, answers, ComputeHostNotFound(host=host))


def _resources(node: ComputeNode, there: list[Instance]) -> list[dict[str, Any]]:
    report, by_project = node.report, defaultdict[str, list[Instance]](list)
    for instance in there:
        by_project[instance.project_id].append(instance)
    return [
        _line("(total)", report.vcpus, report.memory_mib, report.local_gib),
        _line("(used_now)", report.vcpus_used, report.memory_mib_used, report.local_gib_used),
        _of("(used_max)", there),
        *(_of(project, by_project[project]) for project in sorted(by_project)),
    ]


def _of(project: str, owned: list[Instance]) -> dict[str, Any]:
    flavors = [instance.flavor for instance in owned]
    cpu, memory = sum(one.vcpus for one in flavors), sum(one.memory_mib for one in flavors)
    return _line(project, cpu, memory, sum(one.root_gib + one.ephemeral_gib for one in flavors))


def _line(project: str, cpu: int, memory_mb: int, disk_gb: int) -> dict[str, Any]:
    return {"project": project, "cpu": cpu, "memory_mb": memory_mb, "disk_gb": disk_gb}


_RULE = "os_compute_api:os-hosts:"
ROUTES = (
    Route("GET", "/os-hosts", index, rule=_RULE + "list", max_version=LAST,
          query=query({"zone": {"type": "string"}}, closed=False)),
    Route("GET", "/os-hosts/{id}", show, rule=_RULE + "show", max_version=LAST),
    Route("PUT", "/os-hosts/{id}", update, rule=_RULE + "update", body=_UPDATE, max_version=LAST),
    Route("GET", "/os-hosts/{id}/reboot", _power(PowerAction.REBOOT), rule=_RULE + "reboot", max_version=LAST),
    Route("GET", "/os-hosts/{id}/shutdown", _power(PowerAction.SHUTDOWN), rule=_RULE + "shutdown", max_version=LAST),
    Route("GET", "/os-hosts/{id}/startup", _power(PowerAction.STARTUP), rule=_RULE + "start", max_version=LAST),
)  # fmt: skip
