"""Limits: a project's quotas and use, in the form for users."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from api_cell import quota_check
from api_cell.edge.route import Request, Response
from api_cell.edge.versioned import Field, Read, View


@dataclass(frozen=True, slots=True)
class _Quota:
    """Limits and use of a project, by resource."""

    limits: Mapping[str, int]
    used: Mapping[str, int]


def _limit(resource: str) -> Read[_Quota]:
    return lambda quota: quota.limits.get(resource, -1)


def _use(resource: str) -> Read[_Quota]:
    return lambda quota: quota.used.get(resource, 0)


def _always(value: int) -> Read[_Quota]:
    return lambda _quota: value


_VIEW: View[_Quota] = View(
    Field("maxServerMeta", _limit("metadata_items")),
    Field("maxServerGroups", _limit("server_groups")),
    Field("maxServerGroupMembers", _limit("server_group_members")),
    Field("maxTotalCores", _limit("cores")),
    Field("maxTotalInstances", _limit("instances")),
    Field("maxTotalKeypairs", _limit("key_pairs")),
    Field("maxTotalRAMSize", _limit("ram")),
    Field("totalCoresUsed", _use("cores")),
    Field("totalInstancesUsed", _use("instances")),
    Field("totalRAMUsed", _use("ram")),
    Field("totalServerGroupsUsed", _use("server_groups")),
    Field("maxPersonality", _limit("injected_files"), until=(2, 56)),
    Field("maxPersonalitySize", _limit("injected_file_content_bytes"), until=(2, 56)),
    Field("maxImageMeta", _limit("metadata_items"), until=(2, 38)),
    Field("maxSecurityGroups", _limit("security_groups"), until=(2, 35)),
    Field("maxSecurityGroupRules", _limit("security_group_rules"), until=(2, 35)),
    Field("maxTotalFloatingIps", _limit("floating_ips"), until=(2, 35)),
    Field("totalFloatingIpsUsed", _always(0), until=(2, 35)),
    Field("totalSecurityGroupsUsed", _always(0), until=(2, 35)),
)


def index(req: Request) -> Response:
    """200 {"limits": {"absolute": {...}, "rate": []}}, of another project where policy allows."""
    project_id = req.one("tenant_id") or req.ctx.project_id
    if project_id != req.ctx.project_id:
        req.demand("os_compute_api:limits:other_project")
    most = quota_check.project_limits(req.cloud, req.services, req.ctx, project_id)
    usage = quota_check.usage_of(req.cloud, req.services, project_id)
    return Response(200, {"limits": {"absolute": _VIEW.at(req.version, _Quota(most, usage)), "rate": []}})
