"""The console proxy: a websocket of a user on one side, a guest's console on the other, bytes between them.

The proxy looks the token up before it opens the websocket; the token says where to connect to. A page of another site
can't use a user's token: the origin must be the proxy itself, or one that is allowed. A browser that opens the address
itself gets the files of a viewer (`web`), where there are some, else a page that shows the console as text.
"""

from __future__ import annotations

import asyncio
import logging
from asyncio import Future
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tornado.http1connection import HTTP1Connection
from tornado.iostream import IOStream, StreamClosedError
from tornado.tcpclient import TCPClient
from tornado.web import Application, StaticFileHandler
from tornado.websocket import WebSocketClosedError, WebSocketHandler

from cell_service.consoles.page import PAGE
from cell_service.errors import PolycellError
from cell_service.http.connections import watch_reader
from cell_service.http.listener import Listener
from cell_service.http.pages import frame_headers, page_headers
from cell_service.logs import about
from cell_service.model.console import ConsoleToken

log = logging.getLogger(__name__)

Lookup = Callable[[str], ConsoleToken | None]
"""Finds the console that a token opens; None: the token opens none. Raises Unavailable."""
CONNECT_SECONDS = 10.0
CHUNK = 65536
_SOCKETS = "'self' ws: wss:"


class ConsoleProxy:
    """A listening console proxy. `start` and `drain` may be called from any thread."""

    def __init__(
        self, lookup: Lookup, *, allowed_origins: tuple[str, ...] = (), threads: int = 4, web: str = ""
    ) -> None:
        self.lookup, self.allowed_origins, self.open = lookup, allowed_origins, 0
        self.workers = ThreadPoolExecutor(threads, thread_name_prefix="console")
        console = (r"/(?:websockify)?" if web else r"/.*", _Console, {"proxy": self})
        viewer = [(r"/(.*)", _Viewer, {"path": web})] if web else []
        application = Application([console, *viewer], log_function=_say_nothing, framing=frame_headers(allowed_origins))
        self.listener = Listener("console", application, busy=lambda: self.open, ended=self._end)
        self.start, self.drain = self.listener.start, self.listener.drain

    @property
    def port(self) -> int:
        return self.listener.port

    def _end(self) -> None:
        self.workers.shutdown(wait=False, cancel_futures=True)


class _Viewer(StaticFileHandler):
    """Files of a viewer, framed only by pages that are allowed."""

    def set_extra_headers(self, path: str) -> None:
        for name, value in self.settings["framing"].items():
            self.set_header(name, value)

    def flush(self, include_footers: bool = False) -> Future[None]:
        sent = super().flush(include_footers)
        watch_reader(self.request.connection, sent)
        return sent


class _Console(WebSocketHandler):
    def initialize(self, proxy: ConsoleProxy) -> None:
        self._proxy = proxy
        self._stream: IOStream | None = None
        self._pump: asyncio.Task[None] | None = None
        self._address = getattr(getattr(self.request.connection, "context", None), "address", None)

    @property
    def ping_interval(self) -> float | None:
        """The seconds in which a client must answer a ping; then its web socket is closed, for it has gone or reads no
        more."""
        return self._proxy.listener.settings.seconds or None

    def check_origin(self, origin: str) -> bool:
        return super().check_origin(origin) or urlsplit(origin).hostname in self._proxy.allowed_origins

    def select_subprotocol(self, subprotocols: list[str]) -> str | None:
        return "binary" if "binary" in subprotocols else None

    def head(self, *args: object, **kwargs: object) -> None:
        """200: the proxy answers. What a token opens is for those who GET it."""
        self.finish()

    def options(self, *args: object, **kwargs: object) -> None:
        """200, with the methods."""
        self.set_header("Allow", "GET, HEAD, OPTIONS")
        self.finish()

    async def get(self, *args: object, **kwargs: object) -> None:
        """403 for a token that opens nothing, and at once for none: no cell need answer; 502 when the console can't be
        reached; a page for a request that is no websocket's."""
        if not (secret := self._secret()):
            self._refuse(403)
            return
        loop = asyncio.get_running_loop()
        try:
            token = await loop.run_in_executor(self._proxy.workers, self._proxy.lookup, secret)
        except PolycellError as error:
            log.warning("console token not looked up", extra=about(None, reason=error))
            self._refuse(503)
            return
        if token is None:
            self._refuse(403)
            return
        if self.request.headers.get("Upgrade", "").lower() != "websocket":
            self.set_header("Cache-Control", "no-store")
            self.set_header("Referrer-Policy", "no-referrer")
            for name, value in page_headers(PAGE, connect=_SOCKETS, hosts=self._proxy.allowed_origins).items():
                self.set_header(name, value)
            self.finish(PAGE)
            return
        try:
            self._stream = await _connected(token)
        except (OSError, StreamClosedError) as error:
            log.warning("console not reached", extra=about(None, instance=token.instance_uuid, reason=error))
            self._refuse(502)
            return
        log.info("console opened", extra=about(None, instance=token.instance_uuid, kind=token.kind))
        await super().get(*args, **kwargs)
        if self.ws_connection is None:
            self._stream.close()

    def open(self, *args: str, **kwargs: str) -> None:
        self._proxy.open += 1
        self._proxy.listener.clients.add(self._address)
        self._pump = asyncio.get_running_loop().create_task(self._to_user())

    async def on_message(self, message: str | bytes) -> None:
        assert self._stream is not None
        try:
            await self._stream.write(message.encode() if isinstance(message, str) else message)
        except StreamClosedError:
            self.close()

    def on_close(self) -> None:
        self._proxy.open -= 1
        self._proxy.listener.clients.remove(self._address)
        if self._stream is not None:
            self._stream.close()

    async def _to_user(self) -> None:
        assert self._stream is not None
        try:
            while True:
                await self.write_message(await self._stream.read_bytes(CHUNK, partial=True), binary=True)
        except (StreamClosedError, WebSocketClosedError):
            self.close()

    def _secret(self) -> str:
        """The token as clients send it: in the query, in the `path` that noVNC passes on, or in a cookie."""
        direct = self.get_query_argument("token", "") or self.get_cookie("token") or ""
        within = parse_qs(urlsplit(self.get_query_argument("path", "")).query).get("token", [""])
        return direct or within[-1]

    def finish(self, chunk: str | bytes | dict[str, Any] | None = None) -> Future[None]:
        """End the connection after a refusal: clients of websockets wait for that."""
        if self.get_status() < 400:
            return super().finish(chunk)
        self.set_header("Connection", "close")
        connection = self.request.connection
        sent = super().finish(chunk)
        if isinstance(connection, HTTP1Connection):
            sent.add_done_callback(lambda _sent: connection.close())
        return sent

    def _refuse(self, status: int) -> None:
        self.set_status(status)
        self.finish()


def _say_nothing(_handler: object) -> None:
    """Log no request: addresses have tokens in them."""


async def _connected(token: ConsoleToken) -> IOStream:
    place = token.place
    stream = await TCPClient().connect(place.address, place.port, timeout=CONNECT_SECONDS)
    if place.internal_access_path:
        await stream.write(f"CONNECT {place.internal_access_path} HTTP/1.1\r\n\r\n".encode())
        answer = await asyncio.wait_for(stream.read_until(b"\r\n\r\n", max_bytes=CHUNK), CONNECT_SECONDS)
        if b" 200 " not in answer.split(b"\r\n", 1)[0] + b" ":
            stream.close()
            raise OSError("the console refuses the connection")
    return stream
