"""The demands of a guest's hardware on a host: traits of os-traits, abilities where that has none; and hardware that no
host of ours has yet, so that it is refused and not left out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from cell_service.model.ability import Ability
from cell_service.model.hardware import guest
from cell_service.model.hardware.guest import Hardware
from cell_service.model.hardware.pairs import Pair
from cell_service.model.instance import Flavor

_NOT_OFFERED = (
    ("NUMA topology", ("hw:numa_", "hw_numa_")),
    ("memory pages of a chosen size", ("hw:mem_page_size", "hw_mem_page_size")),
    ("CPU thread policy", ("hw:cpu_thread_policy", "hw_cpu_thread_policy")),
    ("real-time processors", ("hw:cpu_realtime", "hw_cpu_realtime")),
    ("emulator thread policy", ("hw:emulator_threads_policy",)),
    ("PCI passthrough", ("pci_passthrough:",)),
    ("persistent memory", ("hw:pmem",)),
    ("redirected USB ports", ("hw:redirected_usb_ports", "hw_redirected_usb_ports")),
    ("firmware without state", ("hw_firmware_stateless",)),
    ("mixed processors", ("hw:cpu_dedicated_mask",)),
)
_OTHER_SCSI = frozenset({"buslogic", "ibmvscsi"})
"""Controllers of other hypervisors and processors; os-traits has no traits of controllers."""
_NAMES = ("hw", "os", "quota:", "hide_hypervisor_id", "img_hide_hypervisor_id", "pci_passthrough:")
_NONE = frozenset({"", "0", "no", "off", "false", "f", "n", "prefer"})
"""Values that demand nothing."""
_ONE_NODE = frozenset({("hw:numa_nodes", "1"), ("hw_numa_nodes", "1")})
"""Each guest has one node, which is not bound to one of the host's."""


@dataclass(frozen=True, slots=True)
class Needs:
    """`not_offered`: what no host has, in words that follow "offers no"; empty when there is no such thing."""

    traits: frozenset[str] = frozenset()
    abilities: frozenset[str] = frozenset()
    not_offered: str = ""

    def unmet_by(self, traits: Iterable[str], abilities: Iterable[str] | None) -> str | None:
        """Why a host with these traits and abilities (None: not reported) can't have the guest; None when it can."""
        if self.not_offered:
            return f"offers no {self.not_offered}"
        if lacking := self.traits.difference(traits):
            return f"lacks trait {min(lacking)}"
        if abilities is not None and (lacking := self.abilities.difference(abilities)):
            return f"cannot {Ability(min(lacking)).phrase}"
        return None


NO_NEEDS = Needs()


def needs_of(flavor: Flavor, properties: Mapping[str, str]) -> Needs:
    """Raises Invalid for values that contradict each other, or that are none."""
    if not any(name.startswith(_NAMES) for name in (*flavor.extra_specs, *properties)):
        return NO_NEEDS
    hardware = guest.of(flavor, properties)
    return Needs(
        frozenset(_traits(hardware)), frozenset(_abilities(hardware)), _not_offered(flavor.extra_specs, properties)
    )


def _traits(hardware: Hardware) -> Iterator[str]:
    for prefix, value in (
        ("COMPUTE_GRAPHICS_MODEL", hardware.video),
        ("COMPUTE_STORAGE_BUS", hardware.disk_bus),
        ("COMPUTE_STORAGE_BUS", hardware.cdrom_bus),
        ("COMPUTE_NET_VIF_MODEL", hardware.vif_model),
        ("COMPUTE_SOUND_MODEL", hardware.sound),
        ("COMPUTE_USB_MODEL", None if hardware.usb == "none" else hardware.usb),
        ("COMPUTE_VIOMMU_MODEL", hardware.viommu),
    ):
        if value is not None:
            yield f"{prefix}_{value.upper().replace('-', '_')}"
    if hardware.firmware == "uefi":
        yield "COMPUTE_FIRMWARE_UEFI"
    if hardware.secure_boot == "required":
        yield "COMPUTE_SECURITY_UEFI_SECURE_BOOT"
    if hardware.tpm is not None:
        yield f"COMPUTE_SECURITY_TPM_{hardware.tpm.version.replace('.', '_')}"
        if hardware.tpm.model != "tpm-tis":
            yield "COMPUTE_SECURITY_TPM_CRB"
    if hardware.memory_encryption:
        yield "HW_CPU_X86_AMD_SEV"
    if hardware.packed_ring:
        yield "COMPUTE_NET_VIRTIO_PACKED"
    if hardware.address_space is not None:
        passed = hardware.address_space.mode == "passthrough"
        yield f"COMPUTE_ADDRESS_SPACE_{'PASSTHROUGH' if passed else 'EMULATED'}"


def _abilities(hardware: Hardware) -> Iterator[str]:
    if hardware.watchdog is not None:
        yield Ability.WATCHDOG.value
    if hardware.limits.of_cpu:
        yield Ability.CPU_LIMITS.value
    if hardware.limits.disk:
        yield Ability.DISK_LIMITS.value
    if hardware.limits.of_network:
        yield Ability.NETWORK_LIMITS.value


def _not_offered(specs: Mapping[str, str], properties: Mapping[str, str]) -> str:
    pair = Pair(specs, properties)
    if "mixed" in (pair.spec("hw:cpu_policy"), pair.prop("hw_cpu_policy")):
        return "mixed processors"
    if pair.prop("hw_cpu_policy") == "dedicated" and pair.spec("hw:cpu_policy") != "dedicated":
        return "dedicated processors where only the image demands them"
    if pair.prop("hw_scsi_model") in _OTHER_SCSI:
        return f"SCSI controller {pair.prop('hw_scsi_model')}"
    for what, prefixes in _NOT_OFFERED:
        for name, value in (*specs.items(), *properties.items()):
            if name.startswith(prefixes) and value.strip().lower() not in _NONE and (name, value) not in _ONE_NODE:
                return what
    return ""
