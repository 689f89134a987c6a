"""The connection of one transport to RabbitMQ, on a thread of its own: opening, losing, opening again, publishing.

Everything here but `do` and `close` runs on that thread, so nothing needs a lock.
"""

from __future__ import annotations

import logging
import random
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any, Protocol

import pika
from pika.adapters.select_connection import IOLoop, SelectConnection

from cell_service.errors import Invalid, NobodyThere, PolycellError, QueueUnavailable
from cell_service.logs import about, masked
from cell_service.rpc.answers import closed
from cell_service.rpc.urls import Address, RabbitServer

log = logging.getLogger(__name__)

FIRST_PAUSE, LONGEST_PAUSE = 0.2, 1.5
CONNECT_SECONDS = 5.0
STEADY_SECONDS = 5.0
CLOSE_SECONDS = 1.0
REPLY_TO = "amq.rabbitmq.reply-to"

Give = Callable[[bytes | PolycellError], None]


@dataclass(slots=True, eq=False)
class Post:
    """A message on its way. `give` gets b"" when the server has it (the answer, for a call), or an error."""

    topic: str
    body: bytes
    give: Give
    stale_at: float | None = None
    """Set for a call: the moment (monotonic) after which nobody waits for the answer."""
    headers: dict[str, Any] = field(default_factory=dict)
    reply_to: str | None = None
    correlation_id: str | None = None
    settled: bool = False
    tag: int = 0

    def settle(self, result: bytes | PolycellError) -> None:
        if not self.settled:
            self.settled = True
            self.give(result)


class Party(Protocol):
    """Somebody who wants to know of every new connection, and keeps it wanted."""

    def connected(self, line: Line) -> None: ...

    def failed(self, error: PolycellError) -> None:
        """There is no connection now."""

    def cancelled(self) -> None:
        """The server has deleted its queue."""


class Refused(Protocol):
    def __call__(self, error: Exception | None, /) -> None: ...


@dataclass(frozen=True, slots=True)
class _Declaration:
    queue: str
    arguments: dict[str, Any]
    done: Refused


class Line:
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
        """A channel for declarations, which may fail."""
        self.consuming: Any = None
        """The channel of all consumers; None without a connection."""
        self._parties: dict[Party, None] = {}
        self._open = self._shutting = False
        self._blocked = self._reason = self._why = ""
        self._opened_at = 0.0
        self._pause = 0.0
        self._retry: Any = None
        self._tag = self._places = 0
        self._declaring: deque[_Declaration] = deque()
        self._consumers: dict[str, Party] = {}
        self._unsent: list[Post] = []
        self._pings: deque[Give] = deque()
        self._unconfirmed: dict[int, Post] = {}
        self._calls: dict[str, Post] = {}

    # -- from any thread ------------------------------------------------------------------------

    def do(self, act: Callable[..., None], *args: Any) -> None:
        """Have it done on the connection's thread, soon. Nothing happens after `close`."""
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
                    break  # it objects to being closed while it still connects; nobody waits for us any more
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
        """Begin to connect, unless that is going on."""
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
        self._tag = 0
        channel.add_on_close_callback(self._channel_closed)
        channel.add_on_return_callback(self._returned)
        channel.confirm_delivery(self._confirmed, callback=_ignore)
        channel.basic_consume(
            REPLY_TO, self._replied, auto_ack=True, callback=lambda frame: self._ready(publishing=channel)
        )

    def _control_opened(self, channel: Any) -> None:
        channel.add_on_close_callback(self._control_closed)
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
        unsent, self._unsent = self._unsent, []
        for post in unsent:
            self._publish(post)
        pings, self._pings = self._pings, deque()
        for give in pings:
            self.ping(give)

    def _control_closed(self, channel: Any, error: Exception) -> None:
        """A declaration was refused, which is no reason to disturb the others."""
        if channel is self._control and self._connection.is_open:
            self._control = None
            refused = self._declaring.popleft() if self._declaring else None
            self._connection.channel(on_open_callback=self._control_reopened)
            if refused is not None:
                refused.done(error)

    def _control_reopened(self, channel: Any) -> None:
        channel.add_on_close_callback(self._control_closed)
        self._control = channel
        for declaration in list(self._declaring):
            self._declare(declaration)

    def _channel_closed(self, channel: Any, error: Exception) -> None:
        if channel in (self._publishing, self.consuming) and self._connection.is_open:
            self._drop(reason_of(error))

    def _drop(self, why: str) -> None:
        """Give the connection up; it is opened again when it is wanted."""
        log.warning("queue disconnected by us", extra=about(None, reason=masked(why)))
        if self._connection is not None:
            if not self._why and not self._connection.is_closed:
                self._why = why
                # pika's public way waits for the server
                self._connection._terminate_stream(pika.exceptions.AMQPConnectionError(why))
        else:
            self._fail_all(QueueUnavailable(reason=why))

    def _lost(self, connection: Any, error: Exception) -> None:
        if connection is not self._connection:
            return
        was_open, self._open = self._open, False
        self._why, reason = "", masked(self._why or reason_of(error))
        self._connection = self._publishing = self._control = self.consuming = None
        self._blocked = ""
        if not self._shutting and (was_open or reason != self._reason):
            log.warning("queue lost", extra=about(None, server=self._address(), reason=reason))
        if was_open and time.monotonic() - self._opened_at > STEADY_SECONDS:
            self._pause = 0.0
        self._reason = reason
        self._declaring.clear()
        self._consumers.clear()
        self._fail_all(QueueUnavailable(reason=reason))
        if self._shutting:
            self._loop.stop()
        elif self._parties:
            self._pause = min(LONGEST_PAUSE, random.uniform(FIRST_PAUSE, max(FIRST_PAUSE, self._pause * 3)))
            self._retry = self.later(self._pause, self._connect)
            for party in list(self._parties):
                party.failed(QueueUnavailable(reason=reason))

    def _fail_all(self, error: PolycellError) -> None:
        posts = [*self._unsent, *self._unconfirmed.values(), *self._calls.values()]
        pings, self._pings = self._pings, deque()
        self._unsent.clear()
        self._unconfirmed.clear()
        self._calls.clear()
        for post in posts:
            post.settle(error)
        for give in pings:
            give(error)

    def _shut(self) -> None:
        self._shutting = True
        self._parties.clear()
        self._fail_all(closed())
        if self._retry is not None:
            self._loop.remove_timeout(self._retry)
        if self._connection is None or self._connection.is_closed:
            self._loop.stop()
            return
        self.later(CLOSE_SECONDS, lambda: self._drop("it does not close"))
        if not self._connection.is_closing:
            self._connection.close()

    # -- queues ---------------------------------------------------------------------------------

    def declare(self, queue: str, arguments: dict[str, Any], done: Refused) -> None:
        """Make the durable queue if there is none; `done` is told the server's refusal, or None."""
        declaration = _Declaration(queue, arguments, done)
        self._declaring.append(declaration)
        if self._control is not None:
            self._declare(declaration)

    def _declare(self, declaration: _Declaration) -> None:
        self._control.queue_declare(
            declaration.queue, durable=True, arguments=declaration.arguments, callback=self._declared
        )

    def _declared(self, frame: Any) -> None:
        self._declaring.popleft().done(None)

    def consume(self, queue: str, party: Party, deliver: Callable[..., None], places: int) -> str:
        """Have messages delivered, `places` at a time. Answers the tag to `cancel`."""
        if places != self._places:
            self._places = places
            self.consuming.basic_qos(prefetch_count=places, callback=_ignore)
        tag: str = self.consuming.basic_consume(queue, deliver, callback=_ignore)
        self._consumers[tag] = party
        return tag

    def cancel(self, tag: str, done: Callable[[], None]) -> None:
        """Have nothing more delivered; `done` when the server knows."""
        if self._consumers.pop(tag, None) is not None:
            self.consuming.basic_cancel(tag, callback=lambda frame: done())

    def _cancelled(self, frame: Any) -> None:
        party = self._consumers.pop(frame.method.consumer_tag, None)
        if party is not None:
            party.cancelled()

    # -- publishing -----------------------------------------------------------------------------

    def post(self, post: Post) -> None:
        if self._shutting:
            post.settle(closed())
        elif self._blocked or self._retry is not None:
            post.settle(self._unavailable())
        elif self._open:
            self._publish(post)
        else:
            self._unsent.append(post)
            self._connect()

    def forget(self, post: Post) -> None:
        """Nobody waits for it any more."""
        post.settled = True
        self._calls.pop(str(post.tag), None)
        if post in self._unsent:
            self._unsent.remove(post)

    def ping(self, give: Give) -> None:
        """`give` gets b"" when the server has answered."""
        if self._blocked or self._retry is not None:
            give(self._unavailable())
            return
        self._pings.append(give)
        if self._open:
            self._publishing.basic_qos(callback=self._ponged)
        else:
            self._connect()

    def _ponged(self, frame: Any) -> None:
        if self._pings:
            self._pings.popleft()(b"")

    def _publish(self, post: Post) -> None:
        if post.settled:
            return
        self._tag += 1
        post.tag, key = self._tag, str(self._tag)
        expects = post.stale_at is not None and post.reply_to is None
        left = None if post.stale_at is None else max(1, int((post.stale_at - time.monotonic()) * 1000))
        properties = pika.BasicProperties(
            content_type="application/json",
            delivery_mode=2 if left is None else 1,
            expiration=None if left is None else str(left),
            reply_to=REPLY_TO if expects else post.reply_to,
            correlation_id=key if expects else post.correlation_id,
            message_id=key,
            headers=post.headers or None,
        )
        self._unconfirmed[self._tag] = post
        if expects:
            self._calls[key] = post
        self._publishing.basic_publish("", post.topic, post.body, properties, mandatory=True)

    def reply(self, channel: Any, reply_to: str, correlation_id: str | None, body: bytes) -> None:
        """Answer a call; nobody minds when the asker is gone."""
        channel.basic_publish("", reply_to, body, pika.BasicProperties(correlation_id=correlation_id))

    def _confirmed(self, frame: Any) -> None:
        method = frame.method
        tags = [method.delivery_tag]
        if method.multiple:
            tags = list(takewhile(lambda tag: tag <= method.delivery_tag, self._unconfirmed))
        for tag in tags:
            post = self._unconfirmed.pop(tag, None)
            if post is None:
                continue
            if isinstance(method, pika.spec.Basic.Nack):
                self._calls.pop(str(tag), None)
                post.settle(QueueUnavailable(reason=f"the queue of {post.topic} takes no more messages"))
            elif str(tag) not in self._calls:
                post.settle(b"")

    def _returned(self, channel: Any, method: Any, properties: Any, body: bytes) -> None:
        post = self._unconfirmed.pop(int(properties.message_id), None)
        self._calls.pop(properties.message_id, None)
        if post is not None:
            post.settle(NobodyThere(topic=post.topic))

    def _replied(self, channel: Any, method: Any, properties: Any, body: bytes) -> None:
        post = self._calls.pop(properties.correlation_id, None)
        if post is not None:
            post.settle(body)

    def _now_blocked(self, connection: Any, frame: Any) -> None:
        """The server is short of memory or disk: it reads nothing more from us."""
        self._blocked = f"it takes no messages now ({frame.method.reason})"
        log.warning("queue blocked", extra=about(None, server=self._address(), reason=frame.method.reason))
        unconfirmed, self._unconfirmed = self._unconfirmed, {}
        pings, self._pings = self._pings, deque()
        for post in unconfirmed.values():
            self._calls.pop(str(post.tag), None)
            post.settle(self._unavailable())
        for give in pings:
            give(self._unavailable())

    def _now_unblocked(self, connection: Any, frame: Any) -> None:
        self._blocked = ""
        log.info("queue no longer blocked", extra=about(None, server=self._address()))

    def _unavailable(self) -> QueueUnavailable:
        return QueueUnavailable(reason=self._blocked or self._reason)

    def _address(self) -> str:
        address = self._addresses[-1]
        return f"{address.host}:{address.port}{'' if self._server.vhost == '/' else '/'}{self._server.vhost}"


def tls_options(server: RabbitServer) -> Any:
    """Raises Invalid for files that can't be used."""
    if server.tls is None:
        return None
    try:
        context = ssl.create_default_context(cafile=server.tls.ca_file or None)
        if server.tls.cert_file:
            context.load_cert_chain(server.tls.cert_file, server.tls.key_file or None)
    except OSError as error:
        raise Invalid(reason=f"the certificates that the transport URL names can't be used: {error}") from error
    return context


def parameters(server: RabbitServer, address: Address, tls: ssl.SSLContext | None) -> Any:
    """How pika is to reach one node. A peer that is gone is noticed by unacknowledged bytes and by heartbeats."""
    patience = max(2, server.heartbeat)
    return pika.ConnectionParameters(
        host=address.host,
        port=address.port,
        virtual_host=server.vhost,
        credentials=pika.PlainCredentials(address.login.user, address.login.password),
        heartbeat=server.heartbeat,
        ssl_options=None if tls is None else pika.SSLOptions(tls, address.host),
        connection_attempts=1,
        socket_timeout=CONNECT_SECONDS,
        stack_timeout=CONNECT_SECONDS,
        tcp_options={"TCP_USER_TIMEOUT": patience * 1000},
        client_properties={"product": "polycell"},
    )


def reason_of(error: Any) -> str:
    """Why a connection ended, in a line."""
    while getattr(error, "exceptions", None):  # an attempt with several steps
        error = error.exceptions[-1]
    error = getattr(error, "exception", None) or error
    text = getattr(error, "reply_text", "") or str(error) or type(error).__name__
    return text.splitlines()[0]


def _ignore(frame: Any) -> None:
    """pika waits for an answer only when somebody wants it."""
