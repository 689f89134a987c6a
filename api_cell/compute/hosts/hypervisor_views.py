"""Hypervisors as documents, by version."""

from __future__ import annotations

import json
from typing import Any

from api_cell.compute import behaviours
from api_cell.compute.hosts.services import is_up
from api_cell.edge.route import Request
from api_cell.edge.versioned import Field, Read, View
from cell_service.model.host import ComputeNode, NodeReport, Service

Servers = list[dict[str, str]]


def brief(req: Request, node: ComputeNode, service: Service | None, servers: Servers | None = None) -> dict[str, Any]:
    """id, name and state; `servers` as {"name", "uuid"}, None where they were not requested."""
    view = _BRIEF.at(req.version, node) | {
        "state": "up" if service is not None and is_up(req, service) else "down",
        "status": "enabled" if service is not None and not service.disabled else "disabled",
    }
    if servers is not None and (servers or behaviours.HYPERVISORS_SHOW_NO_SERVERS.at(req.version)):
        view["servers"] = servers
    return view


def full(req: Request, node: ComputeNode, service: Service | None, servers: Servers | None = None) -> dict[str, Any]:
    """Everything; use and sizes only up to 2.87, the uptime only from 2.88 on."""
    view = brief(req, node, service, servers) | {"service": _service(req, node, service)}
    return view | _WHOLE.at(req.version, node.report)


_SIZES: dict[str, Read[NodeReport]] = {
    "vcpus": lambda report: report.vcpus,
    "vcpus_used": lambda report: report.vcpus_used,
    "memory_mb": lambda report: report.memory_mib,
    "memory_mb_used": lambda report: report.memory_mib_used,
    "free_ram_mb": lambda report: report.memory_mib - report.memory_mib_used,
    "local_gb": lambda report: report.local_gib,
    "local_gb_used": lambda report: report.local_gib_used,
    "free_disk_gb": lambda report: report.local_gib - report.local_gib_used,
    "disk_available_least": lambda report: report.disk_available_least_gib,
    "current_workload": lambda _report: 0,
    "running_vms": lambda report: report.running_vms,
}


def sizes(report: NodeReport) -> dict[str, Any]:
    """A hypervisor's capacity, and how much of it is in use."""
    return {name: read(report) for name, read in _SIZES.items()}


def _service(req: Request, node: ComputeNode, service: Service | None) -> dict[str, Any]:
    view = {"host": node.host, "disabled_reason": None} if service is None else {
        "host": service.host, "disabled_reason": service.disabled_reason,
    }  # fmt: skip
    return _SERVICE_ID.at(req.version, (node, service)) | view


_BRIEF: View[ComputeNode] = View(
    Field("id", lambda node: node.id, until=(2, 52)),
    Field("id", lambda node: node.report.uuid, since=(2, 53)),
    Field("hypervisor_hostname", lambda node: node.report.node),
)
_SERVICE_ID: View[tuple[ComputeNode, Service | None]] = View(
    Field("id", lambda pair: pair[1].id if pair[1] is not None else pair[0].service_id, until=(2, 52)),
    Field("id", lambda pair: pair[1].uuid if pair[1] is not None else "", since=(2, 53)),
)


_WHOLE: View[NodeReport] = View(
    Field("hypervisor_type", lambda report: report.hypervisor_type),
    Field("hypervisor_version", lambda report: report.hypervisor_version),
    Field("host_ip", lambda report: report.host_ip),
    Field("uptime", lambda report: report.uptime, since=(2, 88)),
    Field("cpu_info", lambda report: json.dumps(report.cpu_info), until=(2, 27)),
    Field("cpu_info", lambda report: report.cpu_info, since=(2, 28), until=(2, 87)),
    *(Field(name, read, until=(2, 87)) for name, read in _SIZES.items()),
)
