"""The parameters by which pika reaches a RabbitMQ server."""

from __future__ import annotations

import ssl
from typing import Any

import pika

from cell_service.errors import Invalid
from cell_service.rpc.urls import Address, RabbitServer

CONNECT_SECONDS = 5.0


def tls_options(server: RabbitServer) -> Any:
    """Raises Invalid for files that can't be used."""
    if server.tls is None:
        return None
    try:
        context = ssl.create_default_context(cafile=server.tls.ca_file or None)
        if server.tls.cert_file:
            context.load_cert_chain(server.tls.cert_file, server.tls.key_file or None)
    except OSError as error:
        raise Invalid(reason=f"the certificates that the transport URL names can't be used: {error}") from error
    return context


def parameters(server: RabbitServer, address: Address, tls: ssl.SSLContext | None) -> Any:
    """The parameters for one node. A dead peer is noticed by unacknowledged bytes and by heartbeats."""
    patience = max(2, server.heartbeat)
    return pika.ConnectionParameters(
        host=address.host,
        port=address.port,
        virtual_host=server.vhost,
        credentials=pika.PlainCredentials(address.login.user, address.login.password),
        heartbeat=server.heartbeat,
        ssl_options=None if tls is None else pika.SSLOptions(tls, address.host),
        connection_attempts=1,
        socket_timeout=CONNECT_SECONDS,
        stack_timeout=CONNECT_SECONDS,
        tcp_options={"TCP_USER_TIMEOUT": patience * 1000},
        client_properties={"product": "polycell"},
    )
