"""Every transport passes the suite of all transports."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator

import pika
import pytest

from cell_service.errors import Invalid
from cell_service.rpc.local.broker import LocalBroker
from cell_service.rpc.memory import Bus
from cell_service.rpc.transport import Transport
from cell_service.rpc.transports import open_transport
from cell_service.rpc.urls import Address, Login, Tls, rabbit_server
from tests.suites.transport import QueueServer, TransportSuite


class MemoryServer:
    def __init__(self) -> None:
        self.bus = Bus()

    def connect(self) -> Transport:
        return self.bus.connect()

    def parked(self, topic: str) -> list[bytes]:
        return list(self.bus.parked[topic])


class LocalServer:
    def __init__(self, directory: str) -> None:
        self.path = f"{directory}/queue.sock"
        self.broker = LocalBroker(self.path)
        self.broker.start()

    def connect(self) -> Transport:
        return open_transport(f"local://{self.path}")

    def parked(self, topic: str) -> list[bytes]:
        return list(self.broker.bus.parked[topic])

    def kill(self) -> None:
        self.broker.stop()

    def revive(self) -> None:
        self.broker = LocalBroker(self.path)
        self.broker.start()


class RabbitServer:
    def __init__(self, url: str) -> None:
        self.url = url

    def connect(self) -> Transport:
        return open_transport(self.url)

    def parked(self, topic: str) -> list[bytes]:
        """Looked at once: they go back when the connection closes."""
        connection = pika.BlockingConnection(pika.URLParameters(self.url.replace("rabbit:", "amqp:")))
        found = []
        try:
            channel = connection.channel()
            while (got := channel.basic_get(f"{topic}.parked"))[0] is not None:
                found.append(got[2])
        except pika.exceptions.ChannelClosedByBroker:
            return []
        finally:
            connection.close()
        return found


@pytest.fixture
def local_server() -> Iterator[LocalServer]:
    directory = tempfile.mkdtemp(prefix="polycell-q-")  # a socket's path must be short
    server = LocalServer(directory)
    yield server
    server.kill()
    shutil.rmtree(directory)


class TestMemory(TransportSuite):
    @pytest.fixture
    def server(self) -> QueueServer:
        return MemoryServer()


class TestLocal(TransportSuite):
    @pytest.fixture
    def server(self, local_server: LocalServer) -> QueueServer:
        return local_server


@pytest.mark.real
class TestRabbit(TransportSuite):
    @pytest.fixture
    def server(self, vhost_url: str) -> QueueServer:
        return RabbitServer(vhost_url)


# -- URLs -------------------------------------------------------------------------------------


def test_one_name_is_one_bus() -> None:
    serving, asking, other = (open_transport(f"memory://{name}") for name in ("a-bus", "a-bus", "another"))
    serving.serve("t", lambda delivery: delivery.body)
    assert asking.call("t", b"x", timeout=60) == b"x"
    with pytest.raises(Exception, match="Nobody listens"):
        other.call("t", b"x", timeout=60)
    serving.close()


def test_rabbit_urls_are_read_as_nova_writes_them() -> None:
    server = rabbit_server(
        "rabbit://u:p%40ss@h1:5673,u2:p2@[::1],h3:1/a%2Fb?ssl=1&heartbeat=3&ssl_ca_file=/ca&strange=1"
    )
    assert server.addresses == (
        Address("h1", 5673, Login("u", "p@ss")),
        Address("::1", 5672, Login("u2", "p2")),
        Address("h3", 1, Login("u2", "p2")),
    )
    assert (server.vhost, server.heartbeat, server.tls) == ("a/b", 3, Tls(ca_file="/ca"))


@pytest.mark.parametrize("url", ["rabbit://", "rabbit:///", "amqp://localhost", "amqp://guest:guest@localhost:5672//"])
def test_what_a_rabbit_url_leaves_out(url: str) -> None:
    server = rabbit_server(url)
    assert server.addresses == (Address("localhost", 5672, Login("guest", "guest")),)
    assert (server.vhost, server.tls) == ("/", None)


def test_amqps_is_encrypted() -> None:
    server = rabbit_server("amqps://u:p@h/")
    assert (server.addresses[0].port, server.tls) == (5671, Tls())


@pytest.mark.parametrize(
    "url",
    [
        "",
        "nonsense",
        "none:///",
        "kafka://u:s3kret@h/",
        "local://relative/path",
        "local:",
        "rabbit://u:s3kret@h:port/",
        "rabbit://u:s3kret@h:70000/",
        "rabbit://u:s3kret@h1:5672,/x:y",
        "rabbit://u:s3kret@[::1/",
        "rabbit://u:s3kret@h/?heartbeat=often",
        "rabbit://u:s3kret@h/?ssl=1&ssl_ca_file=/nowhere",
    ],
)
def test_a_bad_url_is_one_line_without_the_password(url: str) -> None:
    with pytest.raises(Invalid) as refused:
        open_transport(url)
    text = str(refused.value)
    assert "s3kret" not in text + repr(refused.value.fields)
    assert "\n" not in text
