"""The transport between processes of one machine, through a `local.broker.LocalBroker` on a Unix socket.

It keeps the promises of the others, but a cast lives only as long as the broker: what was accepted is in the
databases, and a worker that gets no message polls there. A lost connection is made again, with its subscriptions.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from cell_service import errors
from cell_service.errors import QueueUnavailable
from cell_service.rpc.answers import PendingAnswer, PendingAnswers
from cell_service.rpc.local.frames import Head, frame, read
from cell_service.rpc.transport import Delivery, Handler
from cell_service.rpc.workers import (
    CallFailed,
    Dropped,
    GivenBack,
    Outcome,
    PendingDelivery,
    Replied,
    Serving,
    Workers,
    stop_all,
)

SHORTEST_PAUSE, LONGEST_PAUSE = 0.05, 2.0
OUTCOMES = {Replied: "Replied", CallFailed: "Failed", Dropped: "Dropped", GivenBack: "GivenBack"}
"""The name of each outcome on the socket."""
SERVE_SECONDS = 2.0
STOP_SECONDS = 1.0


class LocalTransport:
    """A Transport. Connects at the first use; then one thread for the connection, and workers on demand."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._waiting, self._workers = PendingAnswers(), Workers("local")
        self._numbers = itertools.count(1)
        self._subscriptions: dict[int, LocalSubscription] = {}
        self._lock = threading.Lock()
        self._closed = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        # what follows is touched by the connection's thread only
        self._wanted = asyncio.Event()
        self._writer: asyncio.StreamWriter | None = None
        self._unsent: list[bytes] = []
        self._answers: dict[int, PendingAnswer] = {}
        self._living: asyncio.Task[None]
        self._resting = ""

    def cast(self, topic: str, body: bytes, *, timeout: float) -> None:
        self._ask({"do": "cast", "topic": topic}, body, timeout, topic)

    def call(self, topic: str, body: bytes, *, timeout: float) -> bytes:
        until = time.monotonic() + timeout  # one clock for all processes of a machine
        return self._ask({"do": "call", "topic": topic, "until": until}, body, timeout, topic)

    def serve(self, topic: str, handler: Handler, *, threads: int = 4) -> LocalSubscription:
        answer = self._waiting.enter()
        try:
            serving = Serving(self._workers, handler, threads)
            subscription = LocalSubscription(self, next(self._numbers), topic, serving, threads)
            self._do(self._serve, subscription, answer)
            answer.settled(SERVE_SECONDS)
        finally:
            self._waiting.leave(answer)
        return subscription

    def ping(self, *, timeout: float) -> None:
        self._ask({"do": "ping"}, b"", timeout, "the message queue")

    def close(self) -> None:
        if self._waiting.close():
            stop_all(list(self._subscriptions.values()))
            self._do(self._end)
            with self._lock:
                self._closed, thread = True, self._thread
            if thread is not None:
                thread.join(2.0)

    def _ask(self, head: Head, body: bytes, timeout: float, peer: str) -> bytes:
        answer, number = self._waiting.enter(), next(self._numbers)
        try:
            self._do(self._send, number, frame({**head, "number": number}, body), answer)
            return answer.wait(timeout, peer)
        except errors.DeadlineExceeded:
            self._do(self._answers.pop, number, None)
            raise
        finally:
            self._waiting.leave(answer)

    def _do(self, act: Callable[..., Any], *args: object) -> None:
        """Run `act` on the connection's thread, soon. Nothing happens after `close`."""
        with self._lock:
            if self._closed:
                return
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._living = self._loop.create_task(self._live())
                self._thread = threading.Thread(target=self._run, args=(self._loop,), name="local", daemon=True)
                self._thread.start()
            self._loop.call_soon_threadsafe(act, *args)

    # -- the connection's thread ----------------------------------------------------------------

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            with contextlib.suppress(asyncio.CancelledError):
                loop.run_until_complete(self._living)
        finally:
            loop.close()

    async def _live(self) -> None:
        pause = SHORTEST_PAUSE
        while True:
            while not self._unsent and not self._subscriptions:
                self._wanted.clear()
                await self._wanted.wait()
            try:
                reader, writer = await asyncio.open_unix_connection(self._path)
            except OSError as error:
                reason = error.strerror or type(error).__name__
            else:
                pause = SHORTEST_PAUSE
                reason = await self._connected(reader, writer)
            self._resting = f"the message broker of this machine does not run (local://{self._path}: {reason})"
            self._fail(self._resting)
            if self._subscriptions:
                pause = min(LONGEST_PAUSE, random.uniform(SHORTEST_PAUSE, pause * 3))
                await asyncio.sleep(pause)
            self._resting = ""

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> str:
        """Connect, and serve the connection until it ends. Returns why it ended."""
        self._writer = writer
        for subscription in self._subscriptions.values():
            writer.write(frame(subscription.request))
        for data in self._unsent:
            writer.write(data)
        self._unsent.clear()
        try:
            while True:
                self._heard(*await read(reader))
        except (OSError, EOFError, ValueError) as error:
            return type(error).__name__
        finally:
            self._writer = None
            writer.close()

    def _heard(self, head: Head, body: bytes) -> None:
        if "delivery" in head:
            self._delivered(head, body)
            return
        answer = self._answers.pop(head["number"], None)
        if answer is not None:
            failed = "error" in head
            answer.give(errors.by_name(head["error"], head["fields"]) if failed else body)

    def _delivered(self, head: Head, body: bytes) -> None:
        subscription = self._subscriptions.get(head["to"])
        settle = partial(self._do, self._settle, self._writer, head["delivery"])
        if subscription is None:
            settle(GivenBack())
            return
        delivery = Delivery(subscription.topic, body, head["attempt"], head["wants_reply"])
        subscription.serving.take(PendingDelivery(delivery, settle, head["until"]))

    def _settle(self, writer: asyncio.StreamWriter | None, delivery: int, outcome: Outcome) -> None:
        if writer is None or writer is not self._writer:
            return  # the broker delivers it again
        head: Head = {"do": "settle", "delivery": delivery, "outcome": OUTCOMES[type(outcome)]}
        if isinstance(outcome, CallFailed):
            head["hopeless"] = outcome.hopeless
        writer.write(frame(head, outcome.body if isinstance(outcome, Replied) else b""))

    def _serve(self, subscription: LocalSubscription, answer: PendingAnswer) -> None:
        self._subscriptions[subscription.number] = subscription
        self._answers[subscription.number] = answer
        if self._resting:
            self._fail(self._resting)
        elif self._writer is not None:
            self._writer.write(frame(subscription.request))
        self._wanted.set()

    def _cancel(self, subscription: LocalSubscription, answer: PendingAnswer) -> None:
        known = self._subscriptions.pop(subscription.number, None)
        if known is None or self._writer is None:
            answer.give(b"")
        else:
            self._answers[subscription.number] = answer
            self._writer.write(frame({"do": "cancel", "number": subscription.number}))

    def _send(self, number: int, data: bytes, answer: PendingAnswer) -> None:
        self._answers[number] = answer
        if self._resting:
            self._fail(self._resting)
        elif self._writer is not None:
            self._writer.write(data)
        else:
            self._unsent.append(data)
            self._wanted.set()

    def _fail(self, reason: str) -> None:
        answers, self._answers = self._answers, {}
        self._unsent.clear()
        for answer in answers.values():
            answer.give(QueueUnavailable(reason=reason))

    def _end(self) -> None:
        self._living.cancel()


class LocalSubscription:
    """One handler that takes messages of one topic."""

    __slots__ = ("_gone", "_transport", "number", "request", "serving", "topic")

    def __init__(self, transport: LocalTransport, number: int, topic: str, serving: Serving, places: int) -> None:
        self._transport, self.number, self.topic, self.serving = transport, number, topic, serving
        self._gone: PendingAnswer | None = None
        self.request: Head = {"do": "serve", "number": number, "topic": topic, "places": places}

    def stop(self, grace_seconds: float = 5.0) -> None:
        until = time.monotonic() + grace_seconds
        if self._gone is None:
            self._gone = PendingAnswer()
            self._transport._do(self._transport._cancel, self, self._gone)
        self.serving.close()
        self._gone.settled(min(grace_seconds, STOP_SECONDS))
        self.serving.wait(max(0.0, until - time.monotonic()))
