"""Volumes that were swapped into a running guest. QEMU can't change the serial number of a disk, so the guest sees that
of the volume before until it is started again; which volume it is, is in the metadata of its running definition.

    <volumes><volume target="vdb" serial="that of the first volume" id="that of the present one"/></volumes>
"""

from __future__ import annotations

from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from compute_host.virt.libvirt.domain.xml import add

NAMESPACE = "urn:polycell:swapped:1"
PREFIX = "swapped"

Known = dict[tuple[str, str], str]
"""The ids of volumes, by the names and the serial numbers of their disks."""


def known(domain: Element) -> Known:
    """The swapped volumes of the domain, also those that it has no more."""
    found = domain.iterfind(f"metadata/{{{NAMESPACE}}}volumes/{{*}}volume")
    return {(each.get("target", ""), each.get("serial", "")): each.get("id", "") for each in found}


def present(text: str) -> Known:
    """The swapped volumes that the domain has."""
    domain = ElementTree.fromstring(text)
    disks = {(_name(disk), disk.findtext("serial", "")) for disk in domain.iterfind("devices/disk")}
    return {key: volume_id for key, volume_id in known(domain).items() if key in disks}


def with_volume(text: str, disk: Element, volume_id: str) -> Known:
    """The swapped volumes of the domain once that disk is that volume."""
    return {**present(text), (_name(disk), disk.findtext("serial", "")): volume_id}


def has_gone(text: str) -> bool:
    """Whether one of the swapped volumes is known that the domain has no more."""
    return known(ElementTree.fromstring(text)) != present(text)


def metadata(volumes: Known) -> str | None:
    """The element, without its namespace; None for no volumes."""
    if not volumes:
        return None
    made = Element("volumes")
    for (target, serial), volume_id in volumes.items():
        add(made, "volume", target=target, serial=serial, id=volume_id)
    return ElementTree.tostring(made, encoding="unicode")


def _name(disk: Element) -> str:
    target = disk.find("target")
    return "" if target is None else target.get("dev", "")
