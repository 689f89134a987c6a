"""A guest's diagnostics, as libvirt counts them."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree

import libvirt

from cell_service.model.diagnostics import CpuUse, DiskUse, GuestDiagnostics, NicUse
from cell_service.model.lifecycle import PowerState
from compute_host.virt.libvirt import states

_WORDS = {PowerState.NOSTATE: "pending", PowerState.SHUTDOWN: "shutdown"}


def of(found: Any, hypervisor: str) -> GuestDiagnostics:
    """The guest's diagnostics; there are counters only while it runs. Raises libvirtError."""
    state = states.of(found)
    tree = ElementTree.fromstring(found.XMLDesc(0))
    running = bool(found.isActive())
    memory = found.memoryStats() if running else {}
    return GuestDiagnostics(
        state=_WORDS.get(state, state.name.lower()),
        driver="libvirt",
        hypervisor=hypervisor,
        config_drive=any(
            (each.get("file") or "").endswith("disk.config") for each in tree.findall("devices/disk/source")
        ),
        memory_maximum=found.maxMemory() // 1024,
        memory_used=memory["rss"] // 1024 if "rss" in memory else None,
        cpus=_cpus(found) if running else (),
        nics=tuple(_nic(found, each, running) for each in tree.findall("devices/interface")),
        disks=tuple(_disk(found, each, running) for each in tree.findall("devices/disk[@device='disk']")),
    )


def _cpus(found: Any) -> tuple[CpuUse, ...]:
    try:
        known, _pins = found.vcpus()
    except libvirt.libvirtError:
        return ()
    return tuple(CpuUse(id=int(each[0]), time=int(each[2])) for each in known)


def _nic(found: Any, element: ElementTree.Element, running: bool) -> NicUse:
    mac, target = element.find("mac"), element.find("target")
    use = NicUse(
        mac="" if mac is None else mac.get("address", ""), device="" if target is None else target.get("dev", "")
    )
    if not running or not use.device:
        return use
    try:
        received, got, bad, lost, sent, gone, wrong, dropped = found.interfaceStats(use.device)
    except libvirt.libvirtError:  # an interface without a link on the host
        return use
    return NicUse(
        mac=use.mac, device=use.device, rx_octets=received, rx_packets=got, rx_errors=bad, rx_drop=lost,
        tx_octets=sent, tx_packets=gone, tx_errors=wrong, tx_drop=dropped,
    )  # fmt: skip


def _disk(found: Any, element: ElementTree.Element, running: bool) -> DiskUse:
    target = element.find("target")
    device = "" if target is None else target.get("dev", "")
    if not running:
        return DiskUse(device=device)
    reads, read_bytes, writes, written, errors = found.blockStats(device)
    return DiskUse(
        device=device, read_requests=reads, read_bytes=read_bytes, write_requests=writes, write_bytes=written,
        errors_count=max(0, errors),
    )  # fmt: skip
