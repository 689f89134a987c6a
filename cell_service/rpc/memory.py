"""The in-process transport: a Bus holds the queues, any number of connections share it.

It keeps the promises of the real one: a cast to a topic that was never served is refused, a message whose handler
fails is delivered again and is parked after MAX_DELIVERIES, stale calls are dropped. Nothing survives the process.
Nothing runs while there is nothing to do: a subscription is an entry in a list until a message comes.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from cell_service.errors import DeadlineExceeded, NoConsumer, QueueUnavailable
from cell_service.logs import about
from cell_service.rpc.answers import PendingAnswers
from cell_service.rpc.transport import MAX_PARKED, MAX_RETURNS, MAX_WAITING, Delivery, Handler
from cell_service.rpc.workers import (
    CallFailed,
    GivenBack,
    Outcome,
    PendingDelivery,
    Replied,
    Serving,
    Workers,
    stop_all,
)

log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class Message:
    """`reply` takes the answer to a call; None for a cast."""

    body: bytes
    stale_at: float | None = None
    reply: Callable[[bytes], None] | None = None
    attempt: int = 1
    returns: int = 0


@dataclass(slots=True, eq=False)
class Consumer:
    """Takes up to `places` messages of a topic at a time; `deliver` must not block."""

    topic: _Topic
    deliver: Callable[[Consumer, Message], None]
    places: int
    cancelled: bool = False


class _Topic:
    __slots__ = ("consumers", "messages", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        self.messages: deque[Message] = deque()
        self.consumers: list[Consumer] = []


class _Unreachable(threading.Event):
    """While it is set the server can't be reached; clearing it notifies the Bus."""

    def __init__(self, ended: Callable[[], None]) -> None:
        super().__init__()
        self._ended = ended

    def clear(self) -> None:
        super().clear()
        self._ended()


class Bus:
    """The queues of one (imaginary) server, by topic; `parked` has the messages that no handler could take."""

    def __init__(self) -> None:
        self.parked: dict[str, deque[bytes]] = defaultdict(lambda: deque(maxlen=MAX_PARKED))
        self.unreachable = _Unreachable(self._pump_all)
        """While it is set the server neither accepts nor delivers messages, like a frozen one."""
        self.workers = Workers("bus")
        self._lock = threading.Lock()
        self._topics: dict[str, _Topic] = {}

    def connect(self) -> MemoryTransport:
        return MemoryTransport(self)

    def put(self, topic: str, message: Message) -> None:
        """Put a message into the topic's queue. Raises NoConsumer, and QueueUnavailable when the queue is full."""
        with self._lock:
            found = self._topics.get(topic)
            if found is None:
                raise NoConsumer(topic=topic)
            if len(found.messages) >= MAX_WAITING:
                raise QueueUnavailable(reason=f"the queue of {topic} is full")
            found.messages.append(message)
        self._pump(found)

    def forget(self, topic: str, message: Message) -> None:
        """Drop the call: its caller waits for the answer no more."""
        with self._lock, contextlib.suppress(KeyError, ValueError):
            self._topics[topic].messages.remove(message)

    def consume(self, topic: str, deliver: Callable[[Consumer, Message], None], places: int) -> Consumer:
        """Have the topic's messages delivered; it has a queue from now on. Each message must be settled."""
        with self._lock:
            found = self._topics.setdefault(topic, _Topic(topic))
            consumer = Consumer(found, deliver, places)
            found.consumers.append(consumer)
        self._pump(found)
        return consumer

    def cancel(self, consumer: Consumer) -> None:
        """Deliver nothing more to the consumer. Safe to call twice."""
        with self._lock:
            if not consumer.cancelled:
                consumer.cancelled = True
                consumer.topic.consumers.remove(consumer)

    def settle(self, consumer: Consumer, message: Message, outcome: Outcome) -> None:
        """Record the outcome of a delivered message, which is answered, delivered again, or parked."""
        topic = consumer.topic
        with self._lock:
            consumer.places += 1
            match outcome:
                case GivenBack():
                    message.returns += 1
                    if message.returns > MAX_RETURNS:
                        self._park(topic, message)
                    else:
                        topic.messages.appendleft(message)
                case CallFailed(hopeless=True):
                    self._park(topic, message)
                case CallFailed():
                    message.attempt += 1
                    topic.messages.append(message)
        if isinstance(outcome, Replied) and message.reply is not None:
            message.reply(outcome.body)
        self._pump(topic)

    def _park(self, topic: _Topic, message: Message) -> None:
        log.error("message parked", extra=about(None, topic=topic.name, attempts=message.attempt))
        self.parked[topic.name].append(message.body)

    def _pump(self, topic: _Topic) -> None:
        """Deliver what can be delivered, to its consumers in turn."""
        while (found := self._next(topic)) is not None:
            consumer, message = found
            consumer.deliver(consumer, message)

    def _next(self, topic: _Topic) -> tuple[Consumer, Message] | None:
        with self._lock:
            if not topic.messages or self.unreachable.is_set():
                return None
            consumer = next((each for each in topic.consumers if each.places > 0), None)
            if consumer is None:
                return None
            if len(topic.consumers) > 1:  # another consumer is next
                topic.consumers.remove(consumer)
                topic.consumers.append(consumer)
            while topic.messages:
                message = topic.messages.popleft()
                if message.stale_at is None or time.monotonic() <= message.stale_at:
                    consumer.places -= 1
                    return consumer, message
            return None

    def _pump_all(self) -> None:
        with self._lock:
            topics = list(self._topics.values())
        for topic in topics:
            self._pump(topic)


class MemoryTransport:
    """A connection to a Bus."""

    def __init__(self, bus: Bus) -> None:
        self._bus, self._waiting = bus, PendingAnswers()
        self._subscriptions: set[MemorySubscription] = set()

    def cast(self, topic: str, body: bytes, *, timeout: float) -> None:
        self.ping(timeout=timeout)
        self._bus.put(topic, Message(body))

    def call(self, topic: str, body: bytes, *, timeout: float) -> bytes:
        self.ping(timeout=timeout)
        answer = self._waiting.enter()
        message = Message(body, time.monotonic() + timeout, answer.give)
        try:
            self._bus.put(topic, message)
            return answer.wait(timeout, topic)
        except (DeadlineExceeded, QueueUnavailable):
            self._bus.forget(topic, message)
            raise
        finally:
            self._waiting.leave(answer)

    def serve(self, topic: str, handler: Handler, *, threads: int = 4) -> MemorySubscription:
        self._waiting.leave(self._waiting.enter())  # not on a closed one
        subscription = MemorySubscription(self._bus, topic, handler, threads, self._subscriptions.discard)
        self._subscriptions.add(subscription)
        return subscription

    def ping(self, *, timeout: float) -> None:
        answer = self._waiting.enter()
        try:
            if self._bus.unreachable.is_set():
                with contextlib.suppress(DeadlineExceeded):
                    answer.wait(min(timeout, 0.05), "the in-process queue")
                raise QueueUnavailable(reason="the in-process queue is silent")
        finally:
            self._waiting.leave(answer)

    def close(self) -> None:
        self._waiting.close()
        stop_all(list(self._subscriptions))


class MemorySubscription:
    """One handler that takes the messages of one topic."""

    __slots__ = ("_bus", "_consumer", "_ended", "_serving")

    def __init__(
        self, bus: Bus, topic: str, handler: Handler, threads: int, ended: Callable[[MemorySubscription], None]
    ) -> None:
        self._bus, self._ended = bus, ended
        self._serving = Serving(bus.workers, handler, threads)
        self._consumer = bus.consume(topic, self._deliver, threads)

    def stop(self, grace_seconds: float = 5.0) -> None:
        self._bus.cancel(self._consumer)
        self._serving.close()
        self._serving.wait(grace_seconds)
        self._ended(self)

    def _deliver(self, consumer: Consumer, message: Message) -> None:
        delivery = Delivery(consumer.topic.name, message.body, message.attempt, message.reply is not None)
        self._serving.take(PendingDelivery(delivery, partial(self._bus.settle, consumer, message), message.stale_at))
