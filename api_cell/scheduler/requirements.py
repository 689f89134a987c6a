"""The requirements that each host meets before configured filters see it: nova's request filters, and the checks of
placement.

Each is a filter like the others; they can't be turned off. The last one is headroom for the amounts.
"""

from __future__ import annotations

from dataclasses import dataclass

from api_cell.scheduler import fitting
from api_cell.scheduler.hosts import HostState
from api_cell.scheduler.request_view import DISABLED, RequestView
from cell_service.model.ability import Ability


@dataclass(frozen=True, slots=True)
class Present:
    """The host is mapped, has reported, and its cell answers."""

    def reject(self, host: HostState, request: RequestView) -> str | None:
        return host.absent


@dataclass(frozen=True, slots=True)
class Forced:
    """The host (and node) that an administrator has named; it must only exist."""

    def reject(self, host: HostState, request: RequestView) -> str | None:
        if request.spec.force_host is not None and host.host != request.spec.force_host:
            return "is not the forced host"
        if request.spec.force_node is not None and host.node != request.spec.force_node:
            return "is not the forced node"
        return host.absent


@dataclass(frozen=True, slots=True)
class InCell:
    """In one cell, whatever else."""

    cell_id: int

    def reject(self, host: HostState, request: RequestView) -> str | None:
        return None if host.cell_id == self.cell_id else "is in another cell"


@dataclass(frozen=True, slots=True)
class Destination:
    """Only the host that the request names, and none that it avoids."""

    def reject(self, host: HostState, request: RequestView) -> str | None:
        spec = request.spec
        if spec.requested_host is not None and host.host != spec.requested_host:
            return "is not the requested host"
        if spec.requested_node is not None and host.node != spec.requested_node:
            return "is not the requested node"
        return "is to be avoided" if host.host in spec.ignore_hosts else None


@dataclass(frozen=True, slots=True)
class Zone:
    """In one of the availability zones that the request names."""

    def reject(self, host: HostState, request: RequestView) -> str | None:
        if request.zones and host.availability_zone not in request.zones:
            return f"is not in availability zone {', '.join(sorted(request.zones))}"
        return None


@dataclass(frozen=True, slots=True)
class Traits:
    """All that are required, none that is forbidden. Where other providers than the root may serve a request group,
    only those of the root are checked here."""

    def reject(self, host: HostState, request: RequestView) -> str | None:
        required, forbidden = request.required, request.forbidden
        if fitting.needs_tree(host, request):
            required, forbidden = request.root_required, request.root_forbidden
        if not forbidden.isdisjoint(host.traits):
            unwanted = min(forbidden & host.traits)
            return "is disabled" if unwanted == DISABLED else f"has trait {unwanted}"
        if not required <= host.traits:
            return f"lacks trait {min(required - host.traits)}"
        return None


@dataclass(frozen=True, slots=True)
class Able:
    """All abilities that the request needs. A host that does not report its abilities is taken."""

    def reject(self, host: HostState, request: RequestView) -> str | None:
        if host.abilities is None or request.abilities <= set(host.abilities):
            return None
        return f"cannot {Ability(min(request.abilities.difference(host.abilities))).phrase}"


@dataclass(frozen=True, slots=True)
class Hardware:
    """The hardware that flavor and image demand for the guest. It holds for forced hosts too: a guest without it would
    be another one than its user believes."""

    def reject(self, host: HostState, request: RequestView) -> str | None:
        return request.hardware.unmet_by(host.traits, host.abilities)


@dataclass(frozen=True, slots=True)
class Tenants:
    """A project that aggregates name in filter_tenant_id is confined to their hosts
    ([scheduler] limit_tenants_to_placement_aggregate); others too when an aggregate is required."""

    confined: frozenset[str]
    required: bool

    def reject(self, host: HostState, request: RequestView) -> str | None:
        project = request.spec.project_id
        if not self.required and project not in self.confined:
            return None
        for aggregate in host.aggregates:
            for key, value in aggregate.metadata.items():
                if key.startswith("filter_tenant_id") and value == project:
                    return None
        return "is in no aggregate of the project"


@dataclass(frozen=True, slots=True)
class Isolated:
    """An aggregate with `trait:X=required` takes only servers that require all of these traits
    ([scheduler] enable_isolated_aggregate_filtering)."""

    def reject(self, host: HostState, request: RequestView) -> str | None:
        for aggregate in host.aggregates:
            for key, value in aggregate.metadata.items():
                if key.startswith("trait:") and value == "required" and key[6:] not in request.all_required:
                    return f"is kept for servers with trait {key[6:]}"
        return None


@dataclass(frozen=True, slots=True)
class Headroom:
    """Enough is free of everything, in the units that the provider gives out; in a tree or for numbered groups, from
    providers that serve each request group."""

    def reject(self, host: HostState, request: RequestView) -> str | None:
        if fitting.needs_tree(host, request):
            return fitting.refusal(host, request)
        for name, amount in request.resources.items():
            headroom = host.headrooms.get(name)
            if headroom is None:
                return f"has no {name}"
            if amount > headroom.capacity - headroom.used:
                return f"lacks {amount} {name}"
            if amount < headroom.min_unit or amount > headroom.max_unit or amount % headroom.step_size:
                return f"does not give out {amount} {name}"
        return None
