"""Hardware of guests: what flavors and images say together, what is refused, and which hosts it needs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api_cell.scheduler import requirements
from api_cell.scheduler.config import SchedulerSection
from api_cell.scheduler.hosts import HostState
from api_cell.scheduler.request_view import request_view
from cell_service.errors import FlavorImageConflict, Invalid
from cell_service.model import hardware
from cell_service.model.ability import Ability
from cell_service.model.hardware import NO_NEEDS, AddressSpace, Bandwidth, Hardware, Rng, Topology, Tpm, needs_of
from cell_service.model.instance import Flavor
from cell_service.model.request_spec import RequestSpec

FLAVOR = Flavor("1", "m1", vcpus=4, memory_mib=512, root_gib=1)
UEFI = {"hw_firmware_type": "uefi", "hw_machine_type": "q35"}


def of(specs: dict[str, str] | None = None, vcpus: int = 4, **properties: str) -> Hardware:
    return hardware.of(replace(FLAVOR, vcpus=vcpus, extra_specs=specs or {}), properties)


@pytest.mark.parametrize(
    ("vcpus", "specs", "properties", "expected"),
    [
        (4, {}, {}, (4, 1, 1)),
        (4, {"hw:cpu_sockets": "1"}, {}, (1, 4, 1)),
        (4, {"hw:cpu_threads": "2"}, {}, (2, 1, 2)),
        (8, {"hw:cpu_cores": "2", "hw:cpu_threads": "2"}, {}, (2, 2, 2)),
        (4, {"hw:cpu_max_sockets": "2"}, {}, (2, 2, 1)),
        (4, {"hw:cpu_max_sockets": "1", "hw:cpu_max_cores": "2"}, {}, (1, 2, 2)),
        (4, {}, {"hw_cpu_cores": "4"}, (1, 4, 1)),
        (4, {"hw:cpu_cores": "4"}, {"hw_cpu_sockets": "2"}, (2, 2, 1)),
        (4, {"hw:cpu_max_cores": "4"}, {"hw_cpu_max_sockets": "1"}, (1, 4, 1)),
        (4, {"hw:cpu_cores": "3"}, {}, (4, 1, 1)),
        (4, {"hw:cpu_cores": "4", "hw:cpu_max_cores": "2"}, {}, (4, 1, 1)),
        (7, {"hw:cpu_sockets": "2"}, {}, (7, 1, 1)),
    ],
)
def test_a_topology_is_chosen_as_nova_does(
    vcpus: int, specs: dict[str, str], properties: dict[str, str], expected: tuple[int, int, int]
) -> None:
    assert of(specs, vcpus, **properties).topology == Topology(*expected)


@given(st.integers(1, 64), st.integers(1, 8), st.integers(1, 8), st.integers(1, 8))
def test_a_topology_has_all_vcpus_within_its_limits(vcpus: int, sockets: int, cores: int, threads: int) -> None:
    limits = {"hw:cpu_max_sockets": str(sockets), "hw:cpu_max_cores": str(cores), "hw:cpu_max_threads": str(threads)}
    try:
        found = of(limits, vcpus).topology
    except Invalid:
        assert not any(
            s * c * t == vcpus
            for s in range(1, sockets + 1)
            for c in range(1, cores + 1)
            for t in range(1, threads + 1)
        )
        return
    assert found.vcpus == vcpus
    assert (found.sockets <= sockets, found.cores <= cores, found.threads <= threads) == (True, True, True)


@pytest.mark.parametrize(
    ("specs", "properties", "words"),
    [
        ({"hw:cpu_max_cores": "1", "hw:cpu_max_sockets": "1", "hw:cpu_max_threads": "1"}, {}, "impossible to satisfy"),
        ({"hw:cpu_max_sockets": "2"}, {"hw_cpu_max_sockets": "3"}, "exceeds the limits of the flavor"),
        ({"hw:cpu_max_sockets": "2"}, {"hw_cpu_sockets": "4"}, "exceeds the limits of the flavor or image"),
        ({}, {"hw_cpu_sockets": "none"}, "no whole number from 1"),
        ({"hw:tpm_version": "1.2"}, {"hw_tpm_version": "2.0"}, "Conflicting values for tpm_version"),
        ({"hw:tpm_version": "1.2", "hw:tpm_model": "tpm-crb"}, {}, "only valid with TPM version 2.0"),
        ({"hw:tpm_model": "tpm-crb"}, {}, "without a TPM version"),
        ({"hw:tpm_version": "3.0"}, {}, "Allowed values: 1.2, 2.0"),
        ({"os:secure_boot": "required"}, {**UEFI, "os_secure_boot": "disabled"}, "Conflicting values for secure_boot"),
        ({"os:secure_boot": "disabled"}, {**UEFI, "os_secure_boot": "optional"}, "Conflicting values for secure_boot"),
        ({"os:secure_boot": "required"}, {}, "Secure Boot needs an image with hw_firmware_type=uefi"),
        ({"os:secure_boot": "required"}, {**UEFI, "hw_machine_type": "pc"}, "Machine type 'pc' is not compatible"),
        ({"hw:mem_encryption": "true"}, {"hw_mem_encryption": "no", **UEFI}, "Conflicting values for mem_encryption"),
        ({"hw:mem_encryption": "true"}, {}, "does not have hw_firmware_type=uefi"),
        ({"hw:mem_encryption": "true"}, {**UEFI, "hw_machine_type": "pc-i440fx-7.2"}, "is not compatible"),
        ({"hw:mem_encryption": "perhaps"}, {}, "neither yes nor no"),
        ({"hw:locked_memory": "true"}, {}, "forbidden when mem_page_size is not set"),
        ({"hw:locked_memory": "true"}, {"hw_locked_memory": "false"}, "locked_memory value in image"),
        ({"hw:serial_port_count": "1"}, {"hw_serial_port_count": "2"}, "Forbidden to exceed flavor value"),
        ({}, {"hw_video_ram": "1"}, "video memory 1 is higher than the maximum allowed by flavor 0"),
        ({"hw_video:ram_max_mb": "8"}, {"hw_video_ram": "16"}, "higher than the maximum allowed by flavor 8"),
        ({"hw:vif_multiqueue_enabled": "true"}, {"hw_vif_multiqueue_enabled": "false"}, "Conflicting values"),
        ({"hw:pmu": "true"}, {"hw_pmu": "false"}, "Conflicting values for pmu"),
        ({"hw:watchdog_action": "explode"}, {}, "Invalid value 'explode'"),
        ({}, {"hw_video_model": "voodoo"}, "Invalid value 'voodoo' of image property hw_video_model"),
        ({}, {"hw_disk_bus": "ide", "hw_machine_type": "pc-q35-7.2"}, "it has no IDE"),
        ({}, {"hw_maxphysaddr_bits": "42"}, "needs hw_maxphysaddr_mode"),
        ({}, {"hw_maxphysaddr_mode": "emulate"}, "needs hw_maxphysaddr_bits"),
        ({}, {"hw_maxphysaddr_mode": "passthrough", "hw_maxphysaddr_bits": "42"}, "not compatible"),
        ({"quota:disk_total_iops_sec": "1", "quota:disk_read_iops_sec": "1"}, {}, "exclude each other"),
        ({"quota:cpu_period": "10"}, {}, "not between 1000 and 1000000"),
        ({"quota:cpu_quota": "10"}, {}, "less than 1000"),
        ({"quota:cpu_shares": "many"}, {}, "no whole number"),
        ({"quota:vif_inbound_peak": "1"}, {}, "quota:vif_inbound_average is needed"),
        ({"quota:disk_read_bytes_sec": str(2**64)}, {}, "no whole number"),
    ],
)
def test_contradictions_and_wrong_values_are_refused(
    specs: dict[str, str], properties: dict[str, str], words: str
) -> None:
    with pytest.raises(Invalid, match=words):
        of(specs, **properties)


def test_a_conflict_names_both_values() -> None:
    with pytest.raises(FlavorImageConflict) as caught:
        of({"hw:tpm_version": "1.2"}, hw_tpm_version="2.0")
    assert str(caught.value) == ("Conflicting values for tpm_version found in the flavor (1.2) and the image (2.0).")


@pytest.mark.parametrize(
    ("specs", "properties", "field", "expected"),
    [
        ({}, {}, "rng", Rng()),
        ({"hw_rng:allowed": "False"}, {"hw_rng_model": "virtio"}, "rng", None),
        ({"hw_rng:rate_bytes": "5", "hw_rng:rate_period": "1000"}, {}, "rng", Rng(5, 1000)),
        ({"hw:watchdog_action": "reset"}, {}, "watchdog", "reset"),
        ({"hw:watchdog_action": "reset"}, {"hw_watchdog_action": "pause"}, "watchdog", "pause"),
        ({"hw:watchdog_action": "reset"}, {"hw_watchdog_action": "disabled"}, "watchdog", None),
        ({"hw:serial_port_count": "3"}, {}, "serial_ports", 3),
        ({"hw:serial_port_count": "3"}, {"hw_serial_port_count": "2"}, "serial_ports", 2),
        ({}, {}, "serial_ports", 1),
        ({"hw:tpm_version": "2.0"}, {"hw_tpm_model": "tpm-crb"}, "tpm", Tpm("2.0", "tpm-crb")),
        ({}, {"hw_tpm_version": "1.2"}, "tpm", Tpm("1.2", "tpm-tis")),
        ({"hide_hypervisor_id": "1"}, {}, "hides_hypervisor", True),
        ({}, {"img_hide_hypervisor_id": "yes"}, "hides_hypervisor", True),
        ({"hw:hide_hypervisor_id": "false"}, {}, "hides_hypervisor", False),
        ({"hw:boot_menu": "false"}, {"hw_boot_menu": "true"}, "boot_menu", False),
        ({}, {"hw_boot_menu": "true"}, "boot_menu", True),
        ({}, {**UEFI, "os_secure_boot": "optional"}, "secure_boot", "optional"),
        ({"hw_video:ram_max_mb": "16"}, {"hw_video_ram": "16"}, "video_ram_mib", 16),
        ({"hw:pmu": "no"}, {}, "pmu", False),
        ({}, {}, "pmu", None),
        ({}, {"hw_maxphysaddr_mode": "emulate", "hw_maxphysaddr_bits": "42"}, "address_space",
         AddressSpace("emulate", 42)),
        ({"hw:mem_page_size": "large", "hw:locked_memory": "true"}, {}, "locked_memory", True),
    ],
)  # fmt: skip
def test_flavor_and_image_say_together(
    specs: dict[str, str], properties: dict[str, str], field: str, expected: Any
) -> None:
    assert getattr(of(specs, **properties), field) == expected


def test_limits_come_from_the_flavor_and_zero_is_none() -> None:
    found = of({
        "quota:cpu_shares": "512", "quota:cpu_period": "100000", "quota:cpu_quota": "-1",
        "quota:disk_read_bytes_sec": "1000", "quota:disk_write_iops_sec": "0",
        "quota:vif_inbound_average": "10", "quota:vif_inbound_burst": "30", "quota:vif_outbound_average": "0",
    }).limits  # fmt: skip
    assert (found.cpu_shares, found.cpu_period, found.cpu_quota) == (512, 100000, -1)
    assert dict(found.disk) == {"read_bytes_sec": 1000}
    assert (found.inbound, found.outbound) == (Bandwidth(10, 0, 30), None)


HOST = HostState(key="k1", host="h1", node="n1", cell_id=1)


def reason(host: HostState, specs: dict[str, str], properties: dict[str, str]) -> str | None:
    flavor = replace(FLAVOR, extra_specs=specs)
    spec = RequestSpec("i", "p1", "u1", flavor, image_id="img", image_properties=properties)
    return requirements.Hardware().reject(host, request_view(spec, SchedulerSection()))


@pytest.mark.parametrize(
    ("specs", "properties", "trait"),
    [
        ({}, {"hw_video_model": "qxl"}, "COMPUTE_GRAPHICS_MODEL_QXL"),
        ({}, {"hw_disk_bus": "sata"}, "COMPUTE_STORAGE_BUS_SATA"),
        ({}, {"hw_cdrom_bus": "usb"}, "COMPUTE_STORAGE_BUS_USB"),
        ({}, {"hw_vif_model": "e1000"}, "COMPUTE_NET_VIF_MODEL_E1000"),
        ({}, {"hw_firmware_type": "uefi"}, "COMPUTE_FIRMWARE_UEFI"),
        ({"os:secure_boot": "required"}, {"hw_firmware_type": "uefi"}, "COMPUTE_SECURITY_UEFI_SECURE_BOOT"),
        ({"hw:tpm_version": "2.0"}, {}, "COMPUTE_SECURITY_TPM_2_0"),
        ({}, {"hw_tpm_version": "1.2"}, "COMPUTE_SECURITY_TPM_1_2"),
        ({"hw:tpm_version": "2.0", "hw:tpm_model": "tpm-crb"}, {}, "COMPUTE_SECURITY_TPM_CRB"),
        ({"hw:mem_encryption": "true"}, {"hw_firmware_type": "uefi"}, "HW_CPU_X86_AMD_SEV"),
        ({"hw:sound_model": "ich9"}, {}, "COMPUTE_SOUND_MODEL_ICH9"),
        ({}, {"hw_usb_model": "qemu-xhci"}, "COMPUTE_USB_MODEL_QEMU_XHCI"),
        ({"hw:viommu_model": "intel"}, {}, "COMPUTE_VIOMMU_MODEL_INTEL"),
        ({"hw:virtio_packed_ring": "true"}, {}, "COMPUTE_NET_VIRTIO_PACKED"),
        ({}, {"hw_maxphysaddr_mode": "passthrough"}, "COMPUTE_ADDRESS_SPACE_PASSTHROUGH"),
    ],
)
def test_hardware_needs_a_host_with_the_trait(specs: dict[str, str], properties: dict[str, str], trait: str) -> None:
    needed = needs_of(replace(FLAVOR, extra_specs=specs), properties).traits
    assert trait in needed
    assert reason(replace(HOST, traits=needed), specs, properties) is None
    assert reason(replace(HOST, traits=needed - {trait}), specs, properties) == f"lacks trait {trait}"


@pytest.mark.parametrize(
    ("specs", "ability"),
    [
        ({"hw:watchdog_action": "reset"}, Ability.WATCHDOG),
        ({"quota:cpu_quota": "20000"}, Ability.CPU_LIMITS),
        ({"quota:disk_total_iops_sec": "10"}, Ability.DISK_LIMITS),
        ({"quota:vif_outbound_average": "10"}, Ability.NETWORK_LIMITS),
    ],
)
def test_hardware_without_a_trait_needs_an_ability(specs: dict[str, str], ability: Ability) -> None:
    assert reason(replace(HOST, abilities=(ability.value,)), specs, {}) is None
    assert reason(replace(HOST, abilities=()), specs, {}) == f"cannot {ability.phrase}"
    assert reason(HOST, specs, {}) is None, "an older agent that reports no abilities at all is taken"


@pytest.mark.parametrize(
    ("specs", "properties", "what"),
    [
        ({"hw:numa_nodes": "2"}, {}, "NUMA topology"),
        ({}, {"hw_numa_nodes": "2"}, "NUMA topology"),
        ({"hw:mem_page_size": "2MB"}, {}, "memory pages of a chosen size"),
        ({"hw:cpu_policy": "mixed"}, {}, "mixed processors"),
        ({}, {"hw_cpu_policy": "dedicated"}, "dedicated processors where only the image demands them"),
        ({"hw:cpu_thread_policy": "isolate"}, {}, "CPU thread policy"),
        ({"hw:cpu_realtime": "yes"}, {}, "real-time processors"),
        ({"hw:emulator_threads_policy": "share"}, {}, "emulator thread policy"),
        ({"pci_passthrough:alias": "gpu:1"}, {}, "PCI passthrough"),
        ({"hw:pmem": "6GB"}, {}, "persistent memory"),
        ({}, {"hw_redirected_usb_ports": "2"}, "redirected USB ports"),
        ({}, {"hw_firmware_stateless": "true", "hw_firmware_type": "bios"}, "firmware without state"),
        ({}, {"hw_scsi_model": "buslogic"}, "SCSI controller buslogic"),
    ],
)
def test_what_no_host_has_yet_is_refused_and_not_left_out(
    specs: dict[str, str], properties: dict[str, str], what: str
) -> None:
    assert reason(HOST, specs, properties) == f"offers no {what}"


@pytest.mark.parametrize(
    ("specs", "properties"),
    [
        ({}, {}),
        ({"mine": "x", "trait:CUSTOM_A": "required"}, {"os_distro": "debian", "hw_rng_model": "virtio"}),
        ({"hw:cpu_realtime": "no", "hw:ephemeral_encryption": "false", "hw:cpu_thread_policy": "prefer"}, {}),
        ({"hw:cpu_policy": "dedicated"}, {"hw_cpu_policy": "dedicated"}),
        ({"hw:numa_nodes": "1"}, {"hw_numa_nodes": "1"}),
        ({"hw:watchdog_action": "disabled", "os:secure_boot": "disabled", "quota:disk_read_iops_sec": "0"}, {}),
        ({"hw:cpu_cores": "2"}, {"hw_machine_type": "q35", "hw_firmware_type": "bios", "hw_qemu_guest_agent": "yes"}),
        ({"quota:vif_shares_level": "high"}, {"hw_scsi_model": "virtio-scsi", "hw_usb_model": "none"}),
    ],
)
def test_what_every_host_has_needs_nothing(specs: dict[str, str], properties: dict[str, str]) -> None:
    assert needs_of(replace(FLAVOR, extra_specs=specs), properties) == NO_NEEDS
