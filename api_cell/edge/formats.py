"""The string formats that the APIs' schemas name. Each answers whether a text has the format."""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
import unicodedata
from collections.abc import Callable
from urllib.parse import urlsplit

from api_cell.timestamps import parse_timestamp

_UUID = re.compile(r"[0-9a-fA-F]{8}-?(?:[0-9a-fA-F]{4}-?){3}[0-9a-fA-F]{12}")
_MAC = re.compile(r"(?:[0-9a-fA-F]{2}[:-]){5}[0-9a-fA-F]{2}")


def _date_time(text: str) -> bool:
    try:
        parse_timestamp(text)
    except ValueError:
        return False
    return True


def _uri(text: str) -> bool:
    try:
        parts = urlsplit(text)
    except ValueError:
        return False
    return bool(parts.scheme and parts.netloc)


def _address(kind: Callable[[str], object]) -> Callable[[str], bool]:
    def fits(text: str) -> bool:
        try:
            kind(text)
        except ValueError:
            return False
        return True

    return fits


def _cidr(text: str) -> bool:
    return "/" in text and _address(lambda value: ipaddress.ip_network(value, strict=False))(text)


def _base64(text: str) -> bool:
    try:
        base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        return False
    return True


def _regex(text: str) -> bool:
    try:
        re.compile(text)
    except (re.error, RecursionError, OverflowError):
        return False
    return bool(text)


def _shown(char: str) -> bool:
    category = unicodedata.category(char)
    return category == "Zs" or category[0] not in "CZ"


def printable(text: str) -> bool:
    """No control, format or unassigned characters and no line breaks; blanks of any script are."""
    return text.isprintable() or all(map(_shown, text))


def _name(text: str) -> bool:
    return text == text.strip() and bool(text) and printable(text)


def _spaced_name(text: str) -> bool:
    return bool(text.strip()) and printable(text)


FORMATS: dict[str, Callable[[str], bool]] = {
    "date-time": _date_time,
    "uuid": lambda text: _UUID.fullmatch(text) is not None,
    "uri": _uri,
    "ipv4": _address(ipaddress.IPv4Address),
    "ipv6": _address(ipaddress.IPv6Address),
    "cidr": _cidr,
    "base64": _base64,
    "regex": _regex,
    "mac-address": lambda text: _MAC.fullmatch(text) is not None,
    "printable": printable,
    "name": _name,
    "name_with_leading_trailing_spaces": _spaced_name,
    "az_name": lambda text: _name(text) and ":" not in text,
    "az_name_with_leading_trailing_spaces": lambda text: _spaced_name(text) and ":" not in text,
}
