"""Filters by the load of a host. An aggregate's own limit wins over the configured one (the least of them)."""

from __future__ import annotations

from dataclasses import dataclass

from api_cell.scheduler.hosts import HostState
from api_cell.scheduler.request_view import RequestView


@dataclass(frozen=True, slots=True)
class NumInstances:
    """A host runs at most `limit` instances."""

    limit: int
    by_aggregate: bool = False

    def reject(self, host: HostState, request: RequestView) -> str | None:
        limit = _own_limit(host, "max_instances_per_host", self.limit) if self.by_aggregate else self.limit
        return f"runs {host.num_instances} instances, limit {limit}" if host.num_instances >= limit else None


@dataclass(frozen=True, slots=True)
class IoOps:
    """At most `limit` instances of a host are being built, moved, resized, or the like."""

    limit: int
    by_aggregate: bool = False

    def reject(self, host: HostState, request: RequestView) -> str | None:
        limit = _own_limit(host, "max_io_ops_per_host", self.limit) if self.by_aggregate else self.limit
        return f"has {host.num_io_ops} instances in work, limit {limit}" if host.num_io_ops >= limit else None


def _own_limit(host: HostState, key: str, otherwise: int) -> int:
    numbers = [int(value) for value in host.metadata_values(key) if value.isdecimal()]
    return min(numbers, default=otherwise)
