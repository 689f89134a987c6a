"""The data from which the documents about one server are made."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field, replace
from ipaddress import IPv6Address, ip_address
from typing import Any

from cell_service.model.instance import InjectedFile, Instance, Vif

SEED_BYTES = 512


@dataclass(frozen=True, slots=True)
class Vendor:
    """The deployer's additions. `static` is a file's content, `dynamic` is the answer of each target, by its name."""

    static: dict[str, Any] = field(default_factory=dict)
    dynamic: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Content:
    """A server and what belongs to it. `admin_password` and `injected_files` are known only while it is built, so only
    its config drive has them."""

    instance: Instance
    vifs: tuple[Vif, ...]
    random_seed: bytes
    dhcp_domain: str = ""
    injected_files: tuple[InjectedFile, ...] = ()
    admin_password: str = ""
    vendor: Vendor = field(default_factory=Vendor)

    @property
    def hostname(self) -> str:
        """The server's name with the domain; a name that has one already stays as it is."""
        name = self.instance.hostname or self.instance.display_name
        return name if "." in name or not self.dhcp_domain else f"{name}.{self.dhcp_domain}"

    def with_vendor(self, vendor: Vendor) -> Content:
        return replace(self, vendor=vendor)

    def has_address(self, address: str) -> bool:
        """Whether one of the server's ports has this fixed address, or the link-local one of its MAC."""
        wanted = plain_address(address)
        if wanted is None:
            return False
        fixed = {plain_address(one.address) for vif in self.vifs for one in vif.fixed_ips}
        return wanted in fixed or wanted in {link_local(vif.mac) for vif in self.vifs}


def new_seed() -> bytes:
    """Randomness for a guest to start from."""
    return secrets.token_bytes(SEED_BYTES)


def link_local(mac: str) -> str | None:
    """The IPv6 address that an interface gives itself (RFC 4291, EUI-64); None for what is no MAC."""
    try:
        parts = bytes.fromhex(mac.replace(":", ""))
    except ValueError:
        return None
    if len(parts) != 6:
        return None
    interface = bytes([parts[0] ^ 2, *parts[1:3], 0xFF, 0xFE, *parts[3:]])
    return str(IPv6Address(b"\xfe\x80" + bytes(6) + interface))


def plain_address(text: str) -> str | None:
    """The address in its one form; None for what is no address."""
    try:
        parsed = ip_address(text.strip().split("%")[0])
    except ValueError:
        return None
    mapped = getattr(parsed, "ipv4_mapped", None)
    return str(mapped or parsed)
