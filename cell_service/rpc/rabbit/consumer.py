"""One topic served from RabbitMQ: declaring, consuming, settling, trying again, parking.

A message leaves its queue only when its outcome is known to be safe: its copy for the next try, or the copy in the
queue of parked ones. The number of tries travels in its headers.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from cell_service.errors import NoConsumer, PolycellError
from cell_service.logs import about
from cell_service.rpc.answers import PendingAnswer
from cell_service.rpc.rabbit.connection import RabbitConnection
from cell_service.rpc.rabbit.failures import text_of
from cell_service.rpc.rabbit.publisher import Message
from cell_service.rpc.transport import MAX_PARKED, MAX_RETURNS, MAX_WAITING, Delivery, Handler
from cell_service.rpc.workers import CallFailed, GivenBack, Outcome, PendingDelivery, Replied, Serving, Workers

log = logging.getLogger(__name__)

QUEUE = {"x-max-length": MAX_WAITING, "x-overflow": "reject-publish"}
PARKED = {"x-max-length": MAX_PARKED}
ATTEMPT, RETURNS = "polycell-attempt", "polycell-returns"
AGAIN_SECONDS = 1.0
REFUSED_SECONDS = 5.0
CANCEL_SECONDS = 1.0
PRECONDITION_FAILED = 406


@dataclass(frozen=True, slots=True)
class _Message:
    """A delivery as the server knows it: by channel and tag."""

    channel: Any
    tag: int
    body: bytes
    attempt: int
    returns: int
    reply_to: str | None
    correlation_id: str | None
    stale_at: float | None


class RabbitSubscription:
    """One topic's subscription. Everything but `start` and `stop` runs on the connection's thread."""

    __slots__ = (
        "_answer",
        "_channel",
        "_connection",
        "_ended",
        "_gone",
        "_places",
        "_serving",
        "_stopped",
        "_tag",
        "_topic",
    )

    def __init__(
        self,
        connection: RabbitConnection,
        workers: Workers,
        topic: str,
        handler: Handler,
        threads: int,
        ended: Callable[[RabbitSubscription], None],
    ) -> None:
        self._connection, self._topic, self._places, self._ended = connection, topic, threads, ended
        self._serving = Serving(workers, handler, threads)
        self._answer: PendingAnswer | None = None
        self._channel: Any = None
        self._tag = ""
        self._stopped = False
        self._gone = threading.Event()
        """Set once the server has been notified, or need not be."""

    def start(self, answer: PendingAnswer) -> None:
        """Serve; `answer` is set when the queue is declared, or when it can't be for now."""
        self._answer = answer
        self._connection.do(self._connection.add, self)

    def stop(self, grace_seconds: float = 5.0) -> None:
        until = time.monotonic() + grace_seconds
        self._connection.do(self._cancel)
        self._serving.close()
        self._gone.wait(min(grace_seconds, CANCEL_SECONDS))
        self._serving.wait(max(0.0, until - time.monotonic()))
        self._ended(self)

    # -- what the connection reports ------------------------------------------------------------

    def connected(self, connection: RabbitConnection) -> None:
        connection.declare(self._topic, QUEUE, partial(self._declared, connection.consuming))

    def failed(self, error: PolycellError) -> None:
        self._report(error)

    def cancelled(self) -> None:
        log.warning("the queue was deleted, making it again", extra=about(None, topic=self._topic))
        self._connection.later(random.uniform(0.1, AGAIN_SECONDS), partial(self._connect_again, self._channel))

    # -- consuming ------------------------------------------------------------------------------

    def _connect_again(self, channel: Any) -> None:
        if channel is self._connection.consuming and not self._stopped:
            self.connected(self._connection)

    def _declared(self, channel: Any, refusal: Exception | None) -> None:
        if self._stopped or channel is not self._connection.consuming:
            return
        if refusal is not None:
            log.warning("queue refused", extra=about(None, topic=self._topic, reason=text_of(refusal)))
            if getattr(refusal, "reply_code", 0) != PRECONDITION_FAILED:  # that is: it is there, made otherwise
                self._connection.later(REFUSED_SECONDS, partial(self._connect_again, channel))
                return
        self._channel = channel
        self._tag = self._connection.consume(self._topic, self, self._delivered, self._places)
        self._report(b"")

    def _report(self, result: bytes | PolycellError) -> None:
        answer, self._answer = self._answer, None
        if answer is not None:
            answer.give(result)

    def _cancel(self) -> None:
        if not self._stopped:
            self._stopped = True
            self._connection.remove(self)
            if self._channel is not None and self._channel is self._connection.consuming:
                self._connection.cancel(self._tag, self._gone.set)
            else:
                self._gone.set()

    def _delivered(self, channel: Any, method: Any, properties: Any, body: bytes) -> None:
        headers = properties.headers or {}
        stale_at = time.monotonic() + int(properties.expiration) / 1000 if properties.expiration else None
        message = _Message(
            channel, method.delivery_tag, body, _count(headers.get(ATTEMPT), 1), _count(headers.get(RETURNS), 0),
            properties.reply_to, properties.correlation_id, stale_at,
        )  # fmt: skip
        if self._stopped:
            channel.basic_nack(message.tag, requeue=True)
        elif method.redelivered:  # a consumer had it and went away: the copy's headers count that
            if message.returns >= MAX_RETURNS:
                self._park(message)
            else:
                self._copy(message, self._topic, message.attempt, message.returns + 1)
        else:
            delivery = Delivery(self._topic, body, message.attempt, message.reply_to is not None)
            self._serving.take(PendingDelivery(delivery, partial(self._connection.do, self._settle, message), stale_at))

    # -- settling -------------------------------------------------------------------------------

    def _settle(self, message: _Message, outcome: Outcome) -> None:
        if not message.channel.is_open:
            return  # the server delivers it again
        match outcome:
            case CallFailed(hopeless=True):
                self._park(message)
            case CallFailed():
                self._copy(message, self._topic, message.attempt + 1, message.returns)
            case GivenBack():
                message.channel.basic_nack(message.tag, requeue=True)
            case _:
                if isinstance(outcome, Replied) and message.reply_to is not None:
                    self._connection.reply(message.channel, message.reply_to, message.correlation_id, outcome.body)
                message.channel.basic_ack(message.tag)

    def _park(self, message: _Message) -> None:
        log.error("message parked", extra=about(None, topic=self._topic, attempts=message.attempt))
        self._connection.declare(f"{self._topic}.parked", PARKED, lambda refusal: self._parking(message))

    def _parking(self, message: _Message) -> None:
        self._copy(message, f"{self._topic}.parked", message.attempt, message.returns)

    def _copy(self, message: _Message, queue: str, attempt: int, returns: int) -> None:
        """Put a copy of the message into a queue, and acknowledge the old one when the server has the copy."""
        parked = queue != self._topic
        self._connection.publish(
            Message(
                queue,
                message.body,
                partial(self._copied, message),
                stale_at=None if parked else message.stale_at,
                reply_to=None if parked else message.reply_to,
                correlation_id=None if parked else message.correlation_id,
                headers={ATTEMPT: attempt, RETURNS: returns},
            )
        )

    def _copied(self, message: _Message, result: bytes | PolycellError) -> None:
        if not message.channel.is_open:
            return
        if isinstance(result, (bytes, NoConsumer)):  # without a queue the old one is gone too
            message.channel.basic_ack(message.tag)
        else:
            self._connection.later(AGAIN_SECONDS, lambda: self._back(message))

    def _back(self, message: _Message) -> None:
        if message.channel.is_open:
            message.channel.basic_nack(message.tag, requeue=True)


def _count(header: object, otherwise: int) -> int:
    """The header's number; `otherwise` for anything else, since any client may have set it."""
    return header if type(header) is int else otherwise
