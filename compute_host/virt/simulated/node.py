"""The report of a simulated host: a plausible x86 server."""

from __future__ import annotations

from datetime import UTC, datetime

from cell_service.model.ability import OF_HARDWARE
from cell_service.model.host import NodeReport
from cell_service.model.lifecycle import PowerState
from compute_host.config import HostSettings
from compute_host.virt import uptime
from compute_host.virt.simulated.state import Record

CPU_INFO = {
    "arch": "x86_64",
    "model": "Cascadelake-Server",
    "vendor": "Intel",
    "topology": {"cells": 1, "sockets": 1, "cores": 4, "threads": 2},
    "features": ["aes", "avx", "avx2", "avx512f", "fma", "pcid", "sse4.1", "sse4.2", "ssse3", "vmx", "xsave"],
}
_CHOICES = {
    "COMPUTE_GRAPHICS_MODEL": ("BOCHS", "CIRRUS", "NONE", "QXL", "VGA", "VIRTIO", "VMVGA"),
    "COMPUTE_NET_VIF_MODEL": ("E1000", "E1000E", "IGB", "NE2K_PCI", "PCNET", "RTL8139", "VIRTIO", "VMXNET3"),
    "COMPUTE_SOUND_MODEL": ("AC97", "ES1370", "ICH6", "ICH9", "PCSPK", "SB16", "USB", "VIRTIO"),
    "COMPUTE_STORAGE_BUS": ("FDC", "IDE", "SATA", "SCSI", "USB", "VIRTIO"),
    "COMPUTE_USB_MODEL": ("NEC_XHCI", "QEMU_XHCI"),
    "COMPUTE_VIOMMU_MODEL": ("AUTO", "INTEL", "VIRTIO"),
}
_TRAITS = (
    "COMPUTE_ACCELERATORS",
    "COMPUTE_ADDRESS_SPACE_EMULATED",
    "COMPUTE_ADDRESS_SPACE_PASSTHROUGH",
    "COMPUTE_DEVICE_TAGGING",
    "COMPUTE_FIRMWARE_BIOS",
    "COMPUTE_FIRMWARE_UEFI",
    "COMPUTE_IMAGE_TYPE_QCOW2",
    "COMPUTE_IMAGE_TYPE_RAW",
    "COMPUTE_NET_ATTACH_INTERFACE",
    "COMPUTE_NET_VIRTIO_PACKED",
    "COMPUTE_NODE",
    "COMPUTE_SECURITY_TPM_1_2",
    "COMPUTE_SECURITY_TPM_2_0",
    "COMPUTE_SECURITY_TPM_CRB",
    "COMPUTE_SECURITY_TPM_TIS",
    "COMPUTE_SECURITY_UEFI_SECURE_BOOT",
    "COMPUTE_STORAGE_VIRTIO_FS",
    "COMPUTE_TRUSTED_CERTS",
    "HW_CPU_X86_AESNI",
    "HW_CPU_X86_AVX",
    "HW_CPU_X86_AVX2",
    "HW_CPU_X86_AVX512F",
    "HW_CPU_X86_FMA3",
    "HW_CPU_X86_SSE",
    "HW_CPU_X86_SSE2",
    "HW_CPU_X86_SSE41",
    "HW_CPU_X86_SSE42",
    "HW_CPU_X86_SSSE3",
    "HW_CPU_X86_VMX",
)
TRAITS = tuple(sorted({*_TRAITS, *(f"{prefix}_{name}" for prefix, names in _CHOICES.items() for name in names)}))
"""All hardware that the simulated host accepts for its guests; none that a user would have to trust, as memory
encryption."""
SUPPORTED = (("x86_64", "qemu", "hvm"), ("x86_64", "kvm", "hvm"))


def used(guests: list[Record]) -> tuple[int, int, int]:
    """VCPUs, MiB of memory and GiB of disk that guests have, running or not."""
    return (
        sum(guest.vcpus for guest in guests),
        sum(guest.memory_mib for guest in guests),
        sum(guest.disk_gib for guest in guests),
    )


def report(settings: HostSettings, node_uuid: str, guests: list[Record]) -> NodeReport:
    """The host's only node."""
    simulated, reserved, ratios = settings.simulated, settings.reserved, settings.ratios
    vcpus, memory_mib, disk_gib = used(guests)
    return NodeReport(
        node=settings.host,
        uuid=node_uuid,
        hypervisor_type="QEMU",
        hypervisor_version=8002000,
        host_ip=settings.my_ip,
        vcpus=simulated.vcpus,
        memory_mib=simulated.memory_mib,
        local_gib=simulated.disk_gib,
        vcpus_used=vcpus,
        memory_mib_used=memory_mib + reserved.memory_mib,
        local_gib_used=disk_gib,
        running_vms=sum(1 for guest in guests if guest.power_state is PowerState.RUNNING),
        disk_available_least_gib=simulated.disk_gib - disk_gib,
        cpu_info=CPU_INFO,
        supported_instances=SUPPORTED,
        traits=TRAITS,
        reserved_memory_mib=reserved.memory_mib,
        reserved_vcpus=reserved.vcpus,
        reserved_disk_gib=reserved.disk_gib,
        cpu_allocation_ratio=ratios.cpu,
        ram_allocation_ratio=ratios.ram,
        disk_allocation_ratio=ratios.disk,
        uptime=uptime.reported(datetime.now(UTC)),
        abilities=tuple(sorted(ability.value for ability in OF_HARDWARE)),
    )
