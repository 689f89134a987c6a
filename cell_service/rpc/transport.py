"""The seam under all RPC: moving bytes to a topic, at most one queue for each topic.

Implementations: `memory` (in process), `local` (between processes of one machine), `rabbit` (RabbitMQ). All
pass `tests/suites/transport.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

Handler = Callable[["Delivery"], bytes | None]
"""Gets a delivery on a worker thread. Returns the reply to a call (None for a cast). A handler that raises
leaves the message unhandled: it is delivered again, and parked after `MAX_DELIVERIES` tries; at once when it
raises Unintelligible."""

MAX_DELIVERIES = 3
MAX_RETURNS = 10
"""How often a message may come back unhandled because its consumer went away; then it is parked. One that kills every
process that takes it must not be delivered for ever."""
MAX_WAITING = 100_000
"""How many messages one topic's queue may have; more are refused."""
MAX_PARKED = 1_000
"""How many parked messages of one topic are kept; the oldest are dropped."""


class Unintelligible(ValueError):
    """A message that no version of this contract could have sent."""


@dataclass(frozen=True, slots=True)
class Delivery:
    topic: str
    body: bytes
    attempt: int
    wants_reply: bool


class Subscription(Protocol):
    def stop(self, grace_seconds: float = 5.0) -> None:
        """Take no more messages, wait for running handlers at most that long. Safe to call twice.

        Messages that were not begun stay in the queue for others.
        """


class Transport(Protocol):
    """One connection to one queue server. Thread-safe; connects at first use and again after losing it."""

    def cast(self, topic: str, body: bytes, *, timeout: float) -> None:
        """Put a message into the topic's queue, durably. When it returns, the server has the message.

        Raises NoConsumer when the topic has no queue, QueueUnavailable, DeadlineExceeded.
        """

    def call(self, topic: str, body: bytes, *, timeout: float) -> bytes:
        """Send a request and wait for the reply. Raises NoConsumer, QueueUnavailable, DeadlineExceeded.

        A call that has outlived `timeout` (seconds) when a consumer gets to it is dropped there.
        """

    def serve(self, topic: str, handler: Handler, *, threads: int = 4) -> Subscription:
        """Declare the topic's durable queue and pass its messages to `handler`, at most `threads` at once.

        Several subscriptions to one topic share its messages. It survives reconnection. Returns when the topic has its
        queue; if the server can't be reached it returns as well, and declares the queue once it can.
        """

    def ping(self, *, timeout: float) -> None:
        """Raises QueueUnavailable or DeadlineExceeded unless the server answers."""

    def close(self) -> None:
        """Stop everything, for good: callers in `cast` or `call`, and later ones, get QueueUnavailable.

        Waits a few seconds for running handlers. Safe to call twice, and from another thread.
        """
