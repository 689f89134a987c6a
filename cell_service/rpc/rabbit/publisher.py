"""Messages on their way to RabbitMQ: not sent yet, not confirmed yet, not answered yet.

All of it runs on the connection's thread.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any

import pika

from cell_service.errors import NoConsumer, PolycellError, QueueUnavailable

REPLY_TO = "amq.rabbitmq.reply-to"

Give = Callable[[bytes | PolycellError], None]


@dataclass(slots=True, eq=False)
class Message:
    """A message on its way. `give` gets b"" when the server has it (the answer, for a call), or an error."""

    topic: str
    body: bytes
    give: Give
    stale_at: float | None = None
    """Set for a call: the moment (monotonic) after which the caller waits no more."""
    headers: dict[str, Any] = field(default_factory=dict)
    reply_to: str | None = None
    correlation_id: str | None = None
    settled: bool = False
    tag: int = 0

    def settle(self, result: bytes | PolycellError) -> None:
        if not self.settled:
            self.settled = True
            self.give(result)


class Posts:
    """The messages that are not settled yet; each is settled once, whatever becomes of the connection."""

    def __init__(self) -> None:
        self._channel: Any = None
        self._tag = 0
        self._unsent: list[Message] = []
        self._unconfirmed: dict[int, Message] = {}
        self._calls: dict[str, Message] = {}
        self._pings: deque[Give] = deque()

    def prepare(self, channel: Any, ready: Callable[[], None]) -> None:
        """Subscribe to confirmations, returns and answers on a new channel."""
        channel.add_on_return_callback(self._returned)
        channel.confirm_delivery(self._confirmed, callback=lambda frame: None)
        channel.basic_consume(REPLY_TO, self._replied, auto_ack=True, callback=lambda frame: ready())

    def opened(self, channel: Any) -> None:
        """Send what has waited for a connection."""
        self._channel, self._tag = channel, 0
        unsent, self._unsent = self._unsent, []
        for message in unsent:
            self.send(message)
        pings, self._pings = self._pings, deque()
        for give in pings:
            self.ping(give)

    def send(self, message: Message) -> None:
        """Publish the message, as soon as there is a connection."""
        if self._channel is None:
            self._unsent.append(message)
        elif not message.settled:
            self._publish(self._channel, message)

    def ping(self, give: Give) -> None:
        """`give` gets b"" when the server has answered."""
        self._pings.append(give)
        if self._channel is not None:
            self._channel.basic_qos(callback=self._ponged)

    def forget(self, message: Message) -> None:
        """Drop the message: its caller waits no more."""
        message.settled = True
        self._calls.pop(str(message.tag), None)
        if message in self._unsent:
            self._unsent.remove(message)

    def lost(self, error: PolycellError) -> None:
        """Settle all messages with the error: there is no connection, and none is being opened."""
        self._channel = None
        messages = [*self._unsent, *self._calls.values()]
        self._unsent.clear()
        self._calls.clear()
        self.delayed(error)
        for message in messages:
            message.settle(error)

    def delayed(self, error: PolycellError) -> None:
        """Settle the messages that the server, which reads nothing more, has not confirmed; calls that it has may still
        be answered."""
        unconfirmed, self._unconfirmed = self._unconfirmed, {}
        pings, self._pings = self._pings, deque()
        for message in unconfirmed.values():
            self._calls.pop(str(message.tag), None)
            message.settle(error)
        for give in pings:
            give(error)

    def _publish(self, channel: Any, message: Message) -> None:
        self._tag += 1
        message.tag, key = self._tag, str(self._tag)
        expects = message.stale_at is not None and message.reply_to is None
        left = None if message.stale_at is None else max(1, int((message.stale_at - time.monotonic()) * 1000))
        properties = pika.BasicProperties(
            content_type="application/json",
            delivery_mode=2 if left is None else 1,
            expiration=None if left is None else str(left),
            reply_to=REPLY_TO if expects else message.reply_to,
            correlation_id=key if expects else message.correlation_id,
            message_id=key,
            headers=message.headers or None,
        )
        self._unconfirmed[self._tag] = message
        if expects:
            self._calls[key] = message
        channel.basic_publish("", message.topic, message.body, properties, mandatory=True)

    def _ponged(self, frame: object) -> None:
        if self._pings:
            self._pings.popleft()(b"")

    def _confirmed(self, frame: Any) -> None:
        method = frame.method
        tags = [method.delivery_tag]
        if method.multiple:
            tags = list(takewhile(lambda tag: tag <= method.delivery_tag, self._unconfirmed))
        for tag in tags:
            message = self._unconfirmed.pop(tag, None)
            if message is None:
                continue
            if isinstance(method, pika.spec.Basic.Nack):
                self._calls.pop(str(tag), None)
                message.settle(QueueUnavailable(reason=f"the queue of {message.topic} takes no more messages"))
            elif str(tag) not in self._calls:
                message.settle(b"")

    def _returned(self, channel: Any, method: Any, properties: Any, body: bytes) -> None:
        message = self._unconfirmed.pop(int(properties.message_id), None)
        self._calls.pop(properties.message_id, None)
        if message is not None:
            message.settle(NoConsumer(topic=message.topic))

    def _replied(self, channel: Any, method: Any, properties: Any, body: bytes) -> None:
        message = self._calls.pop(properties.correlation_id, None)
        if message is not None:
            message.settle(body)
