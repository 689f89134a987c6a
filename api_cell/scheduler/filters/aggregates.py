"""Filters by the metadata of a host's aggregates."""

from __future__ import annotations

from dataclasses import dataclass

from api_cell.scheduler.filters.match import matches
from api_cell.scheduler.hosts import HostState
from api_cell.scheduler.request_view import RequestView


@dataclass(frozen=True, slots=True)
class AvailabilityZone:
    """In a zone that the request names. Every host has met that before; kept for nova's configuration."""

    def reject(self, host: HostState, request: RequestView) -> str | None:
        if request.zones and host.availability_zone not in request.zones:
            return f"is not in availability zone {', '.join(sorted(request.zones))}"
        return None


@dataclass(frozen=True, slots=True)
class AggregateInstanceExtraSpecs:
    """Extra specs `aggregate_instance_extra_specs:KEY` (or KEY without a scope) match what the aggregates say."""

    def reject(self, host: HostState, request: RequestView) -> str | None:
        for key, wanted in request.spec.flavor.extra_specs.items():
            scope, colon, name = key.partition(":")
            if colon and scope != "aggregate_instance_extra_specs":
                continue
            name = name if colon else key
            values = host.metadata_values(name)
            if not values:
                return f"is in no aggregate with {name}"
            if not any(matches(value, wanted) for value in values):
                return f"is in no aggregate with {name} {wanted}"
        return None


@dataclass(frozen=True, slots=True)
class AggregateMultiTenancyIsolation:
    """Hosts of an aggregate with filter_tenant_id… take only servers of the projects named there."""

    def reject(self, host: HostState, request: RequestView) -> str | None:
        tenants: set[str] = set()
        for aggregate in host.aggregates:
            for key, value in aggregate.metadata.items():
                if key.startswith("filter_tenant_id"):
                    tenants.update(part.strip() for part in value.split(","))
        return "is kept for other projects" if tenants and request.spec.project_id not in tenants else None


@dataclass(frozen=True, slots=True)
class AggregateTypeAffinity:
    """Hosts of an aggregate with `instance_type` take only flavors of the names listed there."""

    def reject(self, host: HostState, request: RequestView) -> str | None:
        names = host.metadata_values("instance_type")
        return "is kept for other flavors" if names and request.spec.flavor.name not in names else None


@dataclass(frozen=True, slots=True)
class AggregateImagePropertiesIsolation:
    """Where an aggregate names an image property, an image that has the property has one of the values."""

    namespace: str | None = None
    separator: str = "."

    def reject(self, host: HostState, request: RequestView) -> str | None:
        prefix = f"{self.namespace}{self.separator}" if self.namespace else ""
        for name, value in request.spec.image_properties.items():
            if prefix and not name.startswith(prefix):
                continue
            allowed = host.metadata_values(name)
            if allowed and value not in allowed:
                return f"is kept for images with another {name}"
        return None


@dataclass(frozen=True, slots=True)
class IsolatedHosts:
    """Isolated images run on isolated hosts only, and (unless configured otherwise) these run nothing else."""

    hosts: frozenset[str]
    images: frozenset[str]
    only: bool = True

    def reject(self, host: HostState, request: RequestView) -> str | None:
        here = host.host in self.hosts
        image = "" if request.spec.volume_backed else request.spec.image_id
        if image in self.images and image:
            return None if here or not self.hosts else "is no isolated host"
        return "is kept for isolated images" if here and self.only else None
