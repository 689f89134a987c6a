"""The limits that a port sets its clients: how long a connection may idle, take for a request or leave an answer
unread; how many connections a client may have; how long a request's head may be; and TLS."""

from __future__ import annotations

import asyncio
import fcntl
import logging
import ssl
import struct
import termios
from asyncio import Future
from collections import Counter
from dataclasses import dataclass
from typing import Any, ClassVar

from oslo_config import cfg
from tornado.httpserver import HTTPServer
from tornado.iostream import IOStream

from cell_service.config import option, read
from cell_service.errors import Invalid
from cell_service.logs import about

log = logging.getLogger(__name__)

HEAD_BYTES = 64 << 10
"""A longer head is answered 414 or 431."""
MOST_HEAD_BYTES = (1 << 20) + HEAD_BYTES
"""Beyond this a head is not read any more, and the connection is cut."""
ANY_SECONDS = float(1 << 30)
FILE_BYTES_PER_SECOND = 1024
"""A file must come at this rate at least, and an answer be taken."""


@dataclass(frozen=True, slots=True)
class WsgiSection:
    """[wsgi] as far as it applies. The second is ours."""

    GROUP: ClassVar[str] = "wsgi"
    client_socket_timeout: float = option(
        cfg.FloatOpt(
            "client_socket_timeout", default=75.0, min=0, help="Seconds for a head, a body, a read; 0: no limit."
        )
    )
    max_connections_per_client: int = option(
        cfg.IntOpt("max_connections_per_client", default=1024, min=0, help="Of one address; 0: no limit.")
    )


@dataclass(frozen=True, slots=True)
class SslSection:
    """[ssl]: TLS where a service listens, if it has a certificate."""

    GROUP: ClassVar[str] = "ssl"
    cert_file: str | None = option(cfg.StrOpt("cert_file", default=None, help="Certificate, with its chain."))
    key_file: str | None = option(cfg.StrOpt("key_file", default=None, help="Its key, unless cert_file has it."))
    ca_file: str | None = option(cfg.StrOpt("ca_file", default=None, help="Clients need a certificate of this CA."))


@dataclass(frozen=True, slots=True)
class ConnectionSettings:
    """`seconds`: for a head (the time before it, on an idle connection, included), for a body, and for a client to read
    on; 0: any time. `per_client`: connections of one address; 0: any number. `tls`: None for plain HTTP."""

    seconds: float = 75.0
    per_client: int = 1024
    tls: ssl.SSLContext | None = None


def read_connections(conf: cfg.ConfigOpts) -> ConnectionSettings:
    """The settings as the files say. Raises Invalid, also for certificates that cannot be used."""
    wsgi = read(conf, WsgiSection)
    return ConnectionSettings(wsgi.client_socket_timeout, wsgi.max_connections_per_client, _tls(read(conf, SslSection)))


def _tls(section: SslSection) -> ssl.SSLContext | None:
    if not section.cert_file:
        if section.key_file or section.ca_file:
            raise Invalid(reason="[ssl] cert_file is not set")
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(section.cert_file, section.key_file)
    except (OSError, ssl.SSLError) as error:
        raise Invalid(reason=f"[ssl] {section.cert_file} cannot be used: {error}") from error
    if section.ca_file:
        try:
            context.load_verify_locations(section.ca_file)
        except (OSError, ssl.SSLError) as error:
            raise Invalid(reason=f"[ssl] {section.ca_file} cannot be used: {error}") from error
        context.verify_mode = ssl.CERT_REQUIRED
    return context


class Clients:
    """How many connections each client has, by its address. All of it is called on the loop."""

    def __init__(self) -> None:
        self._connections: Counter[str] = Counter()

    def of(self, address: Any) -> int:
        return self._connections[_client(address)]

    def add(self, address: Any) -> None:
        self._connections[_client(address)] += 1

    def remove(self, address: Any) -> None:
        client = _client(address)
        self._connections[client] -= 1
        if not self._connections[client]:
            del self._connections[client]


class BoundedServer(HTTPServer):
    """tornado's server, with these limits. A connection that becomes a web socket's is counted in `clients` by its
    handler, from then on."""

    def initialize(  # type: ignore[override]
        self, delegate: Any, settings: ConnectionSettings, clients: Clients, **http: Any
    ) -> None:
        self._per_client, self._clients = settings.per_client, clients
        super().initialize(
            delegate,
            ssl_options=settings.tls,
            idle_connection_timeout=settings.seconds or ANY_SECONDS,
            body_timeout=settings.seconds or None,
            max_header_size=MOST_HEAD_BYTES,
            **http,
        )

    def accept(self, connection: Any, address: Any) -> None:
        """Serve a connection that was accepted elsewhere."""
        self._handle_connection(connection, address)

    def handle_stream(self, stream: IOStream, address: tuple[Any, ...]) -> None:
        if self._per_client and self._clients.of(address) >= self._per_client:
            client, most = _client(address), self._per_client
            log.warning("too many connections of a client", extra=about(None, client=client, most=most))
            stream.close()
            return
        self._clients.add(address)
        super().handle_stream(stream, address)

    def on_close(self, server_conn: Any) -> None:
        self._clients.remove(server_conn.context.address)
        super().on_close(server_conn)


def watch_reader(connection: Any, sent: Future[None]) -> None:
    """Cut the connection where its client does not take what is `sent` at the rate of a file."""
    seconds, stream = connection.params.body_timeout, connection.stream
    if not seconds or stream is None or sent.done():
        return
    loop = asyncio.get_running_loop()

    def check(before: int) -> None:
        if sent.done():
            return
        taken = _taken(stream)
        if taken - before < seconds * FILE_BYTES_PER_SECOND:
            log.warning("a client reads too slowly, its connection is cut")
            stream.close()
        else:
            loop.call_later(seconds, check, taken)

    loop.call_later(seconds, check, _taken(stream))


def _taken(stream: IOStream) -> int:
    """The bytes that the client's side has acknowledged: those written, less those that the kernel still has."""
    if stream.closed():
        return 0
    (waiting,) = struct.unpack("i", fcntl.ioctl(stream.fileno(), termios.TIOCOUTQ, b"\0" * 4))
    return stream._total_write_done_index - int(waiting)


def _client(address: Any) -> str:
    return str(address[0]) if isinstance(address, tuple) and address else ""
