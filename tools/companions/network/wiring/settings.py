"""[wiring]: whether the network companion moves packets, and where."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from oslo_config import cfg

from cell_service.config import option


@dataclass(frozen=True, slots=True)
class WiringSettings:
    """`uplink`: guests reach the world, and this machine reaches them, through its own network namespace."""

    GROUP: ClassVar[str] = "wiring"
    enabled: bool = option(
        cfg.BoolOpt("enabled", default=False, help="The network companion moves packets on private hosts.")
    )
    hypervisors: str = option(
        cfg.StrOpt(
            "hypervisors",
            default="$state_path/run/hypervisors",
            help="Directory in which private hosts say that they are there.",
        )
    )
    uplink: bool = option(
        cfg.BoolOpt("uplink", default=False, help="Guests reach the world outside, through this machine's address.")
    )
    metadata_url: str = option(
        cfg.StrOpt("metadata_url", default="", help="URL of the metadata service that guests' requests go to.")
    )
    secret: str = option(
        cfg.StrOpt("secret", default="", secret=True, help="The secret by which those requests are signed.")
    )
    name: str = option(cfg.StrOpt("name", default="polycell", help="Of this cloud, on this machine."))
    interval: float = option(cfg.FloatOpt("interval", default=2.0, min=0.1, help="Seconds between checks."))
