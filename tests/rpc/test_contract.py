"""Contracts over a transport: what travels, what is ignored, what comes back."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from cell_service import errors
from cell_service.context import Context, Deadline, internal, new_request_id
from cell_service.rpc.contract import Contract, call, cast, client, dispatcher
from cell_service.rpc.memory import Bus, MemoryTransport
from cell_service.rpc.transport import Handler
from tests.real.databases import wait_until

LONG = 60.0


@dataclass(frozen=True, slots=True)
class InstanceBundle:
    name: str
    weight: float = 1.0
    tags: tuple[str, ...] = ()


class Message(Contract):
    topic = "post"

    @cast
    def drop(self, ctx: Context, bundle: InstanceBundle) -> None:
        raise NotImplementedError

    @call(seconds=LONG, idempotent=True)
    def weigh(self, ctx: Context, bundle: InstanceBundle, unit: str = "kg") -> dict[str, float]:
        raise NotImplementedError

    @call(seconds=LONG, idempotent=True)
    def lose(self, ctx: Context, what: str) -> None:
        raise NotImplementedError

    @call(seconds=LONG, idempotent=False)
    def sell(self, ctx: Context) -> InstanceBundle | None:
        raise NotImplementedError


class Office(Message):
    def __init__(self) -> None:
        self.dropped: list[tuple[Context, InstanceBundle]] = []
        self.contexts: list[Context] = []
        self.came = threading.Event()

    def drop(self, ctx: Context, bundle: InstanceBundle) -> None:
        self.dropped.append((ctx, bundle))
        self.came.set()

    def weigh(self, ctx: Context, bundle: InstanceBundle, unit: str = "kg") -> dict[str, float]:
        self.contexts.append(ctx)
        return {unit: bundle.weight}

    def lose(self, ctx: Context, what: str) -> None:
        match what:
            case "instance":
                raise errors.InstanceNotFound(instance_id="i-1")
            case "bug":
                raise ZeroDivisionError("of nothing")
            case "odd":
                raise errors.NoValidHost(reason=InstanceBundle("odd"))

    def sell(self, ctx: Context) -> InstanceBundle | None:
        return InstanceBundle("größe", 0.5, ("a", "b"))


@pytest.fixture
def bus() -> Bus:
    return Bus()


@pytest.fixture
def office(bus: Bus) -> Iterator[Office]:
    office, transport = Office(), bus.connect()
    transport.serve("post", dispatcher(office))
    yield office
    transport.close()


@pytest.fixture
def message(bus: Bus, office: Office) -> Message:
    return client(Message, bus.connect())


def raw(bus: Bus, **changes: Any) -> dict[str, Any]:
    """The answer to an envelope as a peer of another age might send it."""
    envelope = {
        "v": 1,
        "method": "weigh",
        "ctx": {"request_id": "req-1"},
        "budget": 5.0,
        "args": {"bundle": {"name": "x", "weight": 2.0}},
    }
    answer: dict[str, Any] = json.loads(
        bus.connect().call("post", json.dumps({**envelope, **changes}).encode(), timeout=LONG)
    )
    return answer


def test_values_go_in_and_come_out(message: Message) -> None:
    assert message.weigh(internal(), InstanceBundle("x", 2.5)) == {"kg": 2.5}
    assert message.weigh(internal(), bundle=InstanceBundle("x"), unit="g") == {"g": 1.0}
    assert message.sell(internal()) == InstanceBundle("größe", 0.5, ("a", "b"))


def test_who_asks_travels_along(message: Message, office: Office) -> None:
    ctx = Context(new_request_id(), user_id="u", project_id="p", roles=("member", "reader"), is_admin=True)
    message.weigh(ctx, InstanceBundle("x"))
    message.drop(ctx, InstanceBundle("y"))
    assert office.came.wait(LONG)
    for seen in (office.contexts[0], office.dropped[0][0]):
        assert seen.until(ctx.deadline) == ctx


def test_the_deadline_travels_as_what_is_left(message: Message, office: Office) -> None:
    message.weigh(internal(seconds=20), InstanceBundle("x"))
    assert 0 < office.contexts[0].deadline.remaining() <= 20


def test_no_time_left_is_not_sent(message: Message, office: Office) -> None:
    ctx = internal().until(Deadline.after(-1))
    for use in (lambda: message.weigh(ctx, InstanceBundle("x")), lambda: message.drop(ctx, InstanceBundle("x"))):
        with pytest.raises(errors.DeadlineExceeded):
            use()
    assert (office.contexts, office.dropped) == ([], [])


def test_a_client_for_one_host_reaches_that_host(bus: Bus) -> None:
    transport, offices = bus.connect(), {name: Office() for name in ("h1", "h2")}
    for name, office in offices.items():
        transport.serve(f"post.{name}", dispatcher(office))
    client(Message, bus.connect(), "h2").weigh(internal(), InstanceBundle("x"))
    assert [len(office.contexts) for office in offices.values()] == [0, 1]
    transport.close()


# -- errors -----------------------------------------------------------------------------------


def test_errors_travel_with_class_and_fields(message: Message) -> None:
    with pytest.raises(errors.InstanceNotFound) as raised:
        message.lose(internal(), "instance")
    assert raised.value.fields == {"instance_id": "i-1"}


def test_a_bug_on_the_far_side_is_a_remote_error(message: Message) -> None:
    with pytest.raises(errors.RemoteError) as raised:
        message.lose(internal(), "bug")
    assert raised.value.fields == {"kind": "ZeroDivisionError", "reason": "of nothing"}


def test_a_field_that_cannot_travel_goes_as_text(message: Message) -> None:
    with pytest.raises(errors.NoValidHost, match="odd"):
        message.lose(internal(), "odd")


def test_an_error_of_a_newer_peer_is_a_remote_error(bus: Bus) -> None:
    answer = json.dumps({"error": {"kind": "FromTheFuture", "fields": {"x": 1}}}).encode()
    bus.connect().serve("post", lambda delivery: answer)
    with pytest.raises(errors.RemoteError, match="FromTheFuture"):
        client(Message, bus.connect()).weigh(internal(), InstanceBundle("x"))


@pytest.mark.parametrize("answer", [b"", b"[]", b"{}", b'{"result": 3}', b'{"error": {"kind": "InstanceNotFound"}}'])
def test_an_answer_that_makes_no_sense_is_a_remote_error(bus: Bus, answer: bytes) -> None:
    bus.connect().serve("post", lambda delivery: answer)
    with pytest.raises(errors.RemoteError):
        client(Message, bus.connect()).weigh(internal(), InstanceBundle("x"))


# -- peers of another age ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {"colour": "blue"},
        {"ctx": {"request_id": "req-1", "mood": "good"}},
        {"args": {"bundle": {"name": "x", "weight": 2.0}, "express": True}},
        {"args": {"bundle": {"name": "x", "weight": 2.0, "insured": {"for": 3}}}},
    ],
    ids=["envelope", "context", "arguments", "value"],
)
def test_unknown_fields_are_ignored(bus: Bus, office: Office, changes: dict[str, Any]) -> None:
    assert raw(bus, **changes) == {"result": {"kg": 2.0}}


def test_missing_optional_fields_have_their_defaults(bus: Bus, office: Office) -> None:
    assert raw(bus, args={"bundle": {"name": "x"}}) == {"result": {"kg": 1.0}}


def test_an_unknown_method_is_said_to_the_caller(bus: Bus, office: Office) -> None:
    assert raw(bus, method="fly")["error"]["kind"] == "NotSupported"


@pytest.mark.parametrize(
    "changes",
    [
        {"v": 2},
        {"budget": "much"},
        {"method": ["weigh"]},
        {"ctx": []},
        {"args": {}},
        {"args": {"bundle": 3}},
        {"args": {"bundle": {"weight": 1.0}}},
        {"args": [1]},
    ],
)
def test_a_call_that_makes_no_sense_is_answered_so(bus: Bus, office: Office, changes: dict[str, Any]) -> None:
    error = raw(bus, **changes)["error"]
    assert (error["kind"], error["fields"]["kind"]) == ("RemoteError", "Unintelligible")


@pytest.mark.parametrize("body", [b"", b"\xff\xfe", b"[]", b"{}", b'{"v": 1, "method": "drop"}', b"[" * 100_000])
def test_a_cast_that_makes_no_sense_is_parked(bus: Bus, office: Office, body: bytes) -> None:
    bus.connect().cast("post", body, timeout=LONG)
    wait_until(lambda: list(bus.parked["post"]) == [body], "the message is not parked")


# -- connections that break -------------------------------------------------------------------


class Breaking(MemoryTransport):
    """A connection that breaks after the message went out, some times."""

    def __init__(self, bus: Bus, times: int) -> None:
        super().__init__(bus)
        self.left = times

    def call(self, topic: str, body: bytes, *, timeout: float) -> bytes:
        answer = super().call(topic, body, timeout=timeout)
        if self.left > 0:
            self.left -= 1
            raise errors.QueueUnavailable(reason="it broke")
        return answer

    def serve(self, topic: str, handler: Handler, *, threads: int = 4) -> Any:
        raise NotImplementedError


def test_an_idempotent_call_is_asked_again_when_the_connection_breaks(bus: Bus, office: Office) -> None:
    assert client(Message, Breaking(bus, times=2)).weigh(internal(), InstanceBundle("x")) == {"kg": 1.0}
    assert len(office.contexts) == 3


def test_another_call_is_not_asked_again(bus: Bus, office: Office) -> None:
    breaking = Breaking(bus, times=1)
    with pytest.raises(errors.QueueUnavailable):
        client(Message, breaking).sell(internal())


def test_asking_again_ends_with_the_deadline(bus: Bus, office: Office) -> None:
    with pytest.raises((errors.QueueUnavailable, errors.DeadlineExceeded)):
        client(Message, Breaking(bus, times=1_000_000)).weigh(internal(seconds=0.2), InstanceBundle("x"))


def test_a_silent_bus_neither_takes_nor_gives(bus: Bus, office: Office, message: Message) -> None:
    bus.unreachable.set()
    with pytest.raises(errors.QueueUnavailable):
        message.drop(internal(), InstanceBundle("x"))
    bus.unreachable.clear()
    message.drop(internal(), InstanceBundle("x"))
    assert office.came.wait(LONG)
