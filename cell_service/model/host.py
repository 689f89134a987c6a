"""Hosts as their cell knows them: services with heartbeats, and the compute nodes they drive."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from cell_service.model.ability import Ability


@dataclass(frozen=True, slots=True)
class Service:
    """One row of `services`: a process of ours on a host. `binary` is nova's name (`nova-compute`, …)."""

    id: int
    uuid: str
    host: str
    binary: str
    topic: str
    version: int
    created_at: datetime
    updated_at: datetime | None = None
    last_seen_up: datetime | None = None
    report_count: int = 0
    disabled: bool = False
    disabled_reason: str | None = None
    forced_down: bool = False
    leaving: bool = False
    availability_zone: str | None = None

    def is_up(self, now: datetime, service_down_seconds: float) -> bool:
        """Whether its last heartbeat is at most `service_down_seconds` old, and it is not forced down."""
        seen = self.last_seen_up or self.created_at
        return not self.forced_down and (now - seen).total_seconds() <= service_down_seconds


class PowerAction(StrEnum):
    """An action on a whole host, which turns its guests off."""

    REBOOT = "reboot"
    SHUTDOWN = "shutdown"
    STARTUP = "startup"


@dataclass(frozen=True, slots=True)
class NodeReport:
    """A hypervisor's properties and resources, as its driver reports them. MiB and GiB; cpu_info as libvirt's names."""

    node: str
    uuid: str
    hypervisor_type: str
    hypervisor_version: int
    host_ip: str
    vcpus: int
    memory_mib: int
    local_gib: int
    vcpus_used: int = 0
    memory_mib_used: int = 0
    local_gib_used: int = 0
    running_vms: int = 0
    disk_available_least_gib: int | None = None
    cpu_info: dict[str, Any] = field(default_factory=dict)
    supported_instances: tuple[tuple[str, str, str], ...] = ()
    """Triples (architecture, hypervisor type, vm mode)."""
    traits: tuple[str, ...] = ()
    stats: dict[str, str] = field(default_factory=dict)
    reserved_memory_mib: int = 512
    reserved_vcpus: int = 0
    reserved_disk_gib: int = 0
    cpu_allocation_ratio: float = 4.0
    ram_allocation_ratio: float = 1.0
    disk_allocation_ratio: float = 1.0
    uptime: str | None = None
    abilities: tuple[str, ...] | None = None
    """Values of `Ability`; None: the host's agent is of a version that does not report them."""

    def is_able(self, ability: Ability) -> bool:
        """Whether the hypervisor has the ability, as far as it is known."""
        return self.abilities is None or ability.value in self.abilities


@dataclass(frozen=True, slots=True)
class ComputeNode:
    """One row of `compute_nodes`: the last report of a host's hypervisor. `uuid` is also its provider's."""

    id: int
    service_id: int
    host: str
    report: NodeReport
    created_at: datetime
    updated_at: datetime | None = None
    mapped: bool = False
