"""The connection of one transport to RabbitMQ, on a thread of its own: opening, losing, opening again.

Everything here but `do` and `close` runs on that thread, so nothing needs a lock.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

import pika
from pika.adapters.select_connection import IOLoop, SelectConnection

from cell_service.errors import PolycellError, QueueUnavailable
from cell_service.logs import about, masked
from cell_service.rpc.answers import closed
from cell_service.rpc.rabbit.declarations import Declarations, Declared
from cell_service.rpc.rabbit.failures import reason_of, text_of
from cell_service.rpc.rabbit.publisher import Give, Message, Posts
from cell_service.rpc.rabbit.server import parameters, tls_options
from cell_service.rpc.urls import RabbitServer

log = logging.getLogger(__name__)

FIRST_PAUSE, LONGEST_PAUSE = 0.2, 1.5
STEADY_SECONDS = 5.0
CLOSE_SECONDS = 1.0


class Party(Protocol):
    """A subscription that is notified of every new connection, and for which a lost one is opened again."""

    def connected(self, connection: RabbitConnection) -> None: ...

    def failed(self, error: PolycellError) -> None:
        """Called when the connection is lost."""

    def cancelled(self) -> None:
        """Called when the server has deleted the queue."""


class RabbitConnection:
    def __init__(self, server: RabbitServer) -> None:
        self._server, self._tls = server, tls_options(server)
        self._addresses = deque(random.sample(server.addresses, len(server.addresses)))
        self._lock = threading.Lock()
        self._todo: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()
        self._woken = self._closed = False
        self._loop: Any = None
        self._thread: threading.Thread | None = None

        self._connection: Any = None
        self._publishing: Any = None
        self._control: Any = None
        self.consuming: Any = None
        """The channel of all consumers; None without a connection."""
        self._parties: dict[Party, None] = {}
        self._open = self._shutting = False
        self._blocked = self._failure = self._reason = self._why = ""
        self._opened_at = 0.0
        self._pause = 0.0
        self._retry: Any = None
        self._places = 0
        self._consumers: dict[str, Party] = {}
        self._declarations, self._posts = Declarations(), Posts()

    # -- from any thread ------------------------------------------------------------------------

    def do(self, act: Callable[..., None], *args: object) -> None:
        """Run `act` on the connection's thread, soon. Nothing happens after `close`."""
        with self._lock:
            if self._closed:
                return
            self._todo.append((act, args))
            if self._woken:
                return
            self._woken = True
            if self._thread is None:
                self._loop = IOLoop()
                self._thread = threading.Thread(target=self._run, name="rabbit", daemon=True)
                self._thread.start()
            self._loop.add_callback_threadsafe(self._work)

    def close(self) -> None:
        """Disconnect; with a server that does not answer, after CLOSE_SECONDS."""
        with self._lock:
            thread = self._thread
            self._closed = thread is None
        self.do(self._shut)
        with self._lock:
            self._closed = True
        if thread is not None:
            thread.join(2 * CLOSE_SECONDS)

    # -- the thread -----------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            try:
                self._loop.start()
                break
            except Exception:  # out of a callback of pika's
                if self._shutting:
                    break  # it refuses to be closed while it still connects; no caller waits any more
                log.exception("the queue's connection failed in an unexpected way")
                self._drop("an error of our own")
        with self._lock:
            self._closed = True
            self._loop.close()

    def _work(self) -> None:
        with self._lock:
            self._woken = False
            work, self._todo = self._todo, deque()
        for act, args in work:
            try:
                act(*args)
            except Exception as error:
                log.exception("the queue's connection failed in an unexpected way")
                self._drop(type(error).__name__)

    def later(self, seconds: float, act: Callable[[], None]) -> Any:
        return self._loop.call_later(seconds, act)

    def add(self, party: Party) -> None:
        self._parties[party] = None
        if self._open:
            party.connected(self)
        elif self._retry is not None:
            party.failed(self._unavailable())
        else:
            self._connect()

    def remove(self, party: Party) -> None:
        self._parties.pop(party, None)

    # -- connecting -----------------------------------------------------------------------------

    def _connect(self) -> None:
        """Begin to connect, unless an attempt is under way."""
        if self._connection is not None:
            return
        if self._retry is not None:
            self._loop.remove_timeout(self._retry)
            self._retry = None
        address = self._addresses[0]
        self._addresses.rotate(-1)
        self._connection = SelectConnection(
            parameters(self._server, address, self._tls),
            on_open_callback=self._connected,
            on_open_error_callback=self._lost,
            on_close_callback=self._lost,
            custom_ioloop=self._loop,
        )
        self._connection.add_on_connection_blocked_callback(self._now_blocked)
        self._connection.add_on_connection_unblocked_callback(self._now_unblocked)

    def _connected(self, connection: Any) -> None:
        connection.channel(on_open_callback=self._publishing_opened)
        connection.channel(on_open_callback=self._control_opened)
        connection.channel(on_open_callback=self._consuming_opened)

    def _publishing_opened(self, channel: Any) -> None:
        channel.add_on_close_callback(self._channel_closed)
        self._posts.prepare(channel, lambda: self._ready(publishing=channel))

    def _control_opened(self, channel: Any) -> None:
        self._declarations.opened(channel)
        self._ready(control=channel)

    def _consuming_opened(self, channel: Any) -> None:
        self._places = 0
        channel.add_on_close_callback(self._channel_closed)
        channel.add_on_cancel_callback(self._cancelled)
        self._ready(consuming=channel)

    def _ready(self, publishing: Any = None, control: Any = None, consuming: Any = None) -> None:
        self._publishing = publishing or self._publishing
        self._control = control or self._control
        self.consuming = consuming or self.consuming
        if self._open or not (self._publishing and self._control and self.consuming):
            return
        self._open, self._opened_at = True, time.monotonic()
        log.info("queue connected", extra=about(None, server=self._address()))
        for party in list(self._parties):
            party.connected(self)
        self._posts.opened(self._publishing)

    def _channel_closed(self, channel: Any, error: Exception) -> None:
        if channel in (self._publishing, self.consuming) and self._connection.is_open:
            self._drop(text_of(error))

    def _drop(self, why: str) -> None:
        """Close the connection; it is opened again when it is needed."""
        log.warning("queue disconnected by us", extra=about(None, reason=masked(why)))
        if self._connection is not None:
            if not self._why and not self._connection.is_closed:
                self._why = why
                # pika's public way waits for the server
                self._connection._terminate_stream(pika.exceptions.AMQPConnectionError(why))
        else:
            self._posts.lost(QueueUnavailable(reason=why))

    def _lost(self, connection: Any, error: Exception) -> None:
        if connection is not self._connection:
            return
        was_open, self._open = self._open, False
        failure, reason = text_of(error), masked(reason_of(self._why or error, self._url()))
        self._why = ""
        self._connection = self._publishing = self._control = self.consuming = None
        self._blocked = ""
        if not self._shutting and (was_open or failure != self._failure):
            log.warning("queue lost", extra=about(None, server=self._address(), reason=reason))
        if was_open and time.monotonic() - self._opened_at > STEADY_SECONDS:
            self._pause = 0.0
        self._failure, self._reason = failure, reason
        self._declarations.lost()
        self._consumers.clear()
        self._posts.lost(QueueUnavailable(reason=reason))
        if self._shutting:
            self._loop.stop()
        elif self._parties:
            self._pause = min(LONGEST_PAUSE, random.uniform(FIRST_PAUSE, max(FIRST_PAUSE, self._pause * 3)))
            self._retry = self.later(self._pause, self._connect)
            for party in list(self._parties):
                party.failed(QueueUnavailable(reason=reason))

    def _shut(self) -> None:
        self._shutting = True
        self._parties.clear()
        self._posts.lost(closed())
        if self._retry is not None:
            self._loop.remove_timeout(self._retry)
        if self._connection is None or self._connection.is_closed:
            self._loop.stop()
            return
        self.later(CLOSE_SECONDS, lambda: self._drop("it does not close"))
        if not self._connection.is_closing:
            self._connection.close()

    # -- queues ---------------------------------------------------------------------------------

    def declare(self, queue: str, arguments: dict[str, Any], done: Declared) -> None:
        """Make the durable queue if there is none; `done` gets the server's refusal, or None."""
        self._declarations.declare(queue, arguments, done)

    def consume(self, queue: str, party: Party, deliver: Callable[..., None], places: int) -> str:
        """Have messages delivered, `places` at a time. Returns the tag for `cancel`."""
        if places != self._places:
            self._places = places
            self.consuming.basic_qos(prefetch_count=places, callback=_ignore)
        tag: str = self.consuming.basic_consume(queue, deliver, callback=_ignore)
        self._consumers[tag] = party
        return tag

    def cancel(self, tag: str, done: Callable[[], None]) -> None:
        """End the subscription; `done` is called when the server has confirmed it."""
        if self._consumers.pop(tag, None) is not None:
            self.consuming.basic_cancel(tag, callback=lambda frame: done())

    def _cancelled(self, frame: Any) -> None:
        party = self._consumers.pop(frame.method.consumer_tag, None)
        if party is not None:
            party.cancelled()

    # -- publishing -----------------------------------------------------------------------------

    def publish(self, message: Message) -> None:
        if self._shutting:
            message.settle(closed())
        elif self._blocked or self._retry is not None:
            message.settle(self._unavailable())
        else:
            self._posts.send(message)
            if not self._open:
                self._connect()

    def forget(self, message: Message) -> None:
        """Drop the message: its caller waits no more."""
        self._posts.forget(message)

    def ping(self, give: Give) -> None:
        """`give` gets b"" when the server has answered."""
        if self._blocked or self._retry is not None:
            give(self._unavailable())
            return
        self._posts.ping(give)
        if not self._open:
            self._connect()

    def reply(self, channel: Any, reply_to: str, correlation_id: str | None, body: bytes) -> None:
        """Answer a call; the answer is dropped when the caller is gone."""
        channel.basic_publish("", reply_to, body, pika.BasicProperties(correlation_id=correlation_id))

    def _now_blocked(self, connection: Any, frame: Any) -> None:
        """Called when the server is short of memory or disk: it reads nothing more from us."""
        self._blocked = (
            f"the broker takes no messages ({self._url()}: {frame.method.reason}); free its disk or its memory"
        )
        log.warning("queue blocked", extra=about(None, server=self._address(), reason=frame.method.reason))
        self._posts.delayed(self._unavailable())

    def _now_unblocked(self, connection: object, frame: object) -> None:
        self._blocked = ""
        log.info("queue no longer blocked", extra=about(None, server=self._address()))

    def _unavailable(self) -> QueueUnavailable:
        return QueueUnavailable(reason=self._blocked or self._reason)

    def _url(self) -> str:
        """The URL of the node that was tried last, without the password."""
        return f"rabbit://{self._addresses[-1].login.user}:***@{self._address()}"

    def _address(self) -> str:
        address = self._addresses[-1]
        return f"{address.host}:{address.port}{'' if self._server.vhost == '/' else '/'}{self._server.vhost}"


def _ignore(frame: object) -> None:
    """An empty callback: with one, pika waits for the server's answer."""
