"""One request on a socket: collecting it, and writing its answer. Everything here runs on the loop."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any, Protocol

from tornado import httputil
from tornado.iostream import StreamClosedError

log = logging.getLogger(__name__)

DISCARD_BYTES = 4 * 1024 * 1024
"""A body that is too large is read to its end, and then refused, up to this size; beyond it the connection is cut."""

REASONS = {status.value: status.phrase for status in HTTPStatus}


class _Sent(dict[str, str]):
    """Headers of an answer: as much of tornado's HTTPHeaders as writing them takes, at a tenth of the cost.

    Names are spelled as they are sent; that no value breaks a line is checked where they are written.
    """

    def get_all(self) -> Iterable[tuple[str, str]]:
        return self.items()


class Desk(Protocol):
    """Who takes requests: told of each once it begins, when it is whole (or refused), and when it is over."""

    def begun(self, exchange: Exchange) -> None: ...

    def serve(self, exchange: Exchange) -> None: ...

    def over(self, exchange: Exchange) -> None: ...


class Exchange(httputil.HTTPMessageDelegate):
    """A request as it comes in, and its answer. `answered`: also when the client went away."""

    __slots__ = ("_chunks", "_connection", "_desk", "_most", "answered", "headers", "method", "oversize", "peer",
                 "protocol", "received", "started", "target")  # fmt: skip

    def __init__(self, connection: Any, most_bytes: int, desk: Desk) -> None:
        self._connection = connection
        self._most = most_bytes
        self._desk = desk
        self._chunks: list[bytes] = []
        self.received = 0
        self.oversize = False
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

    def headers_received(self, start_line: Any, headers: httputil.HTTPHeaders) -> None:
        self.started = time.monotonic()
        self._desk.begun(self)
        self.method, self.target, self.headers = start_line.method, start_line.path, headers
        announced = headers.get("Content-Length", "")
        if announced.isdigit() and int(announced) > self._most:
            self.oversize = True
            if int(announced) > DISCARD_BYTES or headers.get("Expect"):
                self._desk.serve(self)

    def data_received(self, chunk: bytes) -> None:
        self.received += len(chunk)
        if self.received > self._most:
            self.oversize = True
            self._chunks.clear()
            if self.received > DISCARD_BYTES and not self.answered:
                self._desk.serve(self)
        elif not self.oversize:
            self._chunks.append(chunk)

    def finish(self) -> None:
        if not self.answered:
            self._desk.serve(self)

    def on_connection_close(self) -> None:
        self.answered = True
        self._desk.over(self)

    def answer(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        """Write the answer. Does nothing when the client has gone."""
        if self.answered:
            return
        self.answered = True
        self._desk.over(self)
        made: Any = _Sent(headers)
        if status != 204:
            made["Content-Length"] = str(len(body))
        sent = body if status != 204 and self.method != "HEAD" else None
        line = httputil.ResponseStartLine("HTTP/1.1", status, REASONS.get(status, "Unknown"))
        try:
            self._connection.write_headers(line, made, sent)
            self._connection.finish()
        except StreamClosedError:
            log.debug("client went away path=%s", self.target)
        except (ValueError, httputil.HTTPOutputError):
            log.exception("the answer cannot be written path=%s", self.target.partition("?")[0])
            self._connection.close()
