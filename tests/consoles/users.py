"""A user of a console proxy, and consoles that a token opens."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime

from tornado.httpclient import HTTPRequest
from tornado.websocket import WebSocketClientConnection, websocket_connect

from cell_service.consoles.connecting import HostSecurity
from cell_service.consoles.proxy import ConsoleProxy
from cell_service.model.console import ConsolePlace, ConsoleToken

UNTIL = datetime(2100, 1, 1, tzinfo=UTC)


@contextmanager
def proxied(place: ConsolePlace, kind: str, security: HostSecurity | None = None) -> Iterator[ConsoleProxy]:
    """A proxy to the one console, which every token opens."""
    token = ConsoleToken("i1", kind, "h1", place, UNTIL)
    proxy = ConsoleProxy(lambda _secret: token, security=security)
    proxy.start()
    try:
        yield proxy
    finally:
        proxy.drain(0)


class User:
    """A web socket; its bytes come as they come."""

    def __init__(self, socket: WebSocketClientConnection) -> None:
        self._socket, self._left = socket, b""

    async def say(self, said: bytes) -> None:
        await self._socket.write_message(said, binary=True)

    async def hear(self, length: int) -> bytes:
        """The next bytes. Raises AssertionError when the web socket is closed before."""
        while len(self._left) < length:
            message = await self._socket.read_message()
            assert isinstance(message, bytes), (self._left, self._socket.close_code, self._socket.close_reason)
            self._left += message
        heard, self._left = self._left[:length], self._left[length:]
        return heard

    async def closed(self) -> tuple[int | None, str | None, bytes]:
        """With which code and reason the proxy closes the web socket, and all that it said before."""
        while isinstance(message := await self._socket.read_message(), bytes):
            self._left += message
        return self._socket.close_code, self._socket.close_reason, self._left


@asynccontextmanager
async def user(proxy: ConsoleProxy, origin: str = "") -> AsyncIterator[User]:
    headers = {"Origin": origin} if origin else {}
    request = HTTPRequest(f"ws://127.0.0.1:{proxy.port}/?token=any", headers=headers)
    socket = await websocket_connect(request, subprotocols=["binary"])
    try:
        yield User(socket)
    finally:
        socket.close()
