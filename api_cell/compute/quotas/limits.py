"""Limits: a project's quotas and use, in the form that users ask for."""

from __future__ import annotations

from collections.abc import Mapping

from api_cell import limits
from api_cell.edge.route import Request, Response, Version

_ALWAYS = {
    "maxServerMeta": "metadata_items",
    "maxServerGroups": "server_groups",
    "maxServerGroupMembers": "server_group_members",
    "maxTotalCores": "cores",
    "maxTotalInstances": "instances",
    "maxTotalKeypairs": "key_pairs",
    "maxTotalRAMSize": "ram",
}
_USED = {
    "totalCoresUsed": "cores",
    "totalInstancesUsed": "instances",
    "totalRAMUsed": "ram",
    "totalServerGroupsUsed": "server_groups",
}
_NETWORK = {
    "maxSecurityGroups": -1,
    "maxSecurityGroupRules": -1,
    "maxTotalFloatingIps": -1,
    "totalFloatingIpsUsed": 0,
    "totalSecurityGroupsUsed": 0,
}


def index(req: Request) -> Response:
    """200 {"limits": {"absolute": {...}, "rate": []}}, of another project where policy allows."""
    project_id = req.one("tenant_id") or req.ctx.project_id
    if project_id != req.ctx.project_id:
        req.demand("os_compute_api:limits:other_project")
    most = limits.of_project(req.cloud, req.services, req.ctx, project_id)
    usage = limits.usage_of(req.cloud, req.services, project_id)
    return Response(200, {"limits": {"absolute": _absolute(most, usage, req.version), "rate": []}})


def _absolute(most: Mapping[str, int], usage: Mapping[str, int], version: Version) -> dict[str, int]:
    view = {shown: most[name] for shown, name in _ALWAYS.items()}
    view |= {shown: usage.get(name, 0) for shown, name in _USED.items()}
    if version < (2, 57):
        view |= {
            "maxPersonality": most["injected_files"],
            "maxPersonalitySize": most["injected_file_content_bytes"],
        }
    if version < (2, 39):
        view["maxImageMeta"] = most["metadata_items"]
    if version < (2, 36):
        view |= _NETWORK
    return view
