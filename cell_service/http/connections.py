"""What a port grants its clients: how long a connection may idle or take for a request, how many connections a client
may have, how long a request's head may be, and TLS."""

from __future__ import annotations

import logging
import ssl
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
"""A file must come at this rate at least."""


@dataclass(frozen=True, slots=True)
class WsgiSection:
    """[wsgi] as far as it applies. The second is ours."""

    GROUP: ClassVar[str] = "wsgi"
    client_socket_timeout: float = option(
        cfg.FloatOpt("client_socket_timeout", default=75.0, min=0, help="Seconds for a head or a body; 0: no limit.")
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
    """`seconds`: for a head (the time before it, on an idle connection, included), and for a body; 0: any time.
    `per_client`: connections of one address; 0: any number. `tls`: None for plain HTTP."""

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


class BoundedServer(HTTPServer):
    """tornado's server, with these limits."""

    def initialize(self, delegate: Any, settings: ConnectionSettings, **http: Any) -> None:  # type: ignore[override]
        self._per_client = settings.per_client
        self._of_client: Counter[str] = Counter()
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
        client = _client(address)
        if self._per_client and self._of_client[client] >= self._per_client:
            log.warning("too many connections of a client", extra=about(None, client=client, most=self._per_client))
            stream.close()
            return
        self._of_client[client] += 1
        super().handle_stream(stream, address)

    def on_close(self, server_conn: Any) -> None:
        client = _client(server_conn.context.address)
        self._of_client[client] -= 1
        if not self._of_client[client]:
            del self._of_client[client]
        super().on_close(server_conn)


def _client(address: Any) -> str:
    return str(address[0]) if isinstance(address, tuple) and address else ""
