"""Queue servers that are killed, frozen and started again under the transports."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pika
import pytest

from cell_service.context import Context, Deadline, internal
from cell_service.errors import Conflict, DeadlineExceeded, QueueUnavailable, Unavailable
from cell_service.rpc.compute import Compute
from cell_service.rpc.contract import client, dispatcher
from cell_service.rpc.local.broker import LocalBroker
from cell_service.rpc.rabbit.consumer import ATTEMPT, RETURNS
from cell_service.rpc.transport import MAX_RETURNS, Transport
from cell_service.rpc.transports import open_transport
from tests.real.databases import free_port, wait_until
from tests.real.rabbitmq import RabbitMq
from tests.rpc.test_transports import LocalServer, RabbitServer, local_server
from tests.suites.transport import LONG, Gate, Inbox, raised_in_thread

__all__ = ["local_server"]

CONSUMER = """
import sys, threading
from cell_service.rpc.transports import open_transport

def handle(delivery):
    print(delivery.body.decode(), flush=True)
    threading.Event().wait()

open_transport(sys.argv[1]).serve("t", handle, threads=1)
print("serving", flush=True)
threading.Event().wait()
"""


@pytest.fixture
def opened() -> Iterator[Callable[[str], Transport]]:
    transports: list[Transport] = []

    def connect(url: str) -> Transport:
        transports.append(open_transport(url))
        return transports[-1]

    yield connect
    for transport in transports:
        transport.close()


def reaches(transport: Transport, topic: str, body: bytes) -> bool:
    """Whether a call is answered, by a connection that may have to be made first."""
    with contextlib.suppress(Unavailable):
        return transport.call(topic, body, timeout=5) == body[::-1]
    return False


# -- the local broker -------------------------------------------------------------------------


def test_subscriptions_come_back_with_the_local_broker(
    local_server: LocalServer, opened: Callable[[str], Transport]
) -> None:
    url = f"local://{local_server.path}"
    serving, asking = opened(url), opened(url)
    inbox, gate = Inbox(), Gate()
    serving.serve("t", inbox)
    serving.serve("slow", gate)
    assert reaches(asking, "t", b"ab")
    error = raised_in_thread(lambda: asking.call("slow", b"x", timeout=LONG))
    gate.await_inside(1)
    local_server.kill()
    assert isinstance(error(), QueueUnavailable)
    with pytest.raises(QueueUnavailable):
        asking.cast("t", b"x", timeout=LONG)
    local_server.revive()
    wait_until(lambda: reaches(asking, "t", b"ab"), "the subscription does not come back")
    gate.open.set()


def test_a_local_transport_may_come_before_its_broker(
    local_server: LocalServer, opened: Callable[[str], Transport]
) -> None:
    local_server.kill()
    transport = opened(f"local://{local_server.path}")
    with pytest.raises(QueueUnavailable, match="No such file"):
        transport.ping(timeout=LONG)
    transport.serve("t", Inbox())
    local_server.revive()
    wait_until(lambda: reaches(transport, "t", b"ab"), "the subscription does not begin")


def test_an_idempotent_call_outlasts_a_broker_that_is_away(
    local_server: LocalServer, opened: Callable[[str], Transport]
) -> None:
    class Agent(Compute):
        def get_console_output(self, ctx: Context, instance_uuid: str, tail_length: int | None) -> str:
            return f"console of {instance_uuid}"

    transport = opened(f"local://{local_server.path}")
    transport.serve("compute.h1", dispatcher(Agent()))
    local_server.kill()
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(client(Compute, transport, "h1").get_console_output, internal(), "i1", None)
        with pytest.raises(QueueUnavailable):
            transport.ping(timeout=LONG)
        local_server.revive()
        assert asked.result(LONG) == "console of i1"


def test_a_message_whose_local_consumer_is_killed_goes_to_another(
    local_server: LocalServer, opened: Callable[[str], Transport]
) -> None:
    killed_while_handling(f"local://{local_server.path}", opened)


def test_two_local_brokers_do_not_share_a_socket(local_server: LocalServer) -> None:
    with pytest.raises(Conflict):
        LocalBroker(local_server.path).start()


def test_a_client_that_talks_nonsense_is_cut_off_alone(
    local_server: LocalServer, opened: Callable[[str], Transport]
) -> None:
    transport = opened(f"local://{local_server.path}")
    transport.serve("t", Inbox())
    for nonsense in (b"\xff" * 8, b"\x00\x00\x00\x02\x00\x00\x00\x00{}", b"\x00\x00\x00\x02\x00\x00\x00\x00]["):
        with socket.socket(socket.AF_UNIX) as stranger:
            stranger.settimeout(LONG)
            stranger.connect(local_server.path)
            stranger.sendall(nonsense)
            assert stranger.recv(1) == b""
    assert reaches(transport, "t", b"ab")


# -- RabbitMQ ---------------------------------------------------------------------------------


@pytest.mark.real
@pytest.mark.faults
def test_subscriptions_and_messages_outlive_a_killed_broker(
    rabbitmq: RabbitMq, vhost_url: str, opened: Callable[[str], Transport]
) -> None:
    serving, asking = opened(vhost_url), opened(vhost_url)
    inbox, gate = Inbox(), Gate()
    serving.serve("t", inbox)
    serving.serve("slow", gate)
    serving.serve("later", Inbox()).stop()
    asking.cast("later", b"durable", timeout=LONG)
    error = raised_in_thread(lambda: asking.call("slow", b"x", timeout=LONG))
    gate.await_inside(1)
    rabbitmq.kill()
    assert isinstance(error(), QueueUnavailable)
    with pytest.raises(QueueUnavailable):
        asking.cast("t", b"x", timeout=LONG)
    with pytest.raises(QueueUnavailable):
        asking.ping(timeout=LONG)
    rabbitmq.start()
    wait_until(lambda: reaches(asking, "t", b"ab"), "the subscription does not come back")
    later = Inbox()
    asking.serve("later", later)
    later.await_count(1)
    assert later.bodies == [b"durable"]
    gate.open.set()


@pytest.mark.real
@pytest.mark.faults
def test_callers_of_a_frozen_broker_go_on_at_their_deadline(
    rabbitmq: RabbitMq, vhost_url: str, opened: Callable[[str], Transport]
) -> None:
    transport = opened(vhost_url)
    transport.serve("t", Inbox())
    assert reaches(transport, "t", b"ab")
    waiting = opened(vhost_url)
    waiting.ping(timeout=LONG)
    rabbitmq.freeze()
    try:
        for use in (
            lambda: transport.cast("t", b"x", timeout=0.2),
            lambda: transport.call("t", b"x", timeout=0.2),
            lambda: transport.ping(timeout=0.2),
            lambda: opened(vhost_url).ping(timeout=0.2),
        ):
            with pytest.raises(DeadlineExceeded):
                use()
        error = raised_in_thread(lambda: waiting.call("t", b"x", timeout=LONG))
        waiting.close()
        assert isinstance(error(), QueueUnavailable)
    finally:
        rabbitmq.thaw()
    wait_until(lambda: reaches(transport, "t", b"ab"), "it does not work after the thaw")


@pytest.mark.real
@pytest.mark.faults
def test_a_frozen_broker_is_given_up_by_its_heartbeat(
    rabbitmq: RabbitMq, vhost_url: str, opened: Callable[[str], Transport]
) -> None:
    transport = opened(f"{vhost_url}?heartbeat=1")
    transport.serve("t", Inbox())
    rabbitmq.freeze()
    try:
        error = raised_in_thread(lambda: transport.call("t", b"x", timeout=LONG))
        assert isinstance(error(), QueueUnavailable)
    finally:
        rabbitmq.thaw()
    wait_until(lambda: reaches(transport, "t", b"ab"), "it does not work after the thaw")


@pytest.mark.real
@pytest.mark.faults
def test_a_message_whose_consumer_is_killed_goes_to_another(vhost_url: str, opened: Callable[[str], Transport]) -> None:
    killed_while_handling(vhost_url, opened)


@pytest.mark.real
@pytest.mark.faults
def test_a_blocked_broker_refuses_at_once(
    rabbitmq: RabbitMq, vhost_url: str, opened: Callable[[str], Transport]
) -> None:
    transport = opened(vhost_url)
    transport.serve("t", Inbox())
    rabbitmq.control("set_vm_memory_high_watermark", "absolute", "1MB")
    try:
        deadline = Deadline.after(LONG)

        def refused() -> bool:
            try:
                transport.cast("t", b"x", timeout=LONG)
            except QueueUnavailable:
                return True
            return False

        wait_until(refused, "a broker without memory takes messages")
        assert deadline.remaining() > 0
    finally:
        rabbitmq.control("set_vm_memory_high_watermark", "absolute", "1GB")
    wait_until(lambda: reaches(transport, "t", b"ab"), "it does not work after the alarm")


@pytest.mark.real
def test_a_deleted_queue_is_made_again(rabbitmq: RabbitMq, vhost_url: str, opened: Callable[[str], Transport]) -> None:
    transport = opened(vhost_url)
    transport.serve("t", Inbox())
    rabbitmq.control("-p", vhost_url.rpartition("/")[2], "delete_queue", "t")
    wait_until(lambda: reaches(transport, "t", b"ab"), "the queue is not made again")


@pytest.mark.real
def test_a_queue_that_was_made_otherwise_is_served_and_disturbs_nobody(
    vhost_url: str, opened: Callable[[str], Transport]
) -> None:
    with by_hand(vhost_url) as channel:
        channel.queue_declare("old", durable=True)
    transport = opened(vhost_url)
    for topic in ("before", "old", "after"):
        transport.serve(topic, Inbox())
    for topic in ("before", "old", "after"):
        assert transport.call(topic, b"ab", timeout=LONG) == b"ba"


@pytest.mark.real
def test_strange_properties_do_no_harm(vhost_url: str, opened: Callable[[str], Transport]) -> None:
    transport, inbox = opened(vhost_url), Inbox()
    transport.serve("t", inbox)
    with by_hand(vhost_url) as channel:
        headers = {ATTEMPT: "often", RETURNS: [1]}
        strange = pika.BasicProperties(headers=headers, reply_to="nowhere", correlation_id="x", expiration="60000")
        channel.basic_publish("", "t", b"strange", strange)
    inbox.await_count(1)
    assert inbox.deliveries[0].attempt == 1
    assert transport.call("t", b"ab", timeout=LONG) == b"ba"


@pytest.mark.real
def test_an_error_of_our_own_costs_one_connection(vhost_url: str, opened: Callable[[str], Transport]) -> None:
    transport = opened(vhost_url)
    transport.serve("t", Inbox())
    connection = transport._connection  # type: ignore[attr-defined]
    for harm in (lambda: connection.later(0, lambda: [][1]), lambda: [][1]):
        connection.do(harm)
        wait_until(lambda: reaches(transport, "t", b"ab"), "it does not work any more")


@pytest.mark.real
def test_a_message_that_killed_many_consumers_is_parked(vhost_url: str, opened: Callable[[str], Transport]) -> None:
    transport, inbox = opened(vhost_url), Inbox()
    transport.serve("t", Inbox()).stop()
    with by_hand(vhost_url) as channel:
        for returns in (MAX_RETURNS, MAX_RETURNS - 1):
            properties = pika.BasicProperties(headers={RETURNS: returns})
            channel.basic_publish("", "t", b"%d" % returns, properties)
            channel.basic_get("t")
    transport.serve("t", inbox)
    wait_until(lambda: RabbitServer(vhost_url).parked("t") == [b"%d" % MAX_RETURNS], "it is not parked")
    inbox.await_count(1)
    assert inbox.bodies == [b"%d" % (MAX_RETURNS - 1)]


@pytest.mark.real
def test_a_wrong_password_is_said_and_not_shown(vhost_url: str, opened: Callable[[str], Transport]) -> None:
    transport = opened(vhost_url.replace("s3cr%2Ft", "wr0ng"))
    with pytest.raises(QueueUnavailable) as refused:
        transport.ping(timeout=LONG)
    assert "wr0ng" not in str(refused.value)


@pytest.mark.real
def test_another_node_of_the_cluster_is_tried(
    rabbitmq: RabbitMq, vhost_url: str, opened: Callable[[str], Transport]
) -> None:
    login, _, rest = vhost_url.partition("@")
    transport = opened(f"{login}@127.0.0.1:{free_port()},{rest}")
    wait_until(lambda: pings(transport), "the second address is not tried")


@contextlib.contextmanager
def by_hand(url: str) -> Iterator[Any]:
    """A channel of somebody else's."""
    connection = pika.BlockingConnection(pika.URLParameters(url.replace("rabbit:", "amqp:")))
    try:
        yield connection.channel()
    finally:
        connection.close()


def pings(transport: Transport) -> bool:
    with contextlib.suppress(QueueUnavailable):
        transport.ping(timeout=LONG)
        return True
    return False


def killed_while_handling(url: str, opened: Callable[[str], Transport]) -> None:
    consumer = subprocess.Popen([sys.executable, "-c", CONSUMER, url], stdout=subprocess.PIPE, text=True)
    try:
        assert consumer.stdout is not None
        assert consumer.stdout.readline() == "serving\n"
        transport = opened(url)
        transport.cast("t", b"deadly", timeout=LONG)
        assert consumer.stdout.readline() == "deadly\n"
        inbox, taken = Inbox(), threading.Event()
        transport.serve("t", lambda delivery: (inbox(delivery), taken.set())[0])
        assert inbox.bodies == []
        os.kill(consumer.pid, signal.SIGKILL)
        assert taken.wait(LONG)
        assert inbox.bodies == [b"deadly"]
    finally:
        consumer.kill()
        consumer.wait(timeout=20)
        assert consumer.stdout is not None
        consumer.stdout.close()
