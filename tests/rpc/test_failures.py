"""Whatever a broker refuses, its operator reads one plain sentence with the URL, what is wrong and what to do."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

import pytest

from cell_service.errors import QueueUnavailable
from cell_service.rpc.rabbit.failures import reason_of
from cell_service.rpc.transports import open_transport
from tests.real.databases import free_port
from tests.real.rabbitmq import PASSWORD, RabbitMq

SECONDS = 60.0
QUOTED = PASSWORD.replace("/", "%2F")


def said(url: str) -> str:
    """Why a ping of this queue fails."""
    transport = open_transport(url)
    try:
        with pytest.raises(QueueUnavailable) as refused:
            transport.ping(timeout=SECONDS)
    finally:
        transport.close()
    reason = str(refused.value.fields["reason"])
    assert PASSWORD not in reason
    assert QUOTED not in reason
    return reason


@pytest.mark.real
def test_a_wrong_password_is_said_with_the_url(rabbitmq: RabbitMq, vhost_url: str) -> None:
    shown = vhost_url.replace(QUOTED, "***")
    assert said(vhost_url.replace(QUOTED, "wr0ng")) == (
        f"the broker refuses the user or the password ({shown}); correct them in the transport URL, or the user on "
        "the broker"
    )


@pytest.mark.real
def test_a_missing_virtual_host_is_said_as_such(vhost_url: str) -> None:
    reason = said(f"{vhost_url}-not-there")
    assert reason.startswith("the broker has no such virtual host (rabbit://t:***@127.0.0.1:")
    assert "rabbitmqctl add_vhost" in reason


@pytest.mark.real
def test_a_virtual_host_that_the_user_may_not_use_is_said_as_such(rabbitmq: RabbitMq, vhost_url: str) -> None:
    closed = f"closed{vhost_url.rpartition('/')[2]}"
    rabbitmq.control("eval", f'rabbit_vhost:add(<<"{closed}">>, <<"t">>).')
    assert said(rabbitmq.url(closed)).startswith("the user may not use the virtual host (")


@pytest.mark.real
def test_a_broker_without_tls_is_said_as_such(vhost_url: str) -> None:
    assert said(f"{vhost_url}?ssl=1").startswith("TLS fails (")


def test_a_broker_that_does_not_run_is_said_as_such() -> None:
    port = free_port()
    assert said(f"rabbit://u:{QUOTED}@127.0.0.1:{port}/v") == (
        f"the connection is refused: no server listens there (rabbit://u:***@127.0.0.1:{port}/v); "
        "start the server, or correct host and port"
    )


def test_a_host_name_that_is_not_known_is_said_as_such() -> None:
    assert said(f"rabbit://u:{QUOTED}@no-such-host.invalid/v").startswith("its host name is not known (")


def test_a_port_of_something_else_is_said_as_such() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(8)
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=serve)
        thread.start()
        reason = said(f"rabbit://u:{QUOTED}@127.0.0.1:{server.getsockname()[1]}/v")
        thread.join(SECONDS)
    assert reason.startswith("the server ends the connection before AMQP begins (")


def test_the_broker_of_one_machine_is_named_by_its_socket(tmp_path: Path) -> None:
    assert said(f"local://{tmp_path}/socket").startswith(
        f"the message broker of this machine does not run (local://{tmp_path}/socket: "
    )


def test_the_innermost_error_counts() -> None:
    class Inner(Exception):
        exceptions = ()

    class Outer(Exception):
        exceptions = (ValueError("first"), Inner("Connection refused"))

    assert reason_of(Outer("several attempts"), "URL").startswith(
        "the connection is refused: no server listens there (URL)"
    )
