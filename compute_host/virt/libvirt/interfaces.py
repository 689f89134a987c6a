"""Network interfaces of a guest, in its running and in its stored definition."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import libvirt

from cell_service.errors import DriverError, GuestNotFound
from cell_service.model.instance import Vif
from compute_host.virt.driver import GuestSpec
from compute_host.virt.libvirt import domain
from compute_host.virt.libvirt.releases import Releases


class InterfaceVerbs(Releases):
    """See `virt.driver.Interfaces`."""

    def attach_interface(self, spec: GuestSpec, vif: Vif) -> None:
        with self._gate(spec.instance.uuid), self._guest(spec.instance.uuid) as found:
            if domain.shares_memory((vif,)) and found.isActive() and not _shares_memory(found):
                raise DriverError(
                    reason=f"The guest does not share its memory: port {vif.port_id} has to be there when it starts."
                )
            for flag in _without(found, vif.mac):
                found.attachDeviceFlags(domain.interface(spec, vif, self._choices()), flag)

    def detach_interface(self, uuid: str, vif: Vif) -> None:
        """The running guest first: while it has not released the interface, its stored definition has it too."""
        with contextlib.suppress(GuestNotFound):
            self._await_release(uuid, "interface", lambda text: _cards(text).get(vif.mac))
            with self._gate(uuid), self._guest(uuid) as found:
                card = _cards(found.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)).get(vif.mac)
                if card is not None:
                    text = ElementTree.tostring(card, encoding="unicode")
                    found.detachDeviceFlags(text, libvirt.VIR_DOMAIN_AFFECT_CONFIG)


def _shares_memory(found: Any) -> bool:
    access = ElementTree.fromstring(found.XMLDesc(0)).find("memoryBacking/access")
    return access is not None and access.get("mode") == "shared"


def _without(found: Any, mac: str) -> list[int]:
    """The flags of those of the guest's definitions that lack the interface."""
    return [flag for flag, cards in _definitions(found) if mac not in cards]


def _definitions(found: Any) -> Iterator[tuple[int, dict[str, Element]]]:
    if found.isActive():
        yield libvirt.VIR_DOMAIN_AFFECT_LIVE, _cards(found.XMLDesc(0))
    yield libvirt.VIR_DOMAIN_AFFECT_CONFIG, _cards(found.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE))


def _cards(text: str) -> dict[str, Element]:
    cards = {}
    for card in ElementTree.fromstring(text).iter("interface"):
        mac = card.find("mac")
        if mac is not None:
            cards[mac.get("address", "").lower()] = card
    return cards
