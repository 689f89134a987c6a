"""A guest's domain XML: a pure function of its spec, its files and its host's settings.

`whole` puts together what the other modules make: one for each part of a domain.
"""

from __future__ import annotations

from compute_host.virt.libvirt.domain.disks import ROOT_SERIAL
from compute_host.virt.libvirt.domain.interfaces import interface, shares_memory
from compute_host.virt.libvirt.domain.previous import volume_disks
from compute_host.virt.libvirt.domain.sources import VolumeSource
from compute_host.virt.libvirt.domain.values import (
    SPARE_PORTS,
    Choices,
    Consoles,
    Laid,
    LaidDisk,
    Listen,
    Sev,
    domain_name,
    tap_name,
)
from compute_host.virt.libvirt.domain.volumes import copy_target, like
from compute_host.virt.libvirt.domain.whole import NAMESPACE, owner, render, volume, volume_instead

__all__ = [
    "NAMESPACE",
    "ROOT_SERIAL",
    "SPARE_PORTS",
    "Choices",
    "Consoles",
    "Laid",
    "LaidDisk",
    "Listen",
    "Sev",
    "VolumeSource",
    "copy_target",
    "domain_name",
    "interface",
    "like",
    "owner",
    "render",
    "shares_memory",
    "tap_name",
    "volume",
    "volume_disks",
    "volume_instead",
]
