"""The traits of a host, from what its libvirt reports of the domains that it can have."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import libvirt
import os_traits

from compute_host.virt.libvirt.domain import Sev
from compute_host.virt.libvirt.domain.interfaces import MODELS

MACHINES = ("pc", "q35")
_ABLE = (
    "COMPUTE_NODE",
    "COMPUTE_ARCH_X86_64",
    "COMPUTE_FIRMWARE_BIOS",
    "COMPUTE_NET_VIRTIO_PACKED",
    "COMPUTE_TRUSTED_CERTS",
    "COMPUTE_USB_MODEL_NEC_XHCI",
    "COMPUTE_USB_MODEL_QEMU_XHCI",
    "HW_ARCH_X86_64",
)
_IMAGE_TYPES = ("AMI", "AKI", "ARI", "ISO", "QCOW2", "RAW", "QED", "VDI", "VHD", "VHDX", "VMDK")
_SOUND = ("AC97", "ES1370", "ICH6", "ICH9", "SB16", "USB")
"""The models with which QEMU starts; libvirt does not report them. Not the speaker: libvirt 9 does not know how."""
_BUSES = frozenset({"ide", "sata", "scsi", "usb", "virtio"})
"""Those that a disk of ours can be on: a floppy disk's can't."""
_TRANSLATED = ["mmx", "pni", "sse", "sse2"]
"""The features of the processor that QEMU's translation (TCG) emulates, on any machine."""
_FEATURES = {"pni": "SSE3", "sse4.1": "SSE41", "sse4.2": "SSE42", "sse4a": "SSE4A", "aes": "AESNI", "fma": "FMA3"}


def capabilities(connection: Any, *, kvm: bool) -> list[Element]:
    """libvirt's reports of the domains that it can have, one for each machine type."""
    found = []
    for machine in MACHINES:
        try:
            text = connection.getDomainCapabilities(None, "x86_64", machine, "kvm" if kvm else "qemu")
        except libvirt.libvirtError:
            continue
        found.append(ElementTree.fromstring(text))
    return found


def of_host(domains: list[Element], features: list[str], *, kvm: bool) -> tuple[str, ...]:
    """`features`: of the host's processor."""
    known = set(os_traits.get_traits())
    traits = {*_ABLE, *_of_cpu(features if kvm else _TRANSLATED), *_of_domains(domains)}
    traits |= {f"COMPUTE_IMAGE_TYPE_{kind}" for kind in _IMAGE_TYPES}
    traits |= {f"COMPUTE_NET_VIF_MODEL_{model.upper()}" for model in MODELS}
    traits |= {f"COMPUTE_SOUND_MODEL_{model}" for model in _SOUND}
    if kvm:
        traits |= {"COMPUTE_ADDRESS_SPACE_EMULATED", "COMPUTE_ADDRESS_SPACE_PASSTHROUGH"}
    return tuple(sorted(traits & known))


def sev_of(domains: list[Element]) -> Sev | None:
    """How guests' memory is encrypted; None where it can't be."""
    for each in domains:
        sev = each.find("features/sev[@supported='yes']")
        if sev is not None:
            return Sev(int(sev.findtext("cbitpos", "0")), int(sev.findtext("reducedPhysBits", "0")))
    return None


def knows_spice(domains: list[Element]) -> bool:
    return "spice" in _values(domains, "devices/graphics", "type")


def _of_cpu(features: Iterable[str]) -> Iterator[str]:
    for name in features:
        yield f"HW_CPU_X86_{_FEATURES.get(name, name.upper().replace('-', '_').replace('.', ''))}"


def _of_domains(domains: list[Element]) -> Iterator[str]:
    for model in _values(domains, "devices/video", "modelType"):
        yield f"COMPUTE_GRAPHICS_MODEL_{model.upper()}"
    for bus in _values(domains, "devices/disk", "bus") & _BUSES:
        yield f"COMPUTE_STORAGE_BUS_{bus.upper()}"
    if "efi" in _values(domains, "os", "firmware"):
        yield "COMPUTE_FIRMWARE_UEFI"
        if "yes" in _values(domains, "os/loader", "secure"):
            yield "COMPUTE_SECURITY_UEFI_SECURE_BOOT"
    if "emulator" in _values(domains, "devices/tpm", "backendModel"):
        for version in _values(domains, "devices/tpm", "backendVersion"):
            yield f"COMPUTE_SECURITY_TPM_{version.replace('.', '_')}"
        for model in _values(domains, "devices/tpm", "model"):
            yield f"COMPUTE_SECURITY_TPM_{model.removeprefix('tpm-').upper()}"
    if sev_of(domains) is not None:
        yield "HW_CPU_X86_AMD_SEV"


def _values(domains: list[Element], path: str, name: str) -> set[str]:
    return {value.text or "" for each in domains for value in each.findall(f"{path}/enum[@name='{name}']/value")}
