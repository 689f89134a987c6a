"""The domain as a whole, and the metadata by which a host knows its own guests."""

from __future__ import annotations

from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from compute_host.virt.driver import GuestSpec
from compute_host.virt.libvirt.domain import devices, disks, firmware, interfaces, limits, memory, processor
from compute_host.virt.libvirt.domain import placement as placements
from compute_host.virt.libvirt.domain.demands import machine_type, of_guest
from compute_host.virt.libvirt.domain.placement import Placement
from compute_host.virt.libvirt.domain.values import Choices, Laid, domain_name
from compute_host.virt.libvirt.domain.xml import add

NAMESPACE = "urn:polycell:instance:1"

ElementTree.register_namespace("polycell", NAMESPACE)


def render(spec: GuestSpec, laid: Laid, choices: Choices, placement: Placement | None = None) -> str:
    """The guest's domain XML. `placement`: the parts of the host that were chosen for it, if any were. Raises
    DriverError for what is not supported."""
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
    firmware.system(domain, wanted, laid, properties, machine, secure=secure)
    processor.features(domain, wanted, properties, choices, secure=secure)
    processor.cpu(domain, wanted, choices)
    processor.clock(domain, properties, choices)
    for event, then in (("poweroff", "destroy"), ("reboot", "restart"), ("crash", "destroy")):
        add(domain, f"on_{event}", then)
    parts = add(domain, "devices")
    buses = disks.disks(parts, wanted, laid, choices, pcie=pcie)
    for vif in spec.nics:
        interfaces.card(parts, vif, wanted, choices)
    devices.devices(parts, wanted, laid, properties, choices, buses)
    if pcie:
        add(parts, "controller", type="pci", model="pcie-root")
        for _ in range(choices.spare_ports):
            add(parts, "controller", type="pci", model="pcie-root-port")
    memory.encryption(domain, wanted, choices)
    if placement is not None:
        placements.place(domain, placement)
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
