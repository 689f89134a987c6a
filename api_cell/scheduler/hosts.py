"""A host as the scheduler sees it: one immutable value, replaced when something about it changes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from api_cell.scheduler.trees import Tree
from mapping_db.aggregates import Aggregate
from mapping_db.placement.inventories import Inventory

NOTHING: Inventory = Inventory(0)


@dataclass(frozen=True, slots=True)
class HostState:
    """A hypervisor, what is free on it, and what its cell reports of it.

    `key` is the uuid of its provider. `headrooms` count pending claims as used. `absent` says why no request
    may have it. `abilities`: as in its report. `tie` orders hosts of the same weight. `tree`: all
    providers that serve it; None: it is served by its own alone, whose inventories and traits are the host's.
    """

    key: str
    host: str
    node: str
    cell_id: int
    provider_id: int = 0
    headrooms: Mapping[str, Inventory] = field(default_factory=dict)
    traits: frozenset[str] = frozenset()
    placement_aggregates: frozenset[str] = frozenset()
    aggregates: tuple[Aggregate, ...] = ()
    availability_zone: str = "nova"
    absent: str | None = None
    up: bool = True
    disabled: bool = False
    num_instances: int = 0
    num_io_ops: int = 0
    failed_builds: int = 0
    hypervisor_type: str = ""
    hypervisor_version: int = 0
    host_ip: str = ""
    memory_mib: int = 0
    vcpus: int = 0
    local_gib: int = 0
    supported_instances: tuple[tuple[str, str, str], ...] = ()
    cpu_info: Mapping[str, Any] = field(default_factory=dict)
    stats: Mapping[str, str] = field(default_factory=dict)
    abilities: tuple[str, ...] | None = None
    tree: Tree | None = None
    tie: int = 0

    def headroom(self, resource_class: str) -> Inventory:
        """The host's inventory of a class; an empty one when it has none."""
        return self.headrooms.get(resource_class, NOTHING)

    def metadata_values(self, key: str) -> set[str]:
        """The values that the host's aggregates have under a key; commas separate values."""
        return {
            part.strip()
            for aggregate in self.aggregates
            if key in aggregate.metadata
            for part in aggregate.metadata[key].split(",")
        }
