"""The in-process transport: a Bus holds the queues, any number of connections share it.

It keeps the promises of the real one: a cast to a topic nobody ever served is refused, a message whose handler
fails comes again and is parked after MAX_DELIVERIES, stale calls are dropped. Nothing survives the process.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import defaultdict
from dataclasses import dataclass, field

from cell_service.errors import DeadlineExceeded, NobodyThere, QueueUnavailable
from cell_service.rpc.transport import MAX_DELIVERIES, Delivery, Handler

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Message:
    body: bytes
    attempt: int = 1
    stale_at: float | None = None
    reply: queue.SimpleQueue[bytes] | None = None


@dataclass(slots=True)
class Bus:
    """The queues of one (imaginary) server, by topic; `parked` holds what no handler could take."""

    queues: dict[str, queue.SimpleQueue[_Message]] = field(default_factory=dict)
    parked: dict[str, list[bytes]] = field(default_factory=lambda: defaultdict(list))
    lock: threading.Lock = field(default_factory=threading.Lock)
    silent: threading.Event = field(default_factory=threading.Event)
    """Set: the server neither takes nor gives messages, as a frozen one would."""

    def queue_of(self, topic: str, *, create: bool = False) -> queue.SimpleQueue[_Message]:
        with self.lock:
            if create and topic not in self.queues:
                self.queues[topic] = queue.SimpleQueue()
            found = self.queues.get(topic)
        if found is None:
            raise NobodyThere(topic=topic)
        return found


class MemoryTransport:
    """A connection to a Bus."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._subscriptions: list[MemorySubscription] = []

    def cast(self, topic: str, body: bytes, *, timeout: float) -> None:
        self._await_server(timeout)
        self._bus.queue_of(topic).put(_Message(body))

    def call(self, topic: str, body: bytes, *, timeout: float) -> bytes:
        self._await_server(timeout)
        message = _Message(body, stale_at=time.monotonic() + timeout, reply=queue.SimpleQueue())
        self._bus.queue_of(topic).put(message)
        assert message.reply is not None
        try:
            return message.reply.get(timeout=timeout)
        except queue.Empty:
            raise DeadlineExceeded(peer=topic) from None

    def serve(self, topic: str, handler: Handler, *, threads: int = 4) -> MemorySubscription:
        subscription = MemorySubscription(self._bus, topic, handler, threads)
        self._subscriptions.append(subscription)
        return subscription

    def ping(self, *, timeout: float) -> None:
        self._await_server(timeout)

    def close(self) -> None:
        for subscription in self._subscriptions:
            subscription.stop()

    def _await_server(self, timeout: float) -> None:
        if self._bus.silent.is_set():
            time.sleep(min(timeout, 0.05))
            raise QueueUnavailable(reason="the in-process queue is silent")


class MemorySubscription:
    """Threads that feed one handler from one topic's queue."""

    def __init__(self, bus: Bus, topic: str, handler: Handler, threads: int) -> None:
        self._bus, self._topic, self._handler = bus, topic, handler
        self._queue = bus.queue_of(topic, create=True)
        self._stopping = threading.Event()
        self._threads = [
            threading.Thread(target=self._consume, name=f"serve-{topic}-{number}", daemon=True)
            for number in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def stop(self, grace_seconds: float = 5.0) -> None:
        self._stopping.set()
        until = time.monotonic() + grace_seconds
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join(max(0.0, until - time.monotonic()))

    def _consume(self) -> None:
        while not self._stopping.is_set():
            try:
                message = self._queue.get(timeout=0.5)
            except queue.Empty:
                continue
            if self._stopping.is_set() or self._bus.silent.is_set():
                self._queue.put(message)
                time.sleep(0.05)
                continue
            self._handle(message)

    def _handle(self, message: _Message) -> None:
        if message.stale_at is not None and time.monotonic() > message.stale_at:
            return
        delivery = Delivery(self._topic, message.body, message.attempt, message.reply is not None)
        try:
            reply = self._handler(delivery)
        except Exception:  # noqa: BLE001  the edge of a message
            self._failed(message)
            return
        if message.reply is not None:
            message.reply.put(reply or b"")

    def _failed(self, message: _Message) -> None:
        if message.attempt >= MAX_DELIVERIES:
            log.exception("message parked topic=%s attempts=%d", self._topic, message.attempt)
            self._bus.parked[self._topic].append(message.body)
            return
        log.warning("message failed, trying again topic=%s attempt=%d", self._topic, message.attempt, exc_info=True)
        message.attempt += 1
        self._queue.put(message)
