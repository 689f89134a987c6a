"""All that the documents about one server are made from."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from typing import Any

from cell_service.model.instance import InjectedFile, Instance, Vif

SEED_BYTES = 512


@dataclass(frozen=True, slots=True)
class Vendor:
    """What the deployer adds. `static` is a file's content, `dynamic` what each target has answered, by its name."""

    static: dict[str, Any] = field(default_factory=dict)
    dynamic: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Content:
    """A server and what hangs on it. `admin_password` and `injected_files` are known only while it is built, and so
    stand on its config drive alone."""

    instance: Instance
    vifs: tuple[Vif, ...]
    random_seed: bytes
    dhcp_domain: str = ""
    injected_files: tuple[InjectedFile, ...] = ()
    admin_password: str = ""
    vendor: Vendor = field(default_factory=Vendor)

    @property
    def hostname(self) -> str:
        """With its domain; a name that has one already stays as it is."""
        name = self.instance.hostname or self.instance.display_name
        return name if "." in name or not self.dhcp_domain else f"{name}.{self.dhcp_domain}"

    def with_vendor(self, vendor: Vendor) -> Content:
        return replace(self, vendor=vendor)

    def has_address(self, address: str) -> bool:
        """Whether one of the server's ports has this fixed address."""
        wanted = plain_address(address)
        fixed = (one.address for vif in self.vifs for one in vif.fixed_ips)
        return wanted is not None and any(plain_address(each) == wanted for each in fixed)


def new_seed() -> bytes:
    """Randomness for a guest to start from."""
    return secrets.token_bytes(SEED_BYTES)


def plain_address(text: str) -> str | None:
    """The address in its one form; None for what is no address."""
    try:
        parsed = ip_address(text.strip().split("%")[0])
    except ValueError:
        return None
    mapped = getattr(parsed, "ipv4_mapped", None)
    return str(mapped or parsed)
