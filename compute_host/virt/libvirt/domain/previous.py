"""The names and the addresses that a guest's devices have: they stay when its domain is made again."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from compute_host.virt.libvirt.domain import swapped

_COUNTED = ("rng", "memballoon", "watchdog", "video", "sound", "input", "channel")
"""Devices that are known by their number among those of their kind."""

Key = tuple[str, ...]


class Previous:
    """The devices of an earlier definition of the domain."""

    def __init__(self, text: str | None) -> None:
        domain = None if text is None else ElementTree.fromstring(text)
        self._machine = "" if domain is None else _machine(domain)
        parts = None if domain is None else domain.find("devices")
        self._parts: dict[Key, Element] = {} if parts is None else dict(_known(parts))

    def disk_name(self, key: str) -> str | None:
        """The name of the disk (vda), by its file or its volume's id."""
        disk = self._parts.get(("disk", key))
        return None if disk is None else _attribute(disk, "target", "dev")

    def keep_addresses(self, domain: Element) -> None:
        """Give the domain's devices the addresses that they had, unless it is another machine."""
        parts = domain.find("devices")
        if parts is None or not self._parts or self._machine != _machine(domain):
            return
        _keep_serial_controllers(parts, self._parts)
        for key, part in _known(parts):
            before = self._parts.get(key)
            address = None if before is None else before.find("address")
            if before is not None and address is not None and part.find("address") is None and _alike(part, before):
                part.append(copy.deepcopy(address))


def volume_disks(text: str) -> dict[str, Element]:
    """The disks of a domain that have serial numbers, by those: volumes have their ids. A volume that was swapped into
    a running guest has the serial number of the one before (see `swapped`)."""
    domain = ElementTree.fromstring(text)
    known = swapped.known(domain)
    disks = {disk: serial for disk in domain.iterfind("devices/disk") if (serial := disk.findtext("serial"))}
    return {known.get((_attribute(disk, "target", "dev"), serial), serial): disk for disk, serial in disks.items()}


def _known(parts: Element) -> Iterator[tuple[Key, Element]]:
    for disk in parts.iterfind("disk"):
        for key in {disk.findtext("serial") or "", _attribute(disk, "source", "file")} - {""}:
            yield ("disk", key), disk
    for card in parts.iterfind("interface"):
        yield ("interface", _attribute(card, "mac", "address").lower()), card
    yield from _numbered("controller", (each for each in parts.iterfind("controller") if each.get("type") != "pci"))
    for tag in _COUNTED:
        yield from _numbered(tag, parts.iterfind(tag))


def _numbered(tag: str, found: Iterable[Element]) -> Iterator[tuple[Key, Element]]:
    counts: dict[str, int] = {}
    for part in found:
        kind = part.get("type", "")
        counts[kind] = counts.get(kind, 0) + 1
        yield (tag, kind, str(counts[kind])), part


def _alike(part: Element, before: Element) -> bool:
    """Whether the device is still of the kind that it was."""
    model, was = part.get("model"), before.get("model")
    return (model is None or model == was) and all(
        _attribute(part, tag, name) in ("", _attribute(before, tag, name))
        for tag, name in (("target", "bus"), ("model", "type"))
    )


def _keep_serial_controllers(parts: Element, before: dict[Key, Element]) -> None:
    """libvirt adds a controller for channels by itself, at the first free address."""
    if any(_attribute(each, "target", "type") == "virtio" for each in parts.iterfind("channel")):
        for key, part in before.items():
            if key[:2] == ("controller", "virtio-serial"):
                parts.append(copy.deepcopy(part))


def _attribute(part: Element, tag: str, name: str) -> str:
    found = part.find(tag)
    return "" if found is None else found.get(name, "")


def _machine(domain: Element) -> str:
    """The machine's family: libvirt stores a version of it."""
    name = _attribute_of_os(domain)
    return "q35" if "q35" in name else "pc" if name.startswith("pc") else name


def _attribute_of_os(domain: Element) -> str:
    found = domain.find("os/type")
    return "" if found is None else found.get("machine", "")
