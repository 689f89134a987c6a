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
"""So often a message may come back unhandled because its consumer went away; it is parked after that. One that kills
every process that takes it must not go round for ever."""
MAX_WAITING = 100_000
"""Messages that one topic holds; more are refused."""
MAX_PARKED = 1_000
"""Of one topic; the oldest go."""


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
        """Put a message into the topic's queue, durably. Returned means: the server has it.

        Raises NobodyThere when the topic has no queue, QueueUnavailable, DeadlineExceeded.
        """

    def call(self, topic: str, body: bytes, *, timeout: float) -> bytes:
        """Ask and wait for the reply. Raises NobodyThere, QueueUnavailable, DeadlineExceeded.

        A call that has outlived `timeout` (seconds) when a consumer gets to it is dropped there.
        """

    def serve(self, topic: str, handler: Handler, *, threads: int = 4) -> Subscription:
        """Declare the topic's durable queue and hand its messages to `handler`, at most `threads` at once.

        Several subscriptions to one topic share its messages. Survives reconnection. Returns when the topic has its
        queue; when the server can't be reached now it returns all the same, and the queue is declared once it can.
        """

    def ping(self, *, timeout: float) -> None:
        """Raises QueueUnavailable or DeadlineExceeded unless the server answers."""

    def close(self) -> None:
        """Stop everything, for good: who waits in `cast` or `call`, and who comes later, gets QueueUnavailable.

        Handlers that run are waited for, for a few seconds. Safe to call twice, and from another thread.
        """
