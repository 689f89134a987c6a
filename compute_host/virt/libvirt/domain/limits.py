"""The limits of a flavor: on processor time, on each disk and on each network interface."""

from __future__ import annotations

from xml.etree.ElementTree import Element

from cell_service.model.hardware import Limits
from compute_host.virt.libvirt.domain.xml import add


def of_processor(domain: Element, limits: Limits) -> None:
    if limits.of_cpu:
        made = add(domain, "cputune")
        for name, value in (("shares", limits.cpu_shares), ("period", limits.cpu_period), ("quota", limits.cpu_quota)):
            if value is not None:
                add(made, name, str(value))


def of_disk(disk: Element, limits: Limits) -> None:
    if limits.disk:
        made = add(disk, "iotune")
        for name, value in limits.disk.items():
            add(made, name, str(value))


def of_interface(card: Element, limits: Limits) -> None:
    if limits.of_network:
        made = add(card, "bandwidth")
        for way, bandwidth in (("inbound", limits.inbound), ("outbound", limits.outbound)):
            if bandwidth is not None:
                values = {"average": bandwidth.average, "peak": bandwidth.peak, "burst": bandwidth.burst}
                add(made, way, **{name: str(value) for name, value in values.items() if value})
