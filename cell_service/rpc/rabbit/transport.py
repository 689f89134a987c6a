"""RabbitMQ as a transport: one connection, opened at the first use, and one durable queue for each topic.

Messages go through the default exchange, so a topic is the name of its queue. Casts are persistent and confirmed;
calls live as long as their caller waits, and are answered by direct reply-to. Messages that no handler could take end
in `<topic>.parked`.
"""

from __future__ import annotations

import threading
import time

from cell_service.rpc.answers import PendingAnswer, PendingAnswers
from cell_service.rpc.rabbit.connection import RabbitConnection
from cell_service.rpc.rabbit.consumer import RabbitSubscription
from cell_service.rpc.rabbit.publisher import Message
from cell_service.rpc.transport import Handler
from cell_service.rpc.urls import RabbitServer
from cell_service.rpc.workers import Workers, stop_all

SERVE_SECONDS = 2.0


class RabbitTransport:
    """A Transport. Nothing runs before the first use, then one thread for the connection, and workers on demand."""

    def __init__(self, server: RabbitServer) -> None:
        self._waiting, self._workers = PendingAnswers(), Workers("rabbit")
        self._connection = RabbitConnection(server)
        self._lock = threading.Lock()
        self._subscriptions: set[RabbitSubscription] = set()

    def cast(self, topic: str, body: bytes, *, timeout: float) -> None:
        answer = self._waiting.enter()
        self._publish(Message(topic, body, answer.give), answer, timeout)

    def call(self, topic: str, body: bytes, *, timeout: float) -> bytes:
        answer = self._waiting.enter()
        return self._publish(Message(topic, body, answer.give, stale_at=time.monotonic() + timeout), answer, timeout)

    def serve(self, topic: str, handler: Handler, *, threads: int = 4) -> RabbitSubscription:
        answer = self._waiting.enter()
        try:
            subscription = RabbitSubscription(self._connection, self._workers, topic, handler, threads, self._ended)
            with self._lock:
                self._subscriptions.add(subscription)
            subscription.start(answer)
            answer.settled(SERVE_SECONDS)
        finally:
            self._waiting.leave(answer)
        return subscription

    def ping(self, *, timeout: float) -> None:
        answer = self._waiting.enter()
        try:
            self._connection.do(self._connection.ping, answer.give)
            answer.wait(timeout, "the message queue")
        finally:
            self._waiting.leave(answer)

    def close(self) -> None:
        if self._waiting.close():
            with self._lock:
                subscriptions = list(self._subscriptions)
            stop_all(subscriptions)
            self._connection.close()

    def _publish(self, message: Message, answer: PendingAnswer, timeout: float) -> bytes:
        try:
            self._connection.do(self._connection.publish, message)
            return answer.wait(timeout, message.topic)
        finally:
            self._waiting.leave(answer)
            if not message.settled:
                self._connection.do(self._connection.forget, message)

    def _ended(self, subscription: RabbitSubscription) -> None:
        with self._lock:
            self._subscriptions.discard(subscription)
