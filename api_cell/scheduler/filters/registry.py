"""Filters by the names that `[filter_scheduler] enabled_filters` has for them."""

from __future__ import annotations

from collections.abc import Callable

from api_cell.scheduler.config import FilterSection
from api_cell.scheduler.filters import aggregates, capabilities, compute, groups, hints, image, load
from api_cell.scheduler.filters.absent import NotOffered
from api_cell.scheduler.filters.contract import Filter
from cell_service.errors import Invalid

FILTERS: dict[str, Callable[[FilterSection], Filter]] = {
    "AllHostsFilter": lambda config: compute.AllHosts(),
    "ComputeFilter": lambda config: compute.Compute(),
    "AvailabilityZoneFilter": lambda config: aggregates.AvailabilityZone(),
    "ComputeCapabilitiesFilter": lambda config: capabilities.ComputeCapabilities(),
    "ImagePropertiesFilter": lambda config: image.ImageProperties(config.image_properties_default_architecture),
    "ServerGroupAffinityFilter": lambda config: groups.ServerGroup("affinity"),
    "ServerGroupAntiAffinityFilter": lambda config: groups.ServerGroup("anti-affinity"),
    "DifferentHostFilter": lambda config: hints.DifferentHost(),
    "SameHostFilter": lambda config: hints.SameHost(),
    "SimpleCIDRAffinityFilter": lambda config: hints.SimpleCidrAffinity(),
    "JsonFilter": lambda config: hints.Json(),
    "NumInstancesFilter": lambda config: load.NumInstances(config.max_instances_per_host),
    "AggregateNumInstancesFilter": lambda config: load.NumInstances(config.max_instances_per_host, by_aggregate=True),
    "IoOpsFilter": lambda config: load.IoOps(config.max_io_ops_per_host),
    "AggregateIoOpsFilter": lambda config: load.IoOps(config.max_io_ops_per_host, by_aggregate=True),
    "AggregateInstanceExtraSpecsFilter": lambda config: aggregates.AggregateInstanceExtraSpecs(),
    "AggregateMultiTenancyIsolation": lambda config: aggregates.AggregateMultiTenancyIsolation(),
    "AggregateTypeAffinityFilter": lambda config: aggregates.AggregateTypeAffinity(),
    "AggregateImagePropertiesIsolation": lambda config: aggregates.AggregateImagePropertiesIsolation(
        config.aggregate_image_properties_isolation_namespace, config.aggregate_image_properties_isolation_separator
    ),
    "IsolatedHostsFilter": lambda config: aggregates.IsolatedHosts(
        frozenset(config.isolated_hosts),
        frozenset(config.isolated_images),
        config.restrict_isolated_hosts_to_isolated_images,
    ),
    "NUMATopologyFilter": lambda config: NotOffered("NUMA topology", ("hw:numa_nodes", "hw:mem_page_size")),
    "PciPassthroughFilter": lambda config: NotOffered("PCI passthrough", ("pci_passthrough:",)),
}


def enabled(config: FilterSection) -> list[tuple[str, Filter]]:
    """The enabled filters in their order, by name. Raises Invalid for a name that is none."""
    names = list(dict.fromkeys(name.rsplit(".", 1)[-1] for name in config.enabled_filters))
    if strange := [name for name in names if name not in FILTERS]:
        raise Invalid(reason=f"[filter_scheduler] enabled_filters: there is no {', '.join(strange)}")
    return [(name, FILTERS[name](config)) for name in names]
