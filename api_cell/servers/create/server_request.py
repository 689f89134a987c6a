"""The servers that a client wants, and what is made up where the request does not say it: passwords, host names."""

from __future__ import annotations

import re
import secrets
import string
from dataclasses import dataclass
from typing import Any

from api_cell.servers.devices import DeviceRequest
from cell_service.model.instance import InjectedFile, NetworkRequest

_PASSWORD = string.ascii_letters + string.digits


@dataclass(frozen=True, slots=True)
class ServerRequest:
    """The servers that a client wants. `networks` None: the project's network;
    () none at all. `named_devices` are the paths of devices that the body names, also to leave them out.
    `multiattach`: volumes for several servers may be used (2.60)."""

    name: str
    flavor_id: str
    storage: DeviceRequest
    networks: tuple[NetworkRequest, ...] | None
    auto_networks: bool
    min_count: int
    max_count: int
    admin_password: str
    security_groups: tuple[str, ...]
    metadata: dict[str, str]
    files: tuple[InjectedFile, ...]
    tags: tuple[str, ...]
    key_name: str | None
    user_data: str | None
    config_drive: bool
    zone: str | None
    forced_host: str | None
    forced_node: str | None
    requested_host: str | None
    requested_node: str | None
    hostname: str | None
    description: str | None
    auto_disk_config: bool
    access_ip_v4: str | None
    access_ip_v6: str | None
    hints: dict[str, Any]
    certificates: tuple[str, ...]
    wants_reservation_id: bool
    named_devices: frozenset[str]
    multiattach: bool


def new_password(length: int = 12) -> str:
    """A password for a guest's administrator, with at least a letter of either case and a digit."""
    while True:
        made = "".join(secrets.choice(_PASSWORD) for _ in range(length))
        if all(any(test(letter) for letter in made) for test in (str.isupper, str.islower, str.isdigit)):
            return made


def host_name(name: str, fallback: str) -> str:
    """A server's name as a host name (RFC 1123 label); `fallback` where nothing of it is left."""
    text = re.sub(r"[^a-z0-9-]", "", re.sub(r"[ _.]", "-", name.lower()))[:63].strip("-")
    return text or fallback
