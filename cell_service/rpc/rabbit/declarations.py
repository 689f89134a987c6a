"""Queues to be declared at RabbitMQ, on a channel of their own: the server closes the channel with each refusal.

All of it runs on the connection's thread.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Declared = Callable[[Exception | None], None]


@dataclass(frozen=True, slots=True)
class _Declaration:
    queue: str
    arguments: dict[str, Any]
    done: Declared


class Declarations:
    """The queues to be declared, in the order in which the server answers."""

    def __init__(self) -> None:
        self._channel: Any = None
        self._waiting: deque[_Declaration] = deque()

    def declare(self, queue: str, arguments: dict[str, Any], done: Declared) -> None:
        """Make the durable queue if there is none; `done` gets the server's refusal, or None."""
        declaration = _Declaration(queue, arguments, done)
        self._waiting.append(declaration)
        if self._channel is not None:
            self._send(declaration)

    def opened(self, channel: Any) -> None:
        channel.add_on_close_callback(self._closed)
        self._channel = channel
        for declaration in list(self._waiting):
            self._send(declaration)

    def lost(self) -> None:
        """Forget the declarations that were sent on the connection, which is lost."""
        self._channel = None
        self._waiting.clear()

    def _send(self, declaration: _Declaration) -> None:
        self._channel.queue_declare(
            declaration.queue, durable=True, arguments=declaration.arguments, callback=self._declared
        )

    def _declared(self, frame: Any) -> None:
        self._waiting.popleft().done(None)

    def _closed(self, channel: Any, error: Exception) -> None:
        """Settle the declaration that the server has refused, the first of those waiting; declare the others on a new
        channel."""
        if channel is self._channel and channel.connection.is_open:
            self._channel = None
            refused = self._waiting.popleft() if self._waiting else None
            channel.connection.channel(on_open_callback=self.opened)
            if refused is not None:
                refused.done(error)
