"""An instance's requirements of the scheduler, and the scheduler's choice."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from cell_service.model.instance import Flavor
from cell_service.model.operation import Alternate


@dataclass(frozen=True, slots=True)
class ServerGroup:
    """The part of a server group that placing an instance needs. `members` are uuids, `hosts` where they run."""

    uuid: str
    policy: str
    """affinity, anti-affinity, soft-affinity or soft-anti-affinity."""
    max_server_per_host: int = 1
    members: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RequestSpec:
    """The requirements of one instance. They are stored as they were requested, so that moves can be scheduled the same
    way."""

    instance_uuid: str
    project_id: str
    user_id: str
    flavor: Flavor
    image_id: str = ""
    image_properties: dict[str, str] = field(default_factory=dict)
    """As text, under nova's names (hw_*, os_*, img_*); also architecture, hypervisor_type, vm_mode."""
    image_min_ram_mib: int = 0
    image_min_disk_gib: int = 0
    image_disk_format: str = ""
    availability_zone: str | None = None
    force_host: str | None = None
    force_node: str | None = None
    requested_host: str | None = None
    requested_node: str | None = None
    scheduler_hints: dict[str, Any] = field(default_factory=dict)
    group_uuid: str | None = None
    ignore_hosts: tuple[str, ...] = ()
    volume_backed: bool = False
    needs: tuple[str, ...] = ()
    """Abilities of hosts (values of `Ability`)."""


@dataclass(frozen=True, slots=True)
class Unreachable:
    """The chosen cell did not answer, and certainly has nothing of the instance.

    `since`: when that was first so, or when another host was last looked for in vain. `attempt`: the last attempt to
    place the build that showed it.
    """

    since: datetime
    attempt: int


@dataclass(frozen=True, slots=True)
class Selection:
    """A host with the claim already made for the instance; the alternates are in the same cell, unclaimed."""

    instance_uuid: str
    cell_id: int
    host: str
    node: str
    provider_uuid: str
    allocations: dict[str, dict[str, int]]
    availability_zone: str | None = None
    alternates: tuple[Alternate, ...] = ()
    host_ip: str = ""
    """The host's own address."""
    reason: str = ""
    """Why no host was found; the cell is cell0 then, and nothing is claimed."""
    unreachable: Unreachable | None = None
