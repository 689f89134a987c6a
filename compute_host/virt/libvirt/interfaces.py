"""Network interfaces of a guest, in its running and in its stored definition."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import libvirt


def without(found: Any, mac: str) -> list[int]:
    """The flags of those of the guest's definitions that lack the interface."""
    return [flag for flag, cards in _definitions(found) if mac not in cards]


def having(found: Any, mac: str) -> list[tuple[int, str]]:
    """The flags of those of the guest's definitions that have the interface, with its XML there."""
    return [
        (flag, ElementTree.tostring(cards[mac], encoding="unicode"))
        for flag, cards in _definitions(found)
        if mac in cards
    ]


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
