"""A guest's hardware, from its flavor and its image, whose contradictions are refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cell_service.errors import Invalid
from cell_service.model.hardware import cpu_topology, limits
from cell_service.model.hardware.cpu_topology import Topology
from cell_service.model.hardware.limits import Limits
from cell_service.model.hardware.pairs import Pair, conflict
from cell_service.model.instance import Flavor

_BUSES = frozenset({"fdc", "ide", "sata", "scsi", "usb", "virtio", "xen", "lxc", "uml"})
_VIDEO = frozenset({"cirrus", "qxl", "vga", "vmvga", "xen", "virtio", "gop", "none", "bochs"})
_VIFS = frozenset({"virtio", "ne2k_pci", "pcnet", "rtl8139", "e1000", "e1000e", "netfront", "spapr-vlan", "lan9118",
                   "sriov", "vmxnet", "vmxnet3", "igb"})  # fmt: skip
_SCSI = frozenset({"buslogic", "ibmvscsi", "lsilogic", "lsisas1068", "lsisas1078", "virtio-scsi", "vmpvscsi"})
_SOUND = frozenset({"sb16", "es1370", "pcspk", "ac97", "ich6", "ich9", "usb", "virtio"})
_WATCHDOG = frozenset({"none", "pause", "poweroff", "reset", "disabled"})
_TPM_VERSIONS, _TPM_MODELS = frozenset({"1.2", "2.0"}), frozenset({"tpm-tis", "tpm-crb"})
_USB = frozenset({"none", "nec-xhci", "qemu-xhci"})
_VIOMMU = frozenset({"intel", "smmuv3", "virtio", "auto"})


@dataclass(frozen=True, slots=True)
class Tpm:
    version: str
    model: str = "tpm-tis"


@dataclass(frozen=True, slots=True)
class Rng:
    """A random number device that gives at most `rate_bytes` in `rate_period` milliseconds (0: no limit)."""

    rate_bytes: int = 0
    rate_period: int = 0


@dataclass(frozen=True, slots=True)
class AddressSpace:
    """Width of the processor's physical addresses. `mode`: passthrough or emulate, the latter with `bits`."""

    mode: str
    bits: int | None = None


@dataclass(frozen=True, slots=True)
class Hardware:
    """None where neither flavor nor image say anything, and the host decides."""

    topology: Topology
    limits: Limits
    machine: str | None = None
    firmware: str = "bios"
    secure_boot: str = "disabled"
    """required, optional or disabled."""
    boot_menu: bool = False
    memory_encryption: bool = False
    locked_memory: bool = False
    hides_hypervisor: bool = False
    pmu: bool | None = None
    address_space: AddressSpace | None = None
    tpm: Tpm | None = None
    rng: Rng | None = None
    watchdog: str | None = None
    serial_ports: int = 1
    video: str | None = None
    video_ram_mib: int = 0
    sound: str | None = None
    usb: str | None = None
    pointer: str | None = None
    input_bus: str | None = None
    viommu: str | None = None
    disk_bus: str | None = None
    cdrom_bus: str | None = None
    scsi_model: str | None = None
    vif_model: str | None = None
    multiqueue: bool = False
    packed_ring: bool = False

    @property
    def needs_q35(self) -> bool:
        """Whether no other machine than q35 will do."""
        return self.secure_boot == "required" or self.memory_encryption


def of(flavor: Flavor, properties: Mapping[str, str]) -> Hardware:
    """`properties`: of the image, under nova's names. Raises Invalid, FlavorImageConflict."""
    pair = Pair(flavor.extra_specs, properties)
    machine, firmware = pair.prop("hw_machine_type"), pair.prop("hw_firmware_type", frozenset({"bios", "uefi"}))
    secure = _secure_boot(pair, machine, firmware)
    _check_buses(pair, machine)
    return Hardware(
        topology=cpu_topology.of(flavor.vcpus, pair),
        limits=limits.of(pair),
        machine=machine,
        firmware=firmware or "bios",
        secure_boot=secure,
        boot_menu=_boot_menu(pair),
        memory_encryption=_memory_encryption(pair, machine, firmware),
        locked_memory=_locked_memory(pair),
        hides_hypervisor=any((pair.spec_flag("hw:hide_hypervisor_id"), pair.spec_flag("hide_hypervisor_id"),
                              pair.prop_flag("img_hide_hypervisor_id"))),
        pmu=pair.same_flag("pmu"),
        address_space=_address_space(pair),
        tpm=_tpm(pair),
        rng=_rng(pair),
        watchdog=_watchdog(pair),
        serial_ports=_serial_ports(pair),
        video=pair.prop("hw_video_model", _VIDEO),
        video_ram_mib=_video_ram(pair),
        sound=pair.same("sound_model", _SOUND),
        usb=pair.same("usb_model", _USB),
        pointer=pair.prop("hw_pointer_model", frozenset({"usbtablet"})),
        input_bus=pair.prop("hw_input_bus", frozenset({"usb", "virtio"})),
        viommu=pair.spec("hw:viommu_model", _VIOMMU) or pair.prop("hw_viommu_model", _VIOMMU),
        disk_bus=pair.prop("hw_disk_bus", _BUSES),
        cdrom_bus=pair.prop("hw_cdrom_bus", _BUSES),
        scsi_model=pair.prop("hw_scsi_model", _SCSI),
        vif_model=pair.prop("hw_vif_model", _VIFS),
        multiqueue=bool(pair.same_flag("vif_multiqueue_enabled")),
        packed_ring=bool(pair.same_flag("virtio_packed_ring")),
    )  # fmt: skip


def _secure_boot(pair: Pair, machine: str | None, firmware: str | None) -> str:
    of_flavor = pair.spec("os:secure_boot", frozenset({"required", "disabled"}))
    of_image = pair.prop("os_secure_boot", frozenset({"required", "disabled", "optional"}))
    if of_flavor is not None and of_image is not None and of_flavor != of_image:
        raise conflict("secure_boot", of_flavor, of_image)
    chosen = of_flavor or of_image or "disabled"
    if chosen == "required":
        if firmware != "uefi":
            raise Invalid(reason="Secure Boot needs an image with hw_firmware_type=uefi.")
        _demand_q35(machine, "Secure Boot needs q35")
    return chosen


def _memory_encryption(pair: Pair, machine: str | None, firmware: str | None) -> bool:
    of_flavor, of_image = pair.spec_flag("hw:mem_encryption"), pair.prop_flag("hw_mem_encryption")
    if of_flavor is not None and of_image is not None and of_flavor != of_image:
        raise conflict("mem_encryption", of_flavor, of_image)
    if not (of_flavor or of_image):
        return False
    if firmware != "uefi":
        raise Invalid(reason="Memory encryption requested, but the image does not have hw_firmware_type=uefi.")
    _demand_q35(machine, "memory encryption needs q35")
    return True


def _demand_q35(machine: str | None, reason: str) -> None:
    if machine is not None and "q35" not in machine:
        raise Invalid(reason=f"Machine type '{machine}' is not compatible with the request: {reason}.")


def _check_buses(pair: Pair, machine: str | None) -> None:
    for name in ("hw_disk_bus", "hw_cdrom_bus"):
        if pair.prop(name, _BUSES) == "ide" and machine is not None and "q35" in machine:
            raise Invalid(reason=f"Machine type '{machine}' is not compatible with the image: it has no IDE ({name}).")


def _boot_menu(pair: Pair) -> bool:
    of_flavor = pair.spec_flag("hw:boot_menu")
    return bool(pair.prop_flag("hw_boot_menu") if of_flavor is None else of_flavor)


def _locked_memory(pair: Pair) -> bool:
    of_flavor, of_image = pair.spec_flag("hw:locked_memory"), pair.prop_flag("hw_locked_memory")
    if of_flavor is not None and of_image is not None and of_flavor != of_image:
        raise Invalid(reason=f"locked_memory value in image ({of_image}) and flavor ({of_flavor}) conflict. "
                             "A consistent value is expected if both specified.")  # fmt: skip
    locked = bool(of_flavor or of_image)
    if locked and not (pair.spec("hw:mem_page_size") or pair.prop("hw_mem_page_size")):
        raise Invalid(reason="locked_memory value in image or flavor is forbidden when mem_page_size is not set.")
    return locked


def _address_space(pair: Pair) -> AddressSpace | None:
    mode = pair.prop("hw_maxphysaddr_mode", frozenset({"passthrough", "emulate"}))
    bits = pair.prop_number("hw_maxphysaddr_bits", 1)
    if bits is not None and mode is None:
        raise Invalid(reason="hw_maxphysaddr_bits needs hw_maxphysaddr_mode.")
    if mode == "passthrough" and bits is not None:
        raise Invalid(reason="hw_maxphysaddr_bits is not compatible with hw_maxphysaddr_mode=passthrough.")
    if mode == "emulate" and bits is None:
        raise Invalid(reason="hw_maxphysaddr_mode=emulate needs hw_maxphysaddr_bits.")
    return None if mode is None else AddressSpace(mode, bits)


def _tpm(pair: Pair) -> Tpm | None:
    version, model = pair.same("tpm_version", _TPM_VERSIONS), pair.same("tpm_model", _TPM_MODELS)
    if version is None:
        if model is not None:
            raise Invalid(reason="A TPM model was requested without a TPM version.")
        return None
    if version == "1.2" and model == "tpm-crb":
        raise Invalid(reason="TPM model CRB is only valid with TPM version 2.0.")
    return Tpm(version, model or "tpm-tis")


def _rng(pair: Pair) -> Rng | None:
    pair.prop("hw_rng_model", frozenset({"virtio"}))
    if pair.spec_flag("hw_rng:allowed") is False:
        return None
    return Rng(pair.spec_number("hw_rng:rate_bytes") or 0, pair.spec_number("hw_rng:rate_period") or 0)


def _watchdog(pair: Pair) -> str | None:
    """The image's action counts before the flavor's."""
    of_flavor = pair.spec("hw:watchdog_action", _WATCHDOG)
    action = pair.prop("hw_watchdog_action", _WATCHDOG) or of_flavor
    return None if action == "disabled" else action


def _serial_ports(pair: Pair) -> int:
    of_flavor, of_image = pair.spec_number("hw:serial_port_count"), pair.prop_number("hw_serial_port_count")
    if of_flavor is not None and of_image is not None and of_image > of_flavor:
        raise Invalid(reason="Forbidden to exceed flavor value of number of serial ports passed in image meta.")
    return next((number for number in (of_image, of_flavor) if number is not None), 1)


def _video_ram(pair: Pair) -> int:
    requested, most = pair.prop_number("hw_video_ram") or 0, pair.spec_number("hw_video:ram_max_mb") or 0
    if requested > most:
        raise Invalid(reason=f"The requested amount of video memory {requested} is higher than the maximum allowed by "
                             f"flavor {most}.")  # fmt: skip
    return requested
