"""A line to a server that can be made sick: a TCP proxy, so that nothing needs to be done to the server or the network.

All lines of one `Lines` are served by one thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Coroutine
from enum import StrEnum
from types import TracebackType
from typing import Any, TypeVar

T = TypeVar("T")

HOST = "127.0.0.1"
BACKLOG = 128
CHUNK = 1 << 16
FLAP_SECONDS = 0.3
CHANGE_SECONDS = 30.0


class Mode(StrEnum):
    HEALTHY = "healthy"
    FROZEN = "frozen"
    """Connections are made and kept, and nothing passes. What was sent arrives after the recovery."""
    REFUSED = "refused"
    """Connections are reset, new ones refused: what a killed server does."""
    BLACK_HOLED = "black-holed"
    """Connections are kept and nothing passes; new ones never come up, as when packets are dropped."""
    SLOW = "slow"
    """Whatever is sent to the server is late."""
    FLAPPING = "flapping"
    """Refused and healthy by turns."""


class Lines:
    """Made with `to`; closed together. A context manager."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="sick-lines", daemon=True)
        self._thread.start()
        self._made: list[Line] = []

    def __enter__(self) -> Lines:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def to(self, port: int) -> Line:
        """A healthy line to that port of this machine."""
        made = Line(self, port)
        self._made.append(made)
        made.set(Mode.HEALTHY)
        return made

    def close(self) -> None:
        for line in self._made:
            self.do(line.end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(CHANGE_SECONDS)
        self._loop.close()

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        """What the coroutine answers, run on the lines' thread."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(CHANGE_SECONDS)


class Line:
    def __init__(self, lines: Lines, to: int) -> None:
        self._lines, self._to = lines, to
        self.port = 0
        """Where it listens, from the first mode on."""
        self.mode = Mode.REFUSED
        self._delay = 0.0
        self._server: asyncio.Server | None = None
        self._flows = asyncio.Event()
        self._flowing: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._stuffing: list[socket.socket] = []
        self._flapping: asyncio.Task[None] | None = None

    def url(self, url: str) -> str:
        """A URL of the server, through this line."""
        assert f":{self._to}/" in url
        return url.replace(f":{self._to}/", f":{self.port}/")

    def set(self, mode: Mode, delay_seconds: float = 0.0) -> None:
        """The line is like that from now on. `delay_seconds` is for SLOW."""
        self._lines.do(self._change(mode, delay_seconds))

    @property
    def connections(self) -> int:
        """How many clients have a connection."""
        return len(self._writers) // 2

    # -- on the thread of the lines -------------------------------------------------------------------

    async def _change(self, mode: Mode, delay: float) -> None:
        if self._flapping is not None:
            self._flapping.cancel()
            self._flapping = None
        self._delay = delay if mode is Mode.SLOW else 0.0
        self.mode = mode
        if mode is Mode.FLAPPING:
            self._flapping = asyncio.ensure_future(self._flap())
        else:
            await self._be(mode)

    async def _be(self, mode: Mode) -> None:
        if mode in (Mode.FROZEN, Mode.BLACK_HOLED):
            self._flows.clear()
        else:
            self._flows.set()
        if mode is Mode.REFUSED:
            await self._shut()
            self._reset()
        elif mode is Mode.BLACK_HOLED:
            await self._shut()
            self._stuff()
        else:
            await self._listen()

    async def _flap(self) -> None:
        while True:
            for mode in (Mode.REFUSED, Mode.HEALTHY):
                await self._be(mode)
                await asyncio.sleep(FLAP_SECONDS)

    async def _listen(self) -> None:
        self._unstuff()
        if self._server is None:
            self._server = await asyncio.start_server(self._serve, HOST, self.port, backlog=BACKLOG)
            self.port = self._server.sockets[0].getsockname()[1]

    async def _shut(self) -> None:
        self._unstuff()
        if self._server is not None:
            self._server.close()
            self._server = None

    def _stuff(self) -> None:
        """Listen, but with a queue that is full: the kernel drops new connections."""
        deaf = socket.socket()
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        deaf.bind((HOST, self.port))
        deaf.listen(0)
        self._stuffing = [deaf]
        for _ in range(4):
            knocking = socket.socket()
            knocking.setblocking(False)
            knocking.connect_ex((HOST, self.port))
            self._stuffing.append(knocking)

    def _unstuff(self) -> None:
        for each in reversed(self._stuffing):
            each.close()
        self._stuffing = []

    def _reset(self) -> None:
        for writer in list(self._writers):
            writer.transport.abort()

    async def end(self) -> None:
        if self._flapping is not None:
            self._flapping.cancel()
        await self._shut()
        self._flows.set()
        self._reset()
        for task in list(self._flowing):
            task.cancel()
        await asyncio.gather(*self._flowing, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._flowing.add(task)
        mine = {writer}
        self._writers |= mine
        try:
            there, onward = await asyncio.open_connection(HOST, self._to)
            mine.add(onward)
            self._writers.add(onward)
            ways = [asyncio.ensure_future(self._carry(reader, onward, late=True)),
                    asyncio.ensure_future(self._carry(there, writer, late=False))]  # fmt: skip
            try:
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for way in ways:
                    way.cancel()
                await asyncio.gather(*ways, return_exceptions=True)
        except OSError:
            pass  # the server is away: the client sees a connection that ends
        finally:
            for each in mine:
                each.close()
            self._writers -= mine
            self._flowing.discard(task)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, late: bool) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(CHUNK):
                if late and self._delay:
                    await asyncio.sleep(self._delay)
                await self._flows.wait()
                writer.write(data)
                await writer.drain()
