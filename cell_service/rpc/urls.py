"""Transport URLs of RabbitMQ, as nova's configuration writes them.

    rabbit://user:password@host:5672/vhost
    rabbit://user:password@host1:5672,user:password@host2:5672/vhost?ssl=1&heartbeat=20

`amqp` is another name for `rabbit`, `amqps` for `rabbit` with `ssl=1`. Parts are percent-encoded; a host without a
login has that of the host before it. Without a vhost it is `/`. Query: ssl, ssl_ca_file, ssl_cert_file, ssl_key_file,
heartbeat (seconds).
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote, urlsplit

from cell_service.errors import Invalid

log = logging.getLogger(__name__)

HEARTBEAT_SECONDS = 15
_ADDRESS = re.compile(r"(\[[0-9a-fA-F:.%]+\]|[^\[\]:]*)(?::(\d+))?")


@dataclass(frozen=True, slots=True)
class Login:
    user: str = "guest"
    password: str = field(default="guest", repr=False)


@dataclass(frozen=True, slots=True)
class Address:
    host: str
    port: int
    login: Login


@dataclass(frozen=True, slots=True)
class Tls:
    """Files are paths; empty for the system's authorities, and for no client certificate."""

    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""


@dataclass(frozen=True, slots=True)
class RabbitServer:
    """One RabbitMQ, or the nodes of one cluster."""

    addresses: tuple[Address, ...]
    vhost: str
    heartbeat: int = HEARTBEAT_SECONDS
    tls: Tls | None = None


def rabbit_server(url: str) -> RabbitServer:
    """Read the URL. Raises Invalid with one line, without the password."""
    try:
        parts = urlsplit(url)
    except ValueError:
        raise Invalid(
            reason="the transport URL cannot be read; it should be rabbit://user:password@host/vhost"
        ) from None
    tls = parts.scheme == "amqps"
    addresses = _addresses(parts.netloc, 5671 if tls else 5672)
    heartbeat, files = HEARTBEAT_SECONDS, {}
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        if name == "ssl":
            tls = value.lower() in ("1", "true", "yes", "on")
        elif name in ("ssl_ca_file", "ssl_cert_file", "ssl_key_file"):
            files[name.removeprefix("ssl_")] = value
        elif name == "heartbeat":
            if not value.isdigit():
                raise Invalid(reason="heartbeat in the transport URL must be a number of seconds")
            heartbeat = int(value)
        else:
            log.warning("ignoring %r in the query of the transport URL", name)
    vhost = unquote(parts.path.removeprefix("/")) or "/"
    return RabbitServer(addresses, vhost, heartbeat, Tls(**files) if tls else None)


def _addresses(netloc: str, port: int) -> tuple[Address, ...]:
    login, found = Login(), []
    places = netloc.split(",")
    for place in places:
        credentials, at, address = place.rpartition("@")
        if at:
            user, colon, password = credentials.partition(":")
            login = Login(unquote(user), unquote(password) if colon else "")
        match = _ADDRESS.fullmatch(address)
        nameless = len(places) > 1 and not address
        if match is None or nameless or not 0 < int(match[2] or port) < 65536:
            raise Invalid(reason="a host in the transport URL is not host, host:port or [address]:port")
        found.append(Address(unquote(match[1]).strip("[]") or "localhost", int(match[2] or port), login))
    return tuple(found)
