"""Elements whose text and attributes can't break the XML."""

from __future__ import annotations

import re
from xml.etree.ElementTree import Element, SubElement

_UNSPEAKABLE = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def add(parent: Element, tag: str, text: str | None = None, **attributes: str) -> Element:
    """A new last child of `parent`."""
    made = SubElement(parent, tag, {name: _speakable(value) for name, value in attributes.items()})
    made.text = None if text is None else _speakable(text)
    return made


def child(parent: Element, tag: str) -> Element:
    """The only child of that name, made when there is none."""
    found = parent.find(tag)
    return add(parent, tag) if found is None else found


def on_off(state: bool) -> str:
    return "on" if state else "off"


def yes_no(state: bool) -> str:
    return "yes" if state else "no"


def _speakable(text: str) -> str:
    """The text without the characters that XML can't have, not even quoted."""
    return _UNSPEAKABLE.sub("\ufffd", text)
