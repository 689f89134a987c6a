"""A guest's domain XML: a pure function of its spec."""

from __future__ import annotations

import re
import string
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from cell_service.errors import DriverError
from cell_service.model.guest_agent import is_yes
from cell_service.model.instance import Vif
from compute_host.virt.driver import GuestSpec

NAMESPACE = "urn:polycell:instance:1"
DEFAULT_COMMAND_LINE = "console=tty0 console=ttyS0"
ROOT_COMMAND_LINE = "root=/dev/vda"
SPARE_PORTS = 8
TCG_CACHE_MIB = 32
_BUSES = {"virtio": "vd", "scsi": "sd", "sata": "sd", "ide": "hd", "usb": "sd"}
_NIC_MODELS = {"virtio", "e1000", "e1000e", "rtl8139", "ne2k_pci", "pcnet", "vmxnet3"}
_UNSPEAKABLE = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_BRIDGES, _SOCKETS = ("bridge",), ("ovs",)

ElementTree.register_namespace("polycell", NAMESPACE)


@dataclass(frozen=True, slots=True)
class LaidDisk:
    """A disk's file in the guest's directory. `role`: root, ephemeral, swap or rescue."""

    role: str
    path: Path
    format: str


@dataclass(frozen=True, slots=True)
class Laid:
    """All files that a guest runs from. It boots from its rescue disk if it has one, else from the first disk."""

    disks: tuple[LaidDisk, ...]
    console: Path
    kernel: Path | None = None
    ramdisk: Path | None = None
    drive: Path | None = None
    drive_is_cdrom: bool = True

    @property
    def rescue_is_behind(self) -> bool:
        """Whether the guest has a rescue disk, behind its own disks."""
        return any(disk.role == "rescue" for disk in self.disks[1:])


@dataclass(frozen=True, slots=True)
class Choices:
    """The host's settings for all its guests."""

    host: str
    kvm: bool
    name_prefix: str = ""
    cpu_mode: str = "none"
    cpu_models: tuple[str, ...] = ()
    machine: str = "pc"
    cache: str | None = None
    spare_ports: int = SPARE_PORTS
    user_networking: bool = False


def domain_name(prefix: str, uuid: str) -> str:
    return f"{prefix}instance-{uuid}"


def tap_name(port_id: str) -> str:
    """The name of the port's tap device, which may have at most 15 characters."""
    return f"tap{port_id[:11]}"


def render(spec: GuestSpec, laid: Laid, choices: Choices) -> str:
    """The guest's domain XML. Raises DriverError for what is not supported."""
    instance, flavor, properties = spec.instance, spec.instance.flavor, spec.image_properties
    machine = properties.get("hw_machine_type") or choices.machine
    pcie = "q35" in machine
    domain = Element("domain", type="kvm" if choices.kvm else "qemu")
    _add(domain, "name", domain_name(choices.name_prefix, instance.uuid))
    _add(domain, "uuid", instance.uuid)
    _metadata(_add(domain, "metadata"), spec, choices)
    _add(domain, "memory", str(flavor.memory_mib), unit="MiB")
    _add(domain, "vcpu", str(flavor.vcpus))
    _boot(domain, laid, properties, machine)
    _features(domain, properties, choices)
    _processor(domain, flavor.vcpus, properties, choices)
    _clock(domain, properties, choices)
    for event, then in (("poweroff", "destroy"), ("reboot", "restart"), ("crash", "destroy")):
        _add(domain, f"on_{event}", then)
    devices = _add(domain, "devices")
    _disks(devices, laid, properties, choices, pcie=pcie)
    for vif in spec.nics:
        _nic(devices, vif, properties, choices)
    _small_devices(devices, laid, properties, flavor.extra_specs)
    if pcie:
        _add(devices, "controller", type="pci", model="pcie-root")
        for _ in range(choices.spare_ports):
            _add(devices, "controller", type="pci", model="pcie-root-port")
    ElementTree.indent(domain)
    return ElementTree.tostring(domain, encoding="unicode") + "\n"


def owner(metadata_xml: str) -> str:
    """The host that a guest's metadata names; libvirt returns them without their namespace.

    Empty when they don't name one.
    """
    try:
        return ElementTree.fromstring(metadata_xml).findtext("{*}host") or ""
    except ElementTree.ParseError:
        return ""


def _add(parent: Element, tag: str, text: str | None = None, **attributes: str) -> Element:
    made = SubElement(parent, tag, {name: _speakable(value) for name, value in attributes.items()})
    made.text = None if text is None else _speakable(text)
    return made


def _speakable(text: str) -> str:
    """The text without the characters that XML can't have, not even quoted."""
    return _UNSPEAKABLE.sub("\ufffd", text)


def _metadata(parent: Element, spec: GuestSpec, choices: Choices) -> None:
    instance = spec.instance
    ours = _add(parent, f"{{{NAMESPACE}}}instance")
    for name, value in (
        ("uuid", instance.uuid),
        ("name", instance.display_name),
        ("project", instance.project_id),
        ("user", instance.user_id),
        ("flavor", instance.flavor.name),
        ("image", instance.image_ref),
        ("host", choices.host),
        ("cell", spec.cell),
        ("fence", str(spec.fence)),
    ):
        _add(ours, f"{{{NAMESPACE}}}{name}", value)


def _boot(domain: Element, laid: Laid, properties: Mapping[str, str], machine: str) -> None:
    uefi = properties.get("hw_firmware_type", "bios") == "uefi"
    system = _add(domain, "os", **({"firmware": "efi"} if uefi else {}))
    _add(system, "type", "hvm", arch="x86_64", machine=machine)
    if uefi:
        secure = properties.get("os_secure_boot", "disabled") == "required"
        firmware = _add(system, "firmware")
        for feature in ("secure-boot", "enrolled-keys"):
            _add(firmware, "feature", enabled="yes" if secure else "no", name=feature)
        if secure:
            _add(system, "loader", secure="yes")
    if laid.kernel is not None:
        _add(system, "kernel", str(laid.kernel))
        if laid.ramdisk is not None:
            _add(system, "initrd", str(laid.ramdisk))
        root = "" if laid.ramdisk is not None else f"{ROOT_COMMAND_LINE} "
        _add(system, "cmdline", properties.get("os_command_line") or root + DEFAULT_COMMAND_LINE)
    elif not laid.rescue_is_behind:
        _add(system, "boot", dev="hd")


def _features(domain: Element, properties: Mapping[str, str], choices: Choices) -> None:
    features = _add(domain, "features")
    _add(features, "acpi")
    _add(features, "apic")
    if properties.get("os_secure_boot") == "required":
        _add(features, "smm", state="on")
    if not choices.kvm:  # else QEMU takes hundreds of MiB a guest for code that it translated
        _add(_add(features, "tcg"), "tb-cache", str(TCG_CACHE_MIB), unit="MiB")


def _processor(domain: Element, vcpus: int, properties: Mapping[str, str], choices: Choices) -> None:
    mode = choices.cpu_mode
    cpu = _add(domain, "cpu") if mode == "none" else _add(domain, "cpu", mode=mode)
    if mode == "custom" and choices.cpu_models:
        cpu.set("match", "exact")
        _add(cpu, "model", choices.cpu_models[0], fallback="allow")
    cores, threads = (_number(properties, f"hw_cpu_{what}") for what in ("cores", "threads"))
    sockets = vcpus // (cores * threads)
    if sockets * cores * threads != vcpus or not sockets:
        sockets, cores, threads = vcpus, 1, 1
    _add(cpu, "topology", sockets=str(sockets), cores=str(cores), threads=str(threads))


def _number(properties: Mapping[str, str], name: str) -> int:
    value = properties.get(name, "")
    return max(1, int(value)) if value.isdecimal() else 1


def _clock(domain: Element, properties: Mapping[str, str], choices: Choices) -> None:
    clock = _add(domain, "clock", offset="localtime" if properties.get("os_type") == "windows" else "utc")
    if choices.kvm:
        _add(clock, "timer", name="pit", tickpolicy="delay")
        _add(clock, "timer", name="rtc", tickpolicy="catchup")
    _add(clock, "timer", name="hpet", present="yes" if properties.get("hw_time_hpet", "").lower() == "true" else "no")


def _disks(devices: Element, laid: Laid, properties: Mapping[str, str], choices: Choices, *, pcie: bool) -> None:
    bus = properties.get("hw_disk_bus", "virtio")
    if bus not in _BUSES or (bus == "ide" and pcie):
        raise DriverError(reason=f"A disk bus {bus} cannot be had on this machine type.")
    letters = iter(string.ascii_lowercase)
    for disk in laid.disks:
        made = _add(devices, "disk", type="file", device="disk")
        _driver(made, disk.format, choices.cache)
        _add(made, "source", file=str(disk.path))
        _add(made, "target", dev=_BUSES[bus] + next(letters), bus=bus)
        if disk.role == "root":
            _add(made, "serial", "root")
        if disk.role == "rescue" and laid.rescue_is_behind and laid.kernel is None:
            _add(made, "boot", order="1")
    buses = {bus}
    if laid.drive is not None:
        drive_bus = properties.get("hw_cdrom_bus", "scsi" if pcie else "ide") if laid.drive_is_cdrom else "virtio"
        if drive_bus not in _BUSES or (drive_bus == "ide" and pcie):
            raise DriverError(reason=f"A CD-ROM bus {drive_bus} cannot be had on this machine type.")
        made = _add(devices, "disk", type="file", device="cdrom" if laid.drive_is_cdrom else "disk")
        _driver(made, "raw", None)
        _add(made, "source", file=str(laid.drive))
        letter = next(letters) if _BUSES[drive_bus] == _BUSES[bus] else "a"
        _add(made, "target", dev=_BUSES[drive_bus] + letter, bus=drive_bus)
        if laid.drive_is_cdrom:
            _add(made, "readonly")
        buses.add(drive_bus)
    if "scsi" in buses:
        _add(devices, "controller", type="scsi", index="0", model=properties.get("hw_scsi_model", "virtio-scsi"))
    if "usb" not in buses:
        _add(devices, "controller", type="usb", model="none")


def _driver(disk: Element, kind: str, cache: str | None) -> None:
    driver = _add(disk, "driver", name="qemu", type=kind)
    if cache is not None:
        driver.set("cache", cache)


def interface(spec: GuestSpec, vif: Vif, choices: Choices) -> str:
    """The XML of a network interface for the port. Raises DriverError for what is not supported."""
    devices = Element("devices")
    _nic(devices, vif, spec.image_properties, choices)
    return ElementTree.tostring(devices[0], encoding="unicode")


def _nic(devices: Element, vif: Vif, properties: Mapping[str, str], choices: Choices) -> None:
    model = vif.details.get("vif_model") or properties.get("hw_vif_model", "virtio")
    if model not in _NIC_MODELS:
        raise DriverError(reason=f"A network card of model {model} cannot be had.")
    if choices.user_networking:
        nic = _add(devices, "interface", type="user")
    elif vif.details.get("ovs_hybrid_plug"):
        raise DriverError(reason=f"Port {vif.port_id} asks for ovs_hybrid_plug, which is not supported.")
    elif vif.vif_type in _BRIDGES:
        nic = _add(devices, "interface", type="bridge")
        if not vif.details.get("bridge_name"):
            raise DriverError(reason=f"Port {vif.port_id} names no bridge.")
        _add(nic, "source", bridge=str(vif.details["bridge_name"]))
    elif vif.vif_type in _SOCKETS:
        nic = _add(devices, "interface", type="bridge")
        _add(nic, "source", bridge=str(vif.details.get("bridge_name") or "br-int"))
        port = _add(nic, "virtualport", type="openvswitch")
        _add(port, "parameters", interfaceid=vif.port_id)
    elif vif.vif_type == "tap":
        nic = _add(devices, "interface", type="ethernet")
    else:
        raise DriverError(reason=f"Port {vif.port_id} is of VIF type {vif.vif_type or 'none'}, which is not supported.")
    _add(nic, "mac", address=vif.mac)
    if not choices.user_networking:
        _add(nic, "target", dev=tap_name(vif.port_id))
        if vif.mtu:
            _add(nic, "mtu", size=str(vif.mtu))
    _add(nic, "model", type=model)
    _add(nic, "rom", enabled="no")


def _small_devices(devices: Element, laid: Laid, properties: Mapping[str, str], extra_specs: Mapping[str, str]) -> None:
    serial = _add(devices, "serial", type="file")
    _add(serial, "source", path=str(laid.console), append="on")
    _add(serial, "target", port="0")
    if is_yes(properties.get("hw_qemu_guest_agent", "")):
        channel = _add(devices, "channel", type="unix")
        _add(channel, "source", mode="bind")
        _add(channel, "target", type="virtio", name="org.qemu.guest_agent.0")
    if extra_specs.get("hw_rng:allowed", "true").lower() == "true":
        _add(_add(devices, "rng", model="virtio"), "backend", "/dev/urandom", model="random")
    _add(devices, "memballoon", model="virtio")
