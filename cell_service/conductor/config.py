"""The settings of a conductor, from its configuration file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from oslo_config import cfg

from cell_service.config import Defaults, option, read


@dataclass(frozen=True, slots=True)
class ConductorSection:
    """[conductor]"""

    GROUP: ClassVar[str] = "conductor"
    workers: int = option(cfg.IntOpt("workers", default=8, min=1, help="Requests answered at once."))


@dataclass(frozen=True, slots=True)
class NewServices:
    """[DEFAULT], the options that only conductors need."""

    GROUP: ClassVar[str] = "DEFAULT"
    enable_new_services: bool = option(
        cfg.BoolOpt("enable_new_services", default=True, help="Hosts registered for the first time may get instances.")
    )


@dataclass(frozen=True, slots=True)
class Shelving:
    """[DEFAULT], the options about shelving."""

    GROUP: ClassVar[str] = "DEFAULT"
    shelved_offload_time: int = option(
        cfg.IntOpt("shelved_offload_time", default=0, min=-1,
                   help="Seconds that a shelved server keeps its host; 0: it leaves at once; -1: it stays.")
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Healing:
    """[DEFAULT], the options about scans of ports."""

    GROUP: ClassVar[str] = "DEFAULT"
    heal_instance_info_cache_interval: int = option(
        cfg.IntOpt("heal_instance_info_cache_interval", default=60,
                   help="Seconds between scans of the ports of some hundred servers; 0 or less: never.")
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class ConductorSettings:
    """Seconds throughout. `lease_seconds`: how long a host may report nothing of an operation before it counts as
    abandoned; `poll_seconds`: how often a conductor polls for work whose message was lost."""

    host: str = "localhost"
    workers: int = 8
    service_down_seconds: float = 60.0
    report_seconds: float = 30.0
    lease_seconds: float = 60.0
    poll_seconds: float = 5.0
    keep_operations_seconds: float = 7 * 86400.0
    enable_new_services: bool = True
    shelved_offload_seconds: float = 0.0
    """0: shelved instances leave their hosts at once; negative: they stay."""
    heal_seconds: float = 60.0
    """Between scans of the ports of some instances; 0 or less: never."""


def settings_from(conf: cfg.ConfigOpts) -> ConductorSettings:
    """Raises Invalid."""
    defaults, section = read(conf, Defaults), read(conf, ConductorSection)
    return ConductorSettings(
        host=defaults.host,
        workers=section.workers,
        service_down_seconds=defaults.service_down_time,
        report_seconds=defaults.report_interval,
        enable_new_services=read(conf, NewServices).enable_new_services,
        heal_seconds=read(conf, Healing).heal_instance_info_cache_interval,
        shelved_offload_seconds=read(conf, Shelving).shelved_offload_time,
    )
