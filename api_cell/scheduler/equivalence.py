"""Equivalence classes of requests: no enabled filter distinguishes two of one class, so they share a ranking."""

from __future__ import annotations

from collections.abc import Collection

from api_cell.scheduler.config import SchedulerSection
from api_cell.scheduler.request_view import RequestView

_IMAGE_NAMES = frozenset(
    {
        "hw_architecture", "architecture", "img_hv_type", "hypervisor_type", "hw_vm_mode", "vm_mode",
        "img_hv_requested_version", "hypervisor_version_requires",
    }
)  # fmt: skip
"""All that ImagePropertiesFilter reads; others read any property."""
_READ_PROJECT = {"AggregateMultiTenancyIsolation"}
_READ_FLAVOR_NAME = {"AggregateTypeAffinityFilter"}
_READ_IMAGE_ID = {"IsolatedHostsFilter"}
_READ_ALL_PROPERTIES = {"AggregateImagePropertiesIsolation", "NUMATopologyFilter", "PciPassthroughFilter"}
_READ_HINTS = {"JsonFilter", "SimpleCIDRAffinityFilter", "SameHostFilter", "DifferentHostFilter"}


class EquivalenceClasses:
    """Keys for rankings. The server group is not part of them: rankings weigh it by themselves."""

    def __init__(self, filters: Collection[str], config: SchedulerSection) -> None:
        enabled = set(filters)
        self._project = bool(enabled & _READ_PROJECT) or config.limit_tenants_to_placement_aggregate
        self._flavor_name = bool(enabled & _READ_FLAVOR_NAME)
        self._image_id = bool(enabled & _READ_IMAGE_ID)
        self._properties = bool(enabled & _READ_ALL_PROPERTIES)
        self._hints = bool(enabled & _READ_HINTS)

    def of(self, request: RequestView, cell_id: int | None, tenants: frozenset[str]) -> object:
        """Equal for requests of one class."""
        spec = request.spec
        properties = frozenset(
            item for item in spec.image_properties.items() if self._properties or item[0] in _IMAGE_NAMES
        )
        hinted = (repr(spec.scheduler_hints), request.same_hosts, request.different_hosts) if self._hints else None
        return (
            cell_id,
            frozenset(request.resources.items()),
            request.required,
            request.root_required,
            request.forbidden,
            request.abilities,
            request.hardware,
            request.zones,
            frozenset(spec.flavor.extra_specs.items()),
            properties,
            (spec.force_host, spec.force_node, spec.requested_host, spec.requested_node, spec.ignore_hosts),
            (spec.project_id, tenants) if self._project else None,
            spec.flavor.name if self._flavor_name else None,
            (spec.image_id, spec.volume_backed) if self._image_id else None,
            hinted,
        )
