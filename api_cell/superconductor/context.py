"""The dependencies that the parts of a super-conductor share."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from oslo_config import cfg

from api_cell.config import Resizes, SoftDelete
from api_cell.scheduler.scheduler import Scheduler
from cell_service.config import CellsSection, Defaults, option, read
from cell_service.context import Context, Deadline
from mapping_db.cloud import Cloud


@dataclass(frozen=True, slots=True)
class Discovery:
    """[scheduler], as far as hosts are mapped to cells by themselves."""

    GROUP: ClassVar[str] = "scheduler"
    discover_hosts_in_cells_interval: int = option(
        cfg.IntOpt("discover_hosts_in_cells_interval", default=2, help="Seconds between scans; -1: never.")
    )


@dataclass(frozen=True, slots=True)
class Retention:
    """[retention]: what super-conductors do with deleted servers by themselves."""

    GROUP: ClassVar[str] = "retention"
    deleted_days: int = option(
        cfg.IntOpt("deleted_days", default=0, min=0, help="Servers deleted so long ago are archived; 0: never.")
    )
    archived_days: int = option(
        cfg.IntOpt("archived_days", default=0, min=0, help="Archived ones deleted so long ago are purged; 0: never.")
    )
    purge: bool = option(cfg.BoolOpt("purge", default=False, help="Keep nothing: purge in place of archiving."))


@dataclass(frozen=True, slots=True)
class Comparisons:
    """[placement_audit]: how super-conductors watch over allocations."""

    GROUP: ClassVar[str] = "placement_audit"
    interval: int = option(
        cfg.IntOpt(
            "interval",
            default=1800,
            min=0,
            help="Seconds between comparisons of all allocations with the instances; 0: none are made. Drift is logged "
            "and counted in the metric polycell_placement_drift.",
        )
    )


@dataclass(frozen=True, slots=True)
class SuperConductorSettings:
    """Seconds throughout. `lease_seconds`: how long a build request is claimed by one super-conductor, and so
    how long a server waits when its super-conductor dies (when a live one takes longer, two do the same: harmless);
    `scan_seconds`: how often it scans for work without a message."""

    host: str = "localhost"
    workers: int = 2
    lease_seconds: float = 15.0
    scan_seconds: float = 1.0
    discover_seconds: float = 2.0
    report_seconds: float = 30.0
    """How often a heartbeat is recorded."""
    service_down_seconds: float = 60.0
    allow_resize_to_same_host: bool = False
    resize_confirm_seconds: int = 0
    reclaim_seconds: int = 0
    """How long a soft-deleted server is kept; 0: none is reclaimed."""
    build_patience: float = 30.0
    """How long a build waits for an unreachable cell before another host is chosen for it."""
    retention: Retention = field(default_factory=Retention)
    compare_seconds: float = 0.0
    """How often allocations are compared with instances; 0: never."""


def settings_from(conf: cfg.ConfigOpts) -> SuperConductorSettings:
    """Raises Invalid."""
    defaults, resizes = read(conf, Defaults), read(conf, Resizes)
    return SuperConductorSettings(
        host=defaults.host,
        discover_seconds=read(conf, Discovery).discover_hosts_in_cells_interval,
        report_seconds=defaults.report_interval,
        service_down_seconds=defaults.service_down_time,
        allow_resize_to_same_host=resizes.allow_resize_to_same_host,
        resize_confirm_seconds=resizes.resize_confirm_window,
        reclaim_seconds=read(conf, SoftDelete).reclaim_instance_interval,
        build_patience=read(conf, CellsSection).build_patience,
        retention=read(conf, Retention),
        compare_seconds=read(conf, Comparisons).interval,
    )


@dataclass(frozen=True, slots=True)
class SuperConductorContext:
    """`owner` is this process, for leases."""

    cloud: Cloud
    scheduler: Scheduler
    settings: SuperConductorSettings
    owner: str

    def acting_for(self, request_id: str, user_id: str, project_id: str, seconds: float = 30.0) -> Context:
        """A context to go on with what a client requested."""
        deadline = Deadline.after(seconds, self.cloud.clock)
        return Context(request_id=request_id, user_id=user_id, project_id=project_id, is_admin=True, deadline=deadline)
