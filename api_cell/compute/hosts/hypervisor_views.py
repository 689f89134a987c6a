"""Hypervisors as documents, by version."""

from __future__ import annotations

import json
from typing import Any

from api_cell.compute.hosts.services import is_up
from api_cell.edge.route import Request
from cell_service.model.host import ComputeNode, NodeReport, Service

Servers = list[dict[str, str]]


def brief(req: Request, node: ComputeNode, service: Service | None, servers: Servers | None = None) -> dict[str, Any]:
    """id, name and state; `servers` as {"name", "uuid"}, None where they were not asked for."""
    view: dict[str, Any] = {
        "id": node.report.uuid if req.at_least(2, 53) else node.id,
        "hypervisor_hostname": node.report.node,
        "state": "up" if service is not None and is_up(req, service) else "down",
        "status": "enabled" if service is not None and not service.disabled else "disabled",
    }
    if servers is not None and (servers or req.at_least(2, 75)):
        view["servers"] = servers
    return view


def full(req: Request, node: ComputeNode, service: Service | None, servers: Servers | None = None) -> dict[str, Any]:
    """Everything; use and sizes only up to 2.87, the uptime only from 2.88 on."""
    report = node.report
    view = brief(req, node, service, servers) | {
        "hypervisor_type": report.hypervisor_type,
        "hypervisor_version": report.hypervisor_version,
        "host_ip": report.host_ip,
        "service": _service(req, node, service),
    }
    if req.at_least(2, 88):
        return view | {"uptime": report.uptime}
    view |= sizes(report)
    view["cpu_info"] = report.cpu_info if req.at_least(2, 28) else json.dumps(report.cpu_info)
    return view


def sizes(report: NodeReport) -> dict[str, Any]:
    """What a hypervisor has, and what of it is in use."""
    return {
        "vcpus": report.vcpus,
        "vcpus_used": report.vcpus_used,
        "memory_mb": report.memory_mib,
        "memory_mb_used": report.memory_mib_used,
        "free_ram_mb": report.memory_mib - report.memory_mib_used,
        "local_gb": report.local_gib,
        "local_gb_used": report.local_gib_used,
        "free_disk_gb": report.local_gib - report.local_gib_used,
        "disk_available_least": report.disk_available_least_gib,
        "current_workload": 0,
        "running_vms": report.running_vms,
    }


def _service(req: Request, node: ComputeNode, service: Service | None) -> dict[str, Any]:
    by_uuid = req.at_least(2, 53)
    if service is None:
        return {"id": "" if by_uuid else node.service_id, "host": node.host, "disabled_reason": None}
    return {
        "id": service.uuid if by_uuid else service.id,
        "host": service.host,
        "disabled_reason": service.disabled_reason,
    }
