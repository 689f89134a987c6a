"""Consoles of guests: where they are, and the tokens with which they are opened."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

DIRECT = "spice-direct"
"""The type of consoles that SPICE clients reach at the host itself: no web socket opens them."""


@dataclass(frozen=True, slots=True)
class ConsolePlace:
    """Where the proxy connects to a guest's console, and the proxy's address that users open.

    `address`: an IP address or a name; or a socket's path, and then `port` is 0.
    `tls_port`: a port of the same address with TLS; it may be `port` itself, and `port` is 0 where it is the only one
    of a SPICE console.
    `internal_access_path`: the path to request at a port with the consoles of several guests (None: it has one).
    """

    address: str
    port: int
    base_url: str
    internal_access_path: str | None = None
    tls_port: int | None = None


@dataclass(frozen=True, slots=True)
class ConsoleToken:
    """A token, and the console that it opens until `expires_at`. `host` is the guest's compute host when the token was
    made.

    `made_at`, and the server's `name` and `state` (its vm_state) at the time of reading: None and empty in a token that
    was not read from a database. `cell`: the id of the cell that it was read from, where several were searched.
    """

    instance_uuid: str
    kind: str
    host: str
    place: ConsolePlace
    expires_at: datetime
    made_at: datetime | None = None
    name: str = ""
    state: str = ""
    cell: int | None = None
