"""A service whose requests are answered whole, each on a worker thread: the metadata service and the companions.

The APIs have a sink of their own (`api_cell.edge`), which does some work on the loop, without a thread.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from tornado import httputil

from cell_service.http.exchange import Exchange
from cell_service.http.listener import Listener

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Sent:
    """What is sent back: status, headers, and as the body either bytes or the content of a file."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    file: Path | None = None


class Application(Protocol):
    """What is behind the port."""

    most_bytes: int
    """The longest body that is kept in memory; a longer one is `exchange.oversize`."""

    def begin(self, exchange: Exchange) -> Awaitable[None] | None:
        """The headers have been read; called on the loop. May set `exchange.take`."""

    def at_once(self, exchange: Exchange) -> Sent | None:
        """An answer that needs no thread, made on the loop: health, and refusals when there is too much to do."""

    def workers(self, exchange: Exchange) -> Executor:
        """The threads that answer this request."""

    def answer(self, exchange: Exchange) -> Sent:
        """The answer, made on a worker thread. Never raises."""

    def end(self, exchange: Exchange) -> None:
        """The request is over, one way or the other; called on the loop."""

    def close(self) -> None:
        """No request comes any more."""


class Front(httputil.HTTPServerConnectionDelegate):
    """An application listening. `start` and `drain` may be called from any thread; `drain` twice is no error. `run`
    serves on the main thread until SIGTERM."""

    def __init__(self, name: str, application: Application, **http: Any) -> None:
        self.open = 0
        self._application = application
        self._tasks: dict[Exchange, asyncio.Task[None]] = {}
        self._listener = Listener(name, self, busy=lambda: self.open, ended=application.close, **http)
        self.bind: Callable[..., None] = self._listener.bind
        self.start: Callable[..., None] = self._listener.start
        self.run: Callable[[], None] = self._listener.serve
        self.drain: Callable[..., None] = self._listener.drain

    @property
    def name(self) -> str:
        return self._listener.name

    @property
    def port(self) -> int:
        """The port it listens on; for a configured 0, the one that the system chose."""
        return self._listener.port

    def start_request(self, server_conn: object, request_conn: httputil.HTTPConnection) -> Exchange:
        return Exchange(request_conn, self._application.most_bytes, self)

    def on_close(self, server_conn: object) -> None:
        """Nothing is kept for a connection."""

    def begun(self, exchange: Exchange) -> Awaitable[None] | None:
        self.open += 1
        return self._application.begin(exchange)

    def serve(self, exchange: Exchange) -> None:
        if exchange not in self._tasks:  # one that is too long is served before its end
            self._tasks[exchange] = asyncio.ensure_future(self._answer(exchange))

    def over(self, exchange: Exchange) -> None:
        if exchange not in self._tasks:  # the client went away before its request was whole
            self._ended(exchange)

    async def _answer(self, exchange: Exchange) -> None:
        application = self._application
        try:
            workers = application.workers(exchange)
            sent = application.at_once(exchange)
            if sent is None:
                sent = await asyncio.get_running_loop().run_in_executor(workers, application.answer, exchange)
            if sent.file is None:
                exchange.answer(sent.status, sent.headers, sent.body)
            else:
                await exchange.answer_file(sent.status, sent.headers, sent.file, workers)
        except Exception:
            log.exception("a request was not answered path=%s", exchange.target.partition("?")[0])
            exchange.abort()
        finally:
            self._tasks.pop(exchange, None)
            self._ended(exchange)

    def _ended(self, exchange: Exchange) -> None:
        self.open -= 1
        self._application.end(exchange)
