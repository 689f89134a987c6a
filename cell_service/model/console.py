"""Consoles of guests: where they are, and the tokens with which they are opened."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class ConsolePlace:
    """Where a guest's console is to be had from inside, and the address of the proxy that users open.

    `internal_access_path`: what to ask of a port that has the consoles of several guests (None: it has one).
    """

    address: str
    port: int
    base_url: str
    internal_access_path: str | None = None
    tls_port: int | None = None


@dataclass(frozen=True, slots=True)
class ConsoleToken:
    """What a token opens, until `expires_at`. `host` is the compute host where the guest was when it was given."""

    instance_uuid: str
    kind: str
    host: str
    place: ConsolePlace
    expires_at: datetime
