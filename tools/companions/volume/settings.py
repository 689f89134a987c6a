"""The options of the block storage companion."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from oslo_config import cfg

from cell_service.config import option

NONE, NBD = "none", "nbd"


@dataclass(frozen=True, slots=True)
class VolumeSettings:
    """[companions] volume_*: whether guests reach what is in volumes, and how much volumes may have."""

    GROUP: ClassVar[str] = "companions"
    volume_export: str = option(
        cfg.StrOpt(
            "volume_export",
            default=NONE,
            choices=(NONE, NBD),
            help="How hosts of this machine reach volumes. none: not at all, as simulated hosts need it; nbd: each"
            " connected volume is served by qemu-nbd at a unix socket, and images are checked and converted by"
            " qemu-img. Without these programs it is as with none, with a warning in the log.",
        )
    )
    volume_export_group: str = option(
        cfg.StrOpt(
            "volume_export_group",
            default="",
            help="The group whose processes may open the sockets of volumes, too; where it is empty, the companion's"
            " user and root alone may.",
        )
    )
    volume_capacity_gb: int = option(
        cfg.IntOpt(
            "volume_capacity_gb",
            default=0,
            min=0,
            help="GiB that all volumes and snapshots have together at most, by their sizes (0: no limit). What does"
            " not fit gets the status error, with a message at /messages.",
        )
    )
