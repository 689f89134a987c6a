"""Which limits a host can put on its guests: those with which its libvirt starts a small guest that never runs.

libvirt reports neither whether it may use the control groups that limit processor time, nor whether the host's kernel
has the queues that limit traffic; and it does not start a guest whose limits it can't set.
"""

from __future__ import annotations

from typing import Any
from uuid import uuid4
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import libvirt

from cell_service.model.ability import Ability
from compute_host.virt.libvirt.domain.xml import add

ALWAYS = (Ability.WATCHDOG, Ability.DISK_LIMITS)
"""QEMU itself does both."""


def abilities(connection: Any, *, user_networking: bool) -> tuple[str, ...]:
    """Values of `Ability`. Raises libvirtError when the connection is lost."""
    found = list(ALWAYS)
    if _starts(connection, _with_cpu_limits()):
        found.append(Ability.CPU_LIMITS)
    if not user_networking and _starts(connection, _with_bandwidth()):
        found.append(Ability.NETWORK_LIMITS)
    return tuple(sorted(ability.value for ability in found))


def _starts(connection: Any, domain: Element) -> bool:
    flags = libvirt.VIR_DOMAIN_START_PAUSED | libvirt.VIR_DOMAIN_START_AUTODESTROY
    try:
        connection.createXML(ElementTree.tostring(domain, encoding="unicode"), flags).destroy()
    except libvirt.libvirtError:
        if not connection.isAlive():
            raise
        return False
    return True


def _domain() -> Element:
    domain = Element("domain", type="qemu")
    add(domain, "name", f"polycell-probe-{uuid4()}")
    add(domain, "memory", "16", unit="MiB")
    add(add(domain, "os"), "type", "hvm", arch="x86_64", machine="pc")
    return domain


def _with_cpu_limits() -> Element:
    domain = _domain()
    tune = add(domain, "cputune")
    add(tune, "shares", "1024")
    add(tune, "period", "100000")
    add(tune, "quota", "100000")
    return domain


def _with_bandwidth() -> Element:
    domain = _domain()
    card = add(add(domain, "devices"), "interface", type="ethernet")
    add(card, "model", type="virtio")
    bandwidth = add(card, "bandwidth")
    for way in ("inbound", "outbound"):
        add(bandwidth, way, average="1024")
    return domain
