"""Transports by the scheme of their URL.

memory://name                    in this process; one bus for each name
local:///path/to/socket          between processes of one machine, through a `local.broker.LocalBroker`
rabbit://user:password@host/vhost  RabbitMQ, see `urls`; also amqp:// and amqps://
"""

from __future__ import annotations

import threading
from urllib.parse import unquote, urlsplit

from cell_service.errors import Invalid
from cell_service.rpc.memory import Bus, MemoryTransport
from cell_service.rpc.transport import Transport
from cell_service.rpc.urls import rabbit_server

_buses: dict[str, Bus] = {}
_making = threading.Lock()


def open_transport(url: str) -> Transport:
    """A transport that connects at its first use.

    Raises Invalid, in one line without the password, for a URL that names no queue server.
    """
    scheme, colon, rest = url.partition("://")
    if not colon:
        raise Invalid(reason="the transport URL must look like rabbit://user:password@host/vhost")
    if scheme == "memory":
        return MemoryTransport(bus(rest))
    if scheme == "local":
        path = unquote(urlsplit(url).path)
        if not path.startswith("/") or not rest.startswith("/"):
            raise Invalid(reason="the transport URL must look like local:///path/to/socket")
        from cell_service.rpc.local.transport import LocalTransport

        return LocalTransport(path)
    if scheme in ("rabbit", "amqp", "amqps"):
        server = rabbit_server(url)
        from cell_service.rpc.rabbit.transport import RabbitTransport

        return RabbitTransport(server)
    raise Invalid(reason=f"no transport for {scheme[:20]}:// (there are memory, local, rabbit, amqp and amqps)")


def bus(name: str) -> Bus:
    """The bus behind `memory://name` in this process."""
    with _making:
        return _buses.setdefault(name, Bus())
