"""A guest's domain XML: a pure function of its spec, its files and its host's settings.

`whole` puts together what the other modules make: one for each part of a domain.
"""

from __future__ import annotations

from compute_host.virt.libvirt.domain.interfaces import interface, shares_memory
from compute_host.virt.libvirt.domain.values import (
    SPARE_PORTS,
    Choices,
    Laid,
    LaidDisk,
    Sev,
    domain_name,
    tap_name,
)
from compute_host.virt.libvirt.domain.whole import NAMESPACE, owner, render

__all__ = [
    "NAMESPACE",
    "SPARE_PORTS",
    "Choices",
    "Laid",
    "LaidDisk",
    "Sev",
    "domain_name",
    "interface",
    "owner",
    "render",
    "shares_memory",
    "tap_name",
]
