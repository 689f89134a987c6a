"""IPv6 addresses as they are shown."""

from __future__ import annotations

from ipaddress import IPv6Address


def canonical(address: str) -> str:
    """The short form (RFC 5952) of an address; what is none stays as it is."""
    try:
        return str(IPv6Address(address))
    except ValueError:
        return address
