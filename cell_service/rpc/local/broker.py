"""The queue server of one machine: a Bus behind a Unix socket. Its messages are lost when it ends."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import socket
import threading
from functools import partial
from pathlib import Path

from cell_service.errors import Conflict, PolycellError
from cell_service.logs import about
from cell_service.rpc.local.frames import Head, frame, read
from cell_service.rpc.memory import Bus, Consumer, Message
from cell_service.rpc.workers import CallFailed, Dropped, GivenBack, Outcome, Replied

log = logging.getLogger(__name__)


class LocalBroker:
    """`start` and `stop` run it on a thread of its own, `serve_forever` on the caller's."""

    def __init__(self, path: str) -> None:
        self.bus = Bus()
        self._path = path
        self._loop = asyncio.new_event_loop()
        self._ending = asyncio.Event()
        self._thread: threading.Thread | None = None
        self._clients: set[asyncio.Task[None]] = set()

    def serve_forever(self) -> None:
        """Serve until `stop` is called from elsewhere. Raises Conflict when another broker has the socket, OSError."""
        self._serve(self._listen())

    def start(self) -> None:
        """Start serving; it serves when this returns. Raises as `serve_forever`."""
        listening = self._listen()
        self._thread = threading.Thread(target=self._serve, args=(listening,), name="local-broker", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Drop all connections and messages. Safe to call twice."""
        with contextlib.suppress(RuntimeError):  # it has ended
            self._loop.call_soon_threadsafe(self._ending.set)
        if self._thread is not None:
            self._thread.join(5.0)

    def _listen(self) -> socket.socket:
        with socket.socket(socket.AF_UNIX) as asking:
            with contextlib.suppress(OSError):
                asking.connect(self._path)
                raise Conflict(reason=f"another queue broker serves {self._path}")
        Path(self._path).unlink(missing_ok=True)
        listening = socket.socket(socket.AF_UNIX)
        try:
            listening.bind(self._path)
            os.chmod(self._path, 0o600)
            listening.listen(512)
        except OSError:
            listening.close()
            raise
        return listening

    def _serve(self, listening: socket.socket) -> None:
        try:
            self._loop.run_until_complete(self._run(listening))
        finally:
            self._loop.close()

    async def _run(self, listening: socket.socket) -> None:
        server = await asyncio.start_unix_server(self._client, sock=listening)
        await self._ending.wait()
        server.close()
        Path(self._path).unlink(missing_ok=True)
        for client in list(self._clients):
            client.cancel()
        await asyncio.gather(*self._clients, return_exceptions=True)

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._clients.add(task)
        client = _Client(self.bus, writer)
        try:
            while True:
                client.heard(*await read(reader))
        except (OSError, EOFError, asyncio.CancelledError):
            pass
        except (ValueError, KeyError, TypeError):
            log.exception("a client of the queue sent an invalid frame, disconnected")
        finally:
            self._clients.discard(task)
            client.gone()


class _Client:
    """One connection: its subscriptions, and the messages it was given and has not settled."""

    def __init__(self, bus: Bus, writer: asyncio.StreamWriter) -> None:
        self._bus, self._writer = bus, writer
        self._consumers: dict[int, Consumer] = {}
        self._given: dict[int, tuple[Consumer, Message]] = {}
        self._numbers = itertools.count(1)

    def heard(self, head: Head, body: bytes) -> None:
        if head["do"] == "settle":
            consumer, message = self._given.pop(head["delivery"])
            self._bus.settle(consumer, message, _outcome(head, body))
            return
        number: int = head["number"]
        try:
            match head["do"]:
                case "cast":
                    self._bus.put(head["topic"], Message(body))
                case "call":
                    reply = partial(self._answer, number)
                    self._bus.put(head["topic"], Message(body, head["until"], reply))
                    return
                case "serve":
                    self._consumers[number] = self._bus.consume(
                        head["topic"], partial(self._deliver, number), head["places"]
                    )
                case "cancel":
                    self._bus.cancel(self._consumers.pop(number))
        except PolycellError as error:
            fields = {name: str(value) for name, value in error.fields.items()}
            self._write({"number": number, "error": type(error).__name__, "fields": fields})
            return
        self._answer(number, b"")

    def gone(self) -> None:
        """Deliver the messages it has not settled to other clients."""
        self._writer.close()
        for consumer in self._consumers.values():
            self._bus.cancel(consumer)
        if self._given:
            log.info("a client left messages behind", extra=about(None, messages=len(self._given)))
        for consumer, message in reversed(self._given.values()):
            self._bus.settle(consumer, message, GivenBack())

    def _deliver(self, number: int, consumer: Consumer, message: Message) -> None:
        delivery = next(self._numbers)
        self._given[delivery] = consumer, message
        head = {
            "delivery": delivery,
            "to": number,
            "attempt": message.attempt,
            "wants_reply": message.reply is not None,
            "until": message.stale_at,
        }
        self._write(head, message.body)

    def _answer(self, number: int, body: bytes) -> None:
        self._write({"number": number}, body)

    def _write(self, head: Head, body: bytes = b"") -> None:
        if not self._writer.is_closing():
            self._writer.write(frame(head, body))


def _outcome(head: Head, body: bytes) -> Outcome:
    match head["outcome"]:
        case "Replied":
            return Replied(body)
        case "Failed":
            return CallFailed(hopeless=bool(head["hopeless"]))
        case "Dropped":
            return Dropped()
        case _:
            return GivenBack()
