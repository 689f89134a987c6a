"""Settings of the scheduler: nova.conf's [scheduler] and [filter_scheduler]."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from oslo_config import cfg

from cell_service.config import option, read

DEFAULT_FILTERS = [
    "ComputeFilter",
    "ComputeCapabilitiesFilter",
    "ImagePropertiesFilter",
    "ServerGroupAntiAffinityFilter",
    "ServerGroupAffinityFilter",
]
ALL_WEIGHERS = ["nova.scheduler.weights.all_weighers"]


@dataclass(frozen=True, slots=True)
class SchedulerSection:
    """[scheduler]. The last three are ours."""

    GROUP: ClassVar[str] = "scheduler"
    max_attempts: int = option(cfg.IntOpt("max_attempts", default=3, min=1, help="Hosts tried for one build."))
    limit_tenants_to_placement_aggregate: bool = option(
        cfg.BoolOpt(
            "limit_tenants_to_placement_aggregate",
            default=False,
            help="A project's servers go to the hosts of its aggregates (metadata filter_tenant_id).",
        )
    )
    placement_aggregate_required_for_tenants: bool = option(
        cfg.BoolOpt(
            "placement_aggregate_required_for_tenants",
            default=False,
            help="A project without such an aggregate gets no host; else it gets any.",
        )
    )
    query_placement_for_image_type_support: bool = option(
        cfg.BoolOpt(
            "query_placement_for_image_type_support",
            default=False,
            help="Servers made from images need hosts with the trait of the image's format.",
        )
    )
    enable_isolated_aggregate_filtering: bool = option(
        cfg.BoolOpt(
            "enable_isolated_aggregate_filtering",
            default=False,
            help="Hosts of aggregates with trait:… metadata take only servers that require these traits.",
        )
    )
    cells_refresh_interval: float = option(
        cfg.FloatOpt("cells_refresh_interval", default=5.0, min=0.1, help="Seconds between polls of the cells' hosts.")
    )
    cells_per_project: int = option(
        cfg.IntOpt("cells_per_project", default=0, min=0,
                   help="Each project gets so many cells, always the same ones; 0: all cells.")
    )  # fmt: skip
    keep_placement_notes: bool = option(
        cfg.BoolOpt("keep_placement_notes", default=True,
                    help="Record why each instance landed where it did (polycell-manage placement explain).")
    )  # fmt: skip


def _multiplier(name: str, default: float = 1.0) -> float:
    words = f"What the {name.replace('_', ' ')} weigher counts for; below 0: the other way round; 0: nothing."
    made: float = option(cfg.FloatOpt(f"{name}_weight_multiplier", default=default, help=words))
    return made


@dataclass(frozen=True, slots=True)
class FilterSection:
    """[filter_scheduler]."""

    GROUP: ClassVar[str] = "filter_scheduler"
    enabled_filters: tuple[str, ...] = option(
        cfg.ListOpt(
            "enabled_filters", default=DEFAULT_FILTERS, help="The filters that a host must pass, in this order."
        )
    )
    weight_classes: tuple[str, ...] = option(
        cfg.ListOpt("weight_classes", default=ALL_WEIGHERS, help="The weighers of the hosts that pass.")
    )
    host_subset_size: int = option(
        cfg.IntOpt("host_subset_size", default=1, min=1, help="One of so many best hosts is drawn.")
    )
    shuffle_best_same_weighed_hosts: bool = option(
        cfg.BoolOpt(
            "shuffle_best_same_weighed_hosts", default=False, help="Of hosts with the same weight any is taken."
        )
    )
    max_io_ops_per_host: int = option(
        cfg.IntOpt(
            "max_io_ops_per_host",
            default=8,
            help="Builds, moves and images under way at which IoOpsFilter refuses a host.",
        )
    )
    max_instances_per_host: int = option(
        cfg.IntOpt(
            "max_instances_per_host", default=50, min=1, help="Servers at which NumInstancesFilter refuses a host."
        )
    )
    ram_weight_multiplier: float = _multiplier("ram")
    cpu_weight_multiplier: float = _multiplier("cpu")
    disk_weight_multiplier: float = _multiplier("disk")
    io_ops_weight_multiplier: float = _multiplier("io_ops", -1.0)
    num_instances_weight_multiplier: float = _multiplier("num_instances", 0.0)
    hypervisor_version_weight_multiplier: float = _multiplier("hypervisor_version")
    build_failure_weight_multiplier: float = _multiplier("build_failure", 1000000.0)
    soft_affinity_weight_multiplier: float = _multiplier("soft_affinity")
    soft_anti_affinity_weight_multiplier: float = _multiplier("soft_anti_affinity")
    image_properties_default_architecture: str | None = option(
        cfg.StrOpt(
            "image_properties_default_architecture",
            default=None,
            help="Architecture of images that name none, for ImagePropertiesFilter.",
        )
    )
    isolated_images: tuple[str, ...] = option(
        cfg.ListOpt("isolated_images", default=[], help="Images (by id) whose servers go to isolated hosts alone.")
    )
    isolated_hosts: tuple[str, ...] = option(cfg.ListOpt("isolated_hosts", default=[], help="Those hosts."))
    restrict_isolated_hosts_to_isolated_images: bool = option(
        cfg.BoolOpt(
            "restrict_isolated_hosts_to_isolated_images",
            default=True,
            help="Isolated hosts take servers of isolated images alone.",
        )
    )
    aggregate_image_properties_isolation_namespace: str | None = option(
        cfg.StrOpt(
            "aggregate_image_properties_isolation_namespace",
            default=None,
            help="Prefix of the image properties that AggregateImagePropertiesIsolation compares; unset: all.",
        )
    )
    aggregate_image_properties_isolation_separator: str = option(
        cfg.StrOpt(
            "aggregate_image_properties_isolation_separator",
            default=".",
            help="What stands between that prefix and the name.",
        )
    )


@dataclass(frozen=True, slots=True)
class SchedulerSettings:
    """The settings of a scheduler. The last two are [DEFAULT]'s."""

    scheduler: SchedulerSection = field(default_factory=SchedulerSection)
    filters: FilterSection = field(default_factory=FilterSection)
    service_down_seconds: float = 60
    default_availability_zone: str = "nova"


def read_settings(
    conf: cfg.ConfigOpts, *, service_down_seconds: float = 60, default_availability_zone: str = "nova"
) -> SchedulerSettings:
    """The settings as the files say. Raises Invalid for a value of the wrong type."""
    return SchedulerSettings(
        read(conf, SchedulerSection), read(conf, FilterSection), service_down_seconds, default_availability_zone
    )
