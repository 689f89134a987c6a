"""Filters by the extra specs in which flavors require attributes of a host."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from api_cell.scheduler.filters.match import matches
from api_cell.scheduler.hosts import HostState
from api_cell.scheduler.request_view import RequestView

_SCOPE = "capabilities"


@dataclass(frozen=True, slots=True)
class ComputeCapabilities:
    """Extra specs `capabilities:KEY` match the host; `a:b` names a nested value. A KEY without a scope has to match
    only where hosts have such an attribute: others are the operator's own, or some other filter's.
    """

    def reject(self, host: HostState, request: RequestView) -> str | None:
        for key, wanted in request.spec.flavor.extra_specs.items():
            path = key.split(":")
            if len(path) > 1:
                if path[0] != _SCOPE:
                    continue
                path = path[1:]
            elif key not in _READERS and key not in host.stats:
                continue
            found = _value(host, path)
            if found is None:
                return f"has no capability {':'.join(path)}"
            if not matches(found, wanted):
                return f"has {':'.join(path)} {found}, not {wanted}"
        return None


def _value(host: HostState, path: list[str]) -> str | None:
    """The host's attribute as text; lists and maps as JSON."""
    here: Any = attributes(host, path[0])
    for step in path[1:]:
        if isinstance(here, str):
            try:
                here = json.loads(here)
            except ValueError:
                return None
        if not isinstance(here, Mapping) or step not in here:
            return None
        here = here[step]
    if here is None:
        return None
    if isinstance(here, (Mapping, list, tuple)):
        return json.dumps(here)
    return str(here)


def attributes(host: HostState, name: str) -> Any:
    """An attribute under the name that nova's host state has for it; None when there is none."""
    if name in _READERS:
        return _READERS[name](host)
    return host.stats.get(name)


_READERS: dict[str, Any] = {
    "host": lambda host: host.host,
    "nodename": lambda host: host.node,
    "hypervisor_hostname": lambda host: host.node,
    "host_ip": lambda host: host.host_ip,
    "hypervisor_type": lambda host: host.hypervisor_type,
    "hypervisor_version": lambda host: host.hypervisor_version,
    "cpu_info": lambda host: host.cpu_info,
    "supported_instances": lambda host: host.supported_instances,
    "stats": lambda host: host.stats,
    "num_instances": lambda host: host.num_instances,
    "num_io_ops": lambda host: host.num_io_ops,
    "failed_builds": lambda host: host.failed_builds,
    "vcpus_total": lambda host: host.vcpus,
    "vcpus_used": lambda host: host.headroom("VCPU").used + host.headroom("PCPU").used,
    "total_usable_ram_mb": lambda host: host.memory_mib,
    "free_ram_mb": lambda host: host.memory_mib - host.headroom("MEMORY_MB").used,
    "total_usable_disk_gb": lambda host: host.local_gib,
    "free_disk_mb": lambda host: 1024 * (host.local_gib - host.headroom("DISK_GB").used),
    "cpu_allocation_ratio": lambda host: host.headroom("VCPU").allocation_ratio,
    "ram_allocation_ratio": lambda host: host.headroom("MEMORY_MB").allocation_ratio,
    "disk_allocation_ratio": lambda host: host.headroom("DISK_GB").allocation_ratio,
}
