"""Domain XML for the hardware of guests, part by part; and for the parts of a host that are chosen for a guest."""

from __future__ import annotations

from dataclasses import replace
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compute_host.virt.libvirt.domain import Sev, interface, render
from compute_host.virt.libvirt.domain.placement import GuestNode, PciDevice, Placement, numbers
from tests.compute_host.hardware_cases import CASES, UEFI, Case
from tests.compute_host.test_domain import FLAVOR, PLAIN, PORT, QEMU, spec

SEV = replace(QEMU, kvm=True, cpu_mode="host-model", sev=Sev(47, 1))


def domain(case: Case, placement: Placement | None = None) -> Element:
    flavor = replace(FLAVOR, extra_specs=case.specs)
    text = render(spec(flavor=flavor, **case.properties), PLAIN, replace(QEMU, **case.choices), placement)
    return ElementTree.fromstring(text)


@pytest.mark.parametrize("name", CASES)
def test_the_hardware_is_in_the_domain(name: str) -> None:
    case = CASES[name]
    tree = domain(case)
    for path, expected in case.expected.items():
        found = tree.find(path)
        if expected is None:
            assert found is None, f"{path} is there"
            continue
        assert found is not None, f"{path} is not there"
        if isinstance(expected, str):
            assert found.text == expected
        else:
            assert {name: found.get(name) for name in expected} == expected


def test_encrypted_memory_is_locked_and_shared_with_devices_through_an_iommu() -> None:
    guest = spec(hw_mem_encryption="true", hw_qemu_guest_agent="yes", hw_input_bus="virtio", hw_disk_bus="scsi", **UEFI)
    tree = ElementTree.fromstring(render(guest, PLAIN, SEV))
    security = tree.find("launchSecurity")
    assert security is not None
    assert {part.tag: part.text for part in security} == {"cbitpos": "47", "reducedPhysBits": "1", "policy": "0x0033"}
    assert tree.find("memoryBacking/locked") is not None
    encrypted = [part.tag for part in tree.findall("devices/*") if (found := part.find("driver")) is not None
                 and found.get("iommu") == "on"]  # fmt: skip
    assert sorted(encrypted) == ["controller", "input", "input", "interface", "memballoon", "rng"]


def test_a_card_that_is_plugged_later_has_the_same_hardware() -> None:
    case = replace(CASES["network-limits"], specs={**CASES["network-limits"].specs, **CASES["queues"].specs})
    guest = spec(flavor=replace(FLAVOR, extra_specs=case.specs))
    found = domain(case).find("devices/interface")
    assert found is not None
    made = ElementTree.canonicalize(interface(guest, PORT, QEMU), strip_text=True)
    assert made == ElementTree.canonicalize(ElementTree.tostring(found), strip_text=True)


def test_a_user_network_has_neither_limits_nor_queues() -> None:
    case = replace(CASES["network-limits"], specs={**CASES["network-limits"].specs, **CASES["queues"].specs})
    tree = domain(replace(case, choices={"user_networking": True}))
    assert tree.find("devices/interface/bandwidth") is None
    assert tree.find("devices/interface/driver") is None


PLACED = Placement(
    nodes=(
        GuestNode(frozenset({0}), 128, host_node=0, page_kib=2048),
        GuestNode(frozenset({1}), 128, host_node=3, page_kib=2048),
    ),
    pins={0: frozenset({4, 5, 6, 12}), 1: frozenset({7})},
    emulator=frozenset({1, 2}),
    realtime=frozenset({1}),
    priority=3,
    devices=(PciDevice(0, 5, 0x1F, 1),),
)


def test_a_placement_becomes_nodes_pins_pages_and_devices() -> None:
    tree = domain(CASES["cpu-limits"], PLACED)
    cells = [dict(cell.attrib) for cell in tree.findall("cpu/numa/cell")]
    shared = {"memory": "128", "unit": "MiB", "memAccess": "shared"}
    assert cells == [{"id": "0", "cpus": "0", **shared}, {"id": "1", "cpus": "1", **shared}]
    assert [dict(part.attrib) for part in tree.findall("numatune/*")] == [
        {"mode": "strict", "nodeset": "0,3"},
        {"cellid": "0", "mode": "strict", "nodeset": "0"},
        {"cellid": "1", "mode": "strict", "nodeset": "3"},
    ]
    (page,) = tree.findall("memoryBacking/hugepages/page")
    assert dict(page.attrib) == {"size": "2048", "unit": "KiB", "nodeset": "0-1"}
    assert [part.tag for part in tree.findall("memoryBacking/*")] == ["hugepages", "nosharepages", "locked"]
    assert [(part.tag, dict(part.attrib)) for part in tree.findall("cputune/*") if part.attrib] == [
        ("vcpupin", {"vcpu": "0", "cpuset": "4-6,12"}),
        ("vcpupin", {"vcpu": "1", "cpuset": "7"}),
        ("emulatorpin", {"cpuset": "1-2"}),
        ("vcpusched", {"vcpus": "1", "scheduler": "fifo", "priority": "3"}),
    ]
    assert tree.findtext("cputune/shares") == "512", "limits stay"
    address = tree.find("devices/hostdev/source/address")
    assert address is not None
    assert dict(address.attrib) == {"domain": "0x0000", "bus": "0x05", "slot": "0x1f", "function": "0x1"}


def test_no_placement_is_no_element() -> None:
    case = CASES["plain"]
    assert ElementTree.tostring(domain(case, Placement())) == ElementTree.tostring(domain(case))


@given(st.frozensets(st.integers(0, 300)))
def test_numbers_are_listed_as_libvirt_reads_them(values: frozenset[int]) -> None:
    read: set[int] = set()
    for part in filter(None, numbers(values).split(",")):
        first, _, last = part.partition("-")
        read |= set(range(int(first), int(last or first) + 1))
    assert read == values
