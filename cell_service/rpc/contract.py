"""Contracts: what a peer answers on a topic, declared once, giving a typed caller and a dispatcher.

A contract is a class with annotated methods, each a `cast` (no answer, delivered at least once) or a `call`
(an answer, or an error of `errors`). The serving side subclasses it; `client(...)` has the same methods.

The envelope on the wire, JSON: {"v": 1, "method", "ctx", "budget" (seconds left to the caller), "args"}. Keys that
are not known are ignored; another meaning of a known key needs another method, or another `v`.
"""

from __future__ import annotations

import inspect
import json
import logging
import threading
import typing
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, ClassVar, TypeVar

from cell_service import errors, wire
from cell_service.backoff import Backoff
from cell_service.context import SYSTEM_CLOCK, Clock, Context, Deadline
from cell_service.rpc.transport import Delivery, Handler, Transport, Unintelligible

log = logging.getLogger(__name__)

VERSION = 1
CAST_SECONDS = 10.0
_PAUSES = Backoff(first=0.05, longest=1.0)

Method = TypeVar("Method", bound=Callable[..., Any])
C = TypeVar("C", bound="Contract")


class Contract:
    """Base of all contracts. `topic` is the queue; a client for one host adds `.<host>`."""

    topic: ClassVar[str]


@dataclass(frozen=True, slots=True)
class _Shape:
    """The way of one method on the wire: `seconds` None for a cast."""

    name: str
    seconds: float | None
    idempotent: bool
    parameters: dict[str, Any]
    required: frozenset[str]
    returns: Any


def cast(method: Method) -> Method:
    """Declare a method without an answer. When it returns, the queue has the message."""
    method.__rpc__ = (None, True)  # type: ignore[attr-defined]
    return method


def call(*, seconds: float, idempotent: bool) -> Callable[[Method], Method]:
    """Declare a method with an answer, waited for at most `seconds`, or less when the context has less left.

    `idempotent`: the call may be sent again when the connection broke before the answer.
    """

    def mark(method: Method) -> Method:
        method.__rpc__ = (seconds, idempotent)  # type: ignore[attr-defined]
        return method

    return mark


def client(contract: type[C], transport: Transport, host: str | None = None) -> C:
    """An object with the contract's methods that sends to the peer's topic (`topic.host` with a host)."""
    topic = contract.topic if host is None else f"{contract.topic}.{host}"
    made: C = _client_class(typing.cast(Any, contract))(transport, topic)
    return made


def dispatcher(endpoint: Contract, clock: Clock = SYSTEM_CLOCK) -> Handler:
    """A transport handler that decodes messages for `endpoint`, calls it, and encodes what it answers or raises."""
    shapes = _shapes(typing.cast(Any, type(endpoint)))

    def handle(delivery: Delivery) -> bytes | None:
        try:
            envelope = _opened(delivery.body)
            shape = shapes.get(envelope["method"])
            if shape is None:
                raise errors.NotSupported(reason=f"{delivery.topic} has no method {envelope['method']}")
            ctx, arguments = _read(envelope, shape, clock)
        except (Unintelligible, errors.NotSupported) as error:
            if not delivery.wants_reply:
                raise
            if isinstance(error, errors.NotSupported):
                return _failure(error)
            return _failure(errors.RemoteError(kind="Unintelligible", reason=str(error)))
        method = getattr(endpoint, shape.name)
        if not delivery.wants_reply:
            method(ctx, **arguments)
            return None
        try:
            result = method(ctx, **arguments)
        except errors.PolycellError as error:
            return _failure(error)
        except Exception as error:
            log.exception("call failed topic=%s method=%s request_id=%s", delivery.topic, shape.name, ctx.request_id)
            return _failure(errors.RemoteError(kind=type(error).__name__, reason=str(error)))
        return wire.dumps({"result": wire.to_plain(result)}).encode()

    return handle


def _opened(body: bytes) -> dict[str, Any]:
    try:
        envelope = json.loads(body)
    except ValueError as error:
        raise Unintelligible(f"not JSON: {error}") from error
    if not isinstance(envelope, dict) or envelope.get("v") != VERSION:
        raise Unintelligible("unknown envelope version")
    if not {"method", "ctx", "budget", "args"} <= envelope.keys():
        raise Unintelligible("incomplete envelope")
    if not isinstance(envelope["method"], str) or not isinstance(envelope["args"], dict):
        raise Unintelligible("method or arguments of the wrong type")
    return envelope


def _read(envelope: dict[str, Any], shape: _Shape, clock: Clock) -> tuple[Context, dict[str, Any]]:
    """The context and the arguments that an envelope brings. Raises Unintelligible."""
    try:
        deadline = Deadline.after(float(envelope["budget"]), clock)
        ctx = replace(wire.from_plain(Context, envelope["ctx"]), deadline=deadline)
        given = envelope["args"]
        arguments = {
            name: wire.from_plain(kind, given[name]) for name, kind in shape.parameters.items() if name in given
        }
    except (ValueError, TypeError) as error:
        raise Unintelligible(f"{shape.name}: {error}") from error
    missing = shape.required - arguments.keys()
    if missing:
        raise Unintelligible(f"{shape.name}: without {', '.join(sorted(missing))}")
    return ctx, arguments


def _failure(error: errors.PolycellError) -> bytes:
    fields = {name: value if _is_plain(value) else str(value) for name, value in error.fields.items()}
    return wire.dumps({"error": {"kind": type(error).__name__, "fields": fields}}).encode()


def _is_plain(value: object) -> bool:
    return value is None or isinstance(value, (str, int, float, bool))


@cache
def _shapes(endpoint: Any) -> dict[str, _Shape]:
    """The methods of the contract that a class declares or serves, by name."""
    contract = next(base for base in endpoint.__mro__ if issubclass(base, Contract) and "topic" in base.__dict__)
    shapes = {}
    for name, method in inspect.getmembers(contract, inspect.isfunction):
        if not hasattr(method, "__rpc__"):
            continue
        seconds, idempotent = method.__rpc__
        hints = typing.get_type_hints(method)
        returns = hints.pop("return")
        hints.pop("ctx")
        required = frozenset(
            parameter.name
            for parameter in inspect.signature(method).parameters.values()
            if parameter.name in hints and parameter.default is parameter.empty
        )
        shapes[name] = _Shape(name, seconds, idempotent, hints, required, returns)
    return shapes


@cache
def _client_class(contract: Any) -> Any:
    def initialise(self: Any, transport: Transport, topic: str) -> None:
        self._transport, self._topic = transport, topic

    methods = {name: _method(getattr(contract, name), shape) for name, shape in _shapes(contract).items()}
    return type(f"{contract.__name__}Client", (contract,), {"__init__": initialise, **methods})


def _method(declared: Callable[..., Any], shape: _Shape) -> Callable[..., Any]:
    signature = inspect.signature(declared)

    def send(self: Any, ctx: Context, *args: Any, **kwargs: Any) -> Any:
        bound = signature.bind(self, ctx, *args, **kwargs).arguments
        given = {name: wire.to_plain(bound[name]) for name in shape.parameters if name in bound}
        deadline = ctx.deadline.sooner(shape.seconds if shape.seconds is not None else CAST_SECONDS)
        body = {"v": VERSION, "method": shape.name, "ctx": _context(ctx), "args": given}
        if shape.seconds is None:
            message = {**body, "budget": 60.0}
            self._transport.cast(self._topic, json.dumps(message).encode(), timeout=deadline.check(self._topic))
            return None
        return _ask(self._transport, self._topic, body, shape, deadline)

    send.__doc__ = declared.__doc__
    send.__name__ = shape.name
    return send


def _ask(transport: Transport, topic: str, body: dict[str, Any], shape: _Shape, deadline: Deadline) -> Any:
    attempt = 0
    while True:
        left = deadline.check(topic)
        try:
            answer = transport.call(topic, json.dumps({**body, "budget": left}).encode(), timeout=left)
        except errors.QueueUnavailable:
            attempt += 1
            pause = _PAUSES.pause(attempt)
            if not shape.idempotent or deadline.remaining() < pause:
                raise
            _pause(deadline, pause)
            continue
        return _answered(answer, shape)


def _answered(answer: bytes, shape: _Shape) -> Any:
    """The peer's result. Raises the peer's error, or RemoteError for an answer that can't be read."""
    try:
        plain = json.loads(answer)
        if "error" not in plain:
            return wire.from_plain(shape.returns, plain["result"])
        error = errors.by_name(plain["error"]["kind"], plain["error"]["fields"])
    except (ValueError, TypeError, KeyError) as problem:
        raise errors.RemoteError(kind="Unintelligible", reason=f"the answer to {shape.name}: {problem}") from problem
    raise error


def _pause(deadline: Deadline, seconds: float) -> None:
    deadline.clock.wait(threading.Event(), min(seconds, deadline.remaining()))


def _context(ctx: Context) -> dict[str, Any]:
    return {name: wire.to_plain(getattr(ctx, name)) for name in _CONTEXT_FIELDS}


_CONTEXT_FIELDS = tuple(name for name in Context.__dataclass_fields__ if name != "deadline")
