"""The part of a host that is reserved for a guest: NUMA nodes, processors, pages of memory, PCI devices.

The scheduler or the host chooses it; here it only becomes XML.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from xml.etree.ElementTree import Element

from compute_host.virt.libvirt.domain.xml import add, child


@dataclass(frozen=True, slots=True)
class GuestNode:
    """A NUMA node of the guest, with its vCPUs. `host_node`: the node of the host that its memory is from; `page_kib`:
    the size of its pages (None: the host's small ones, or transparent huge ones)."""

    vcpus: frozenset[int]
    memory_mib: int
    host_node: int | None = None
    page_kib: int | None = None


@dataclass(frozen=True, slots=True)
class PciDevice:
    """A device of the host by its address, as in 0000:05:00.1."""

    domain: int
    bus: int
    slot: int
    function: int


@dataclass(frozen=True, slots=True)
class Placement:
    """`pins`: the host's processors that a vCPU may run on; `emulator`: those for QEMU's own work. `realtime`: vCPUs
    that are scheduled in real time, with `priority`."""

    nodes: tuple[GuestNode, ...] = ()
    pins: Mapping[int, frozenset[int]] = field(default_factory=dict)
    emulator: frozenset[int] = frozenset()
    realtime: frozenset[int] = frozenset()
    priority: int = 1
    devices: tuple[PciDevice, ...] = ()


def place(domain: Element, placement: Placement) -> None:
    """Add the placement to the domain."""
    _nodes(domain, placement.nodes)
    _pages(domain, placement)
    _processors(domain, placement)
    for device in placement.devices:
        made = add(child(domain, "devices"), "hostdev", mode="subsystem", type="pci", managed="yes")
        add(add(made, "source"), "address", domain=f"0x{device.domain:04x}", bus=f"0x{device.bus:02x}",
            slot=f"0x{device.slot:02x}", function=f"0x{device.function:x}")  # fmt: skip


def numbers(values: Iterable[int]) -> str:
    """As libvirt lists them: 0-3,8."""
    runs: list[tuple[int, int]] = []
    for value in sorted(values):
        if runs and runs[-1][1] == value - 1:
            runs[-1] = (runs[-1][0], value)
        else:
            runs.append((value, value))
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)


def _nodes(domain: Element, nodes: tuple[GuestNode, ...]) -> None:
    if not nodes:
        return
    numa = add(child(domain, "cpu"), "numa")
    for number, node in enumerate(nodes):
        cell = add(numa, "cell", id=str(number), cpus=numbers(node.vcpus), memory=str(node.memory_mib), unit="MiB")
        if node.page_kib is not None:
            cell.set("memAccess", "shared")
    bound = {number: node.host_node for number, node in enumerate(nodes) if node.host_node is not None}
    if bound:
        tune = child(domain, "numatune")
        add(tune, "memory", mode="strict", nodeset=numbers(set(bound.values())))
        for number, host_node in bound.items():
            add(tune, "memnode", cellid=str(number), mode="strict", nodeset=str(host_node))


def _pages(domain: Element, placement: Placement) -> None:
    sizes: dict[int, list[int]] = {}
    for number, node in enumerate(placement.nodes):
        if node.page_kib is not None:
            sizes.setdefault(node.page_kib, []).append(number)
    if sizes:
        made = add(child(domain, "memoryBacking"), "hugepages")
        for size, found in sorted(sizes.items()):
            add(made, "page", size=str(size), unit="KiB", nodeset=numbers(found))
    if placement.realtime:
        backing = child(domain, "memoryBacking")
        child(backing, "nosharepages")
        child(backing, "locked")


def _processors(domain: Element, placement: Placement) -> None:
    if not (placement.pins or placement.emulator or placement.realtime):
        return
    tune = child(domain, "cputune")
    for vcpu, cpus in sorted(placement.pins.items()):
        add(tune, "vcpupin", vcpu=str(vcpu), cpuset=numbers(cpus))
    if placement.emulator:
        add(tune, "emulatorpin", cpuset=numbers(placement.emulator))
    if placement.realtime:
        add(tune, "vcpusched", vcpus=numbers(placement.realtime), scheduler="fifo", priority=str(placement.priority))
