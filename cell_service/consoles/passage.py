"""Bytes between a user's web socket and a guest's console."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from tornado.iostream import IOStream, StreamClosedError
from tornado.websocket import WebSocketClosedError

from cell_service.consoles.rfb import Welcome
from cell_service.errors import ConsoleRefused

CHUNK = 65536
REFUSED = 4502
"""The code with which a web socket is closed whose console can't be opened, however often it is tried."""
_LONGEST_REASON = 120
"""Bytes of the reason in a frame that closes a web socket."""

Send = Callable[[bytes], Awaitable[None]]
Close = Callable[[int | None, str | None], None]


class Passage:
    """All of it is called on the loop. `stream`: to the console; None where the host and the proxy do not agree, for
    which there is a `refusal`: the user hears that, by RFB too for a screen (`welcome`)."""

    def __init__(
        self, stream: IOStream | None, welcome: Welcome | None, refusal: str, send: Send, close: Close
    ) -> None:
        self._stream, self._welcome, self._refusal, self._send, self._close = stream, welcome, refusal, send, close
        self._pump: asyncio.Task[None] | None = None

    async def begin(self) -> None:
        """The web socket is open."""
        if self._welcome is not None:
            await self._try_send(self._welcome.hello)
        elif self._stream is None:
            self._refuse(self._refusal)
        else:
            self._pass_on()

    async def heard(self, said: bytes) -> None:
        """The user has sent this."""
        if self._welcome is not None:
            try:
                answer, over = self._welcome.answer(said)
            except ConsoleRefused as error:
                self._refuse(str(error))
                return
            await self._try_send(answer)
            if not over:
                return
            said, self._welcome = self._welcome.rest, None
            if self._stream is None:
                self._refuse(self._refusal)
                return
            self._pass_on()
        if self._stream is None or not said:
            return
        try:
            await self._stream.write(said)
        except StreamClosedError:
            self._close(None, None)

    def end(self) -> None:
        """Close the console's side; at once, for a user need not answer."""
        if self._stream is not None:
            self._stream.close()

    def _refuse(self, reason: str) -> None:
        self._close(REFUSED, reason.encode()[:_LONGEST_REASON].decode(errors="ignore"))

    def _pass_on(self) -> None:
        self._pump = asyncio.get_running_loop().create_task(self._to_user())

    async def _try_send(self, said: bytes) -> None:
        try:
            if said:
                await self._send(said)
        except WebSocketClosedError:
            self._close(None, None)

    async def _to_user(self) -> None:
        assert self._stream is not None
        try:
            while True:
                await self._send(await self._stream.read_bytes(CHUNK, partial=True))
        except (StreamClosedError, WebSocketClosedError):
            self._close(None, None)
