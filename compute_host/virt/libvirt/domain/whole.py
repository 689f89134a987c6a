"""The domain as a whole, and the metadata by which a host knows its own guests."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from cell_service.model.block_device import BlockDevice, volumes
from compute_host.virt.driver import GuestSpec
from compute_host.virt.libvirt.domain import devices, disks, firmware, interfaces, limits, memory, processor
from compute_host.virt.libvirt.domain import placement as placements
from compute_host.virt.libvirt.domain.demands import machine_type, of_guest
from compute_host.virt.libvirt.domain.disk_names import Names
from compute_host.virt.libvirt.domain.placement import Placement
from compute_host.virt.libvirt.domain.previous import Previous
from compute_host.virt.libvirt.domain.sources import VolumeSource
from compute_host.virt.libvirt.domain.values import NO_CONSOLES, Choices, Consoles, Laid, domain_name
from compute_host.virt.libvirt.domain.volumes import volume_disk
from compute_host.virt.libvirt.domain.xml import add

NAMESPACE = "urn:polycell:instance:1"

ElementTree.register_namespace("polycell", NAMESPACE)


def render(
    spec: GuestSpec, laid: Laid, choices: Choices, placement: Placement | None = None, *,
    sources: Mapping[str, VolumeSource] | None = None, previous: str | None = None,
    consoles: Consoles = NO_CONSOLES,
) -> str:  # fmt: skip
    """The guest's domain XML. `placement`: the parts of the host that were chosen for it, if any were. `sources`: where
    QEMU finds each volume that the instance has, by its id. `previous`: the domain's XML until now; its devices keep
    their names and addresses. Raises DriverError for what is not supported."""
    before = Previous(previous)
    instance, properties = spec.instance, spec.image_properties
    wanted = of_guest(spec)
    machine = machine_type(wanted, choices)
    pcie = "q35" in machine
    domain = Element("domain", type="kvm" if choices.kvm else "qemu")
    add(domain, "name", domain_name(choices.name_prefix, instance.uuid))
    add(domain, "uuid", instance.uuid)
    _metadata(add(domain, "metadata"), spec, choices)
    add(domain, "memory", str(instance.flavor.memory_mib), unit="MiB")
    memory.backing(domain, wanted, choices, shared=interfaces.shares_memory(spec.nics))
    add(domain, "vcpu", str(instance.flavor.vcpus))
    limits.of_processor(domain, wanted.limits)
    secure = firmware.boots_securely(wanted, choices, machine)
    attached = tuple(device for device in volumes(instance.block_devices) if device.volume_id is not None)
    ordered = bool(disks.boot_orders(laid, attached))
    firmware.system(domain, wanted, laid, properties, machine, secure=secure, ordered=ordered)
    processor.features(domain, wanted, properties, choices, secure=secure)
    processor.cpu(domain, wanted, choices)
    processor.clock(domain, properties, choices)
    for event, then in (("poweroff", "destroy"), ("reboot", "restart"), ("crash", "destroy")):
        add(domain, f"on_{event}", then)
    parts = add(domain, "devices")
    buses = disks.disks(parts, wanted, laid, attached, sources or {}, choices, before, pcie=pcie)
    for vif in spec.nics:
        interfaces.card(parts, vif, wanted, choices)
    devices.devices(parts, wanted, laid, properties, choices, buses, consoles)
    if pcie:
        add(parts, "controller", type="pci", model="pcie-root")
        for _ in range(choices.spare_ports):
            add(parts, "controller", type="pci", model="pcie-root-port")
    memory.encryption(domain, wanted, choices)
    if placement is not None:
        placements.place(domain, placement)
    before.keep_addresses(domain)
    ElementTree.indent(domain)
    return ElementTree.tostring(domain, encoding="unicode") + "\n"


def volume(
    spec: GuestSpec, device: BlockDevice, source: VolumeSource, choices: Choices, definitions: Iterable[str]
) -> str:
    """The XML of the volume's disk, to be attached to a domain that has these definitions. Raises DriverError."""
    wanted = of_guest(spec)
    bus = disks.volume_bus(device, wanted, pcie="q35" in machine_type(wanted, choices))
    targets = (ElementTree.fromstring(text).iterfind("devices/disk/target") for text in definitions)
    taken = {target.get("dev", "") for found in targets for target in found}
    name = Names(Previous(None), (), taken).of(device.volume_id or "", bus, device.device_name)
    return ElementTree.tostring(volume_disk(device, source, bus, name, wanted, choices), encoding="unicode")


def volume_instead(spec: GuestSpec, device: BlockDevice, source: VolumeSource, choices: Choices, disk: Element) -> str:
    """The XML of the volume's disk, which has the name, the address and the place in the order of booting of another
    one. Raises DriverError."""
    target = disk.find("target")
    name, bus = ("", "") if target is None else (target.get("dev", ""), target.get("bus", ""))
    made = volume_disk(device, source, bus, name, of_guest(spec), choices)
    for part in made.findall("address"):
        made.remove(part)
    made.extend(part for part in disk if part.tag in ("address", "boot"))
    return ElementTree.tostring(made, encoding="unicode")


def owner(metadata_xml: str) -> str:
    """The host that a guest's metadata names; libvirt returns them without their namespace.

    Empty when they don't name one.
    """
    try:
        return ElementTree.fromstring(metadata_xml).findtext("{*}host") or ""
    except ElementTree.ParseError:
        return ""


def _metadata(parent: Element, spec: GuestSpec, choices: Choices) -> None:
    instance = spec.instance
    ours = add(parent, f"{{{NAMESPACE}}}instance")
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
        add(ours, f"{{{NAMESPACE}}}{name}", value)
