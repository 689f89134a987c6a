"""One request on a socket: collecting it, and writing its answer. Everything here runs on the loop."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any, Protocol

from tornado import httputil
from tornado.iostream import StreamClosedError

from cell_service.http.connections import ANY_SECONDS, FILE_BYTES_PER_SECOND, HEAD_BYTES, watch_reader

log = logging.getLogger(__name__)

DISCARD_BYTES = 4 * 1024 * 1024
"""A body that is too large is read to its end, and then refused, up to this size; beyond it the connection is cut."""

PIECE_BYTES = 1 << 20
REASONS = {status.value: status.phrase for status in HTTPStatus}


class _Sent(dict[str, str]):
    """Headers of an answer: the part of tornado's HTTPHeaders that writing them needs, at a tenth of the cost.

    Names are spelled as they are sent; the writer checks that no value breaks a line.
    """

    def get_all(self) -> Iterable[tuple[str, str]]:
        return self.items()


def _too_long(start_line: Any, headers: httputil.HTTPHeaders) -> HTTPStatus | None:
    """The answer to a head that is longer than it may be; None for any other."""
    line = len(start_line.method) + len(start_line.path) + 12
    if line > HEAD_BYTES:
        return HTTPStatus.REQUEST_URI_TOO_LONG
    if line + sum(len(name) + len(value) + 4 for name, value in headers.get_all()) > HEAD_BYTES:
        return HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
    return None


class Sink(Protocol):
    """The receiver of requests: called when one begins, when it is whole (or refused), and when it is over."""

    def begun(self, exchange: Exchange) -> Awaitable[None] | None:
        """Called when the headers have been read. The body is read once the awaitable, if there is one, is done."""

    def serve(self, exchange: Exchange) -> None:
        """Answer the exchange, now or later, by `answer` or `answer_file`."""

    def over(self, exchange: Exchange) -> None:
        """Called when the exchange is answered, or the client went away."""


Take = Callable[[bytes], Awaitable[None]]


class Exchange(httputil.HTTPMessageDelegate):
    """A request as it comes in, and its answer. `answered`: also when the client went away.

    `take`: set by the sink in `begun` where the body is no JSON but a file: it gets each piece of the body, and `body`
    stays empty.
    """

    __slots__ = ("_chunks", "_connection", "_most", "_read", "_sink", "answered", "headers", "method", "oversize",
                 "peer", "protocol", "received", "started", "take", "target")  # fmt: skip

    def __init__(self, connection: Any, most_bytes: int, sink: Sink) -> None:
        self._connection = connection
        self._most = most_bytes
        self._sink = sink
        self._chunks: list[bytes] = []
        self.take: Take | None = None
        self.received = 0
        self.oversize = False
        self._read = False
        self.answered = False
        self.started = 0.0
        self.method = ""
        self.target = ""
        self.headers: httputil.HTTPHeaders = httputil.HTTPHeaders()
        self.peer = str(getattr(connection.context, "remote_ip", "") or "")
        self.protocol = str(getattr(connection.context, "protocol", "") or "http")

    @property
    def body(self) -> bytes:
        return self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)

    def headers_received(self, start_line: Any, headers: httputil.HTTPHeaders) -> Awaitable[None] | None:
        self.started = time.monotonic()
        self.method, self.target, self.headers = start_line.method, start_line.path, headers
        too_long = _too_long(start_line, headers)
        if too_long is not None:
            self._refuse_head(too_long)
            return None
        waiting = self._sink.begun(self)
        if self.take is not None:
            self._watch_file(self.take)
        announced = headers.get("Content-Length", "")
        if self.take is None and waiting is None and announced.isdigit() and int(announced) > self._most:
            self.oversize = True
            if int(announced) > DISCARD_BYTES or headers.get("Expect"):
                self._sink.serve(self)
        return waiting

    def data_received(self, chunk: bytes) -> Awaitable[None] | None:
        if self.answered:
            return None
        if self.take is not None:
            return self.take(chunk)
        self.received += len(chunk)
        if self.received > self._most:
            self.oversize = True
            self._chunks.clear()
            if self.received > DISCARD_BYTES and not self.answered:
                self._sink.serve(self)
        elif not self.oversize:
            self._chunks.append(chunk)
        return None

    def finish(self) -> None:
        self._read = True
        if not self.answered:
            self._sink.serve(self)

    def on_connection_close(self) -> None:
        if not self.answered:
            self.answered = True
            self._sink.over(self)

    def _refuse_head(self, status: HTTPStatus) -> None:
        """Answer a request of which the sink knows nothing, and close the connection after it."""
        self.answered = True
        body = f"{status.value} {status.phrase}\n".encode()
        made: Any = _Sent({"Content-Type": "text/plain", "Connection": "close", "Content-Length": str(len(body))})
        line = httputil.ResponseStartLine("HTTP/1.1", status.value, status.phrase)
        try:
            self._connection.write_headers(line, made, None if self.method == "HEAD" else body)
            self._connection.no_keep_alive = True
            self._connection.finish()
        except StreamClosedError:
            log.debug("client went away")

    def _watch_file(self, take: Take) -> None:
        """A body that is a file may take long, as long as it comes at a certain rate; else the connection is cut."""
        seconds = self._connection.params.body_timeout
        if not seconds:
            return
        self._connection.set_body_timeout(ANY_SECONDS)
        loop, came = asyncio.get_running_loop(), 0

        def counting(piece: bytes) -> Awaitable[None]:
            nonlocal came
            came += len(piece)
            return take(piece)

        def check() -> None:
            nonlocal came
            if self._read or self.answered:
                return
            if came < seconds * FILE_BYTES_PER_SECOND:
                log.warning("a file comes too slowly, its connection is cut path=%s", self.target.partition("?")[0])
                self._connection.close()
                return
            came = 0
            loop.call_later(seconds, check)

        self.take = counting
        loop.call_later(seconds, check)

    async def answer_file(self, status: int, headers: Mapping[str, str], path: Path) -> None:
        """Write an answer whose body is the file's content, read piece by piece on other threads."""
        if self.answered:
            return
        made: Any = _Sent(headers)
        line = httputil.ResponseStartLine("HTTP/1.1", status, REASONS.get(status, "Unknown"))
        read = asyncio.get_running_loop().run_in_executor
        try:
            with path.open("rb") as file:
                made["Content-Length"] = str(path.stat().st_size)
                await self._connection.write_headers(line, made)
                while self.method != "HEAD" and (piece := await read(None, file.read, PIECE_BYTES)):
                    sent = self._connection.write(piece)
                    watch_reader(self._connection, sent)
                    await sent
            self._connection.finish()
        except StreamClosedError:
            log.debug("client went away path=%s", self.target)
        except Exception:
            log.exception("the answer cannot be written path=%s", self.target.partition("?")[0])
            self._connection.close()
        finally:
            if not self.answered:
                self.answered = True
                self._sink.over(self)

    def answer(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        """Write the answer. Does nothing when the client has gone."""
        if self.answered:
            return
        self.answered = True
        self._sink.over(self)
        made: Any = _Sent(headers)
        empty = status in (204, 304)
        if not empty:
            made["Content-Length"] = str(len(body))
        sent = None if empty or self.method == "HEAD" else body
        line = httputil.ResponseStartLine("HTTP/1.1", status, REASONS.get(status, "Unknown"))
        try:
            written = self._connection.write_headers(line, made, sent)
            watch_reader(self._connection, written)
            self._connection.finish()
        except StreamClosedError:
            log.debug("client went away path=%s", self.target)
        except (ValueError, httputil.HTTPOutputError):
            log.exception("the answer cannot be written path=%s", self.target.partition("?")[0])
            self._connection.close()
