"""An application on a port: its requests are counted, answered whole or by a file's content, and ended.

The APIs, the metadata service and the companions are such applications.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from functools import partial
from typing import Protocol

from tornado import httputil

from cell_service.http.exchange import Exchange
from cell_service.http.listener import Listener
from cell_service.http.response import RenderedResponse

log = logging.getLogger(__name__)

Respond = Callable[[RenderedResponse], None]
"""Sends the answer of one request; called on the loop."""


class Application(Protocol):
    """The application behind a port. All its methods are called on the loop."""

    @property
    def most_bytes(self) -> int:
        """The longest body that is kept in memory; a longer one is `exchange.oversize`."""

    def begin(self, exchange: Exchange) -> Awaitable[None] | None:
        """Called when the headers have been read. May set `exchange.take`."""

    def serve(self, exchange: Exchange, respond: Respond) -> None:
        """Called when the request is whole, or too long. `respond` is called once: now, or when a thread has the answer
        (`on_thread`). Never raises."""

    def end(self, exchange: Exchange) -> None:
        """Called when the request is over, one way or the other."""

    def close(self) -> None:
        """Called when no request comes any more."""


def on_thread(workers: Executor, work: Callable[[], RenderedResponse], respond: Respond) -> None:
    """Have a worker thread make the answer, and call `respond` with it on the loop, from which this must be called."""
    call_soon = asyncio.get_running_loop().call_soon_threadsafe

    def run() -> None:
        try:
            response = work()
        except Exception:
            log.exception("a request was not answered")
            response = RenderedResponse(500)
        call_soon(respond, response)

    workers.submit(run)


class Front(Listener):
    """An application listening. `start` and `drain` may be called from any thread; `drain` twice is no error.

    While it drains, answers ask clients to close their connections. `http` is for tornado's server.
    """

    def __init__(self, name: str, application: Application, *, drain_seconds: float = 5.0, **http: object) -> None:
        self._exchanges = _Exchanges(application, lambda: self.draining)
        super().__init__(
            name,
            self._exchanges,
            busy=lambda: self.open_requests,
            ended=application.close,
            drain_seconds=drain_seconds,
            **http,
        )

    @property
    def open_requests(self) -> int:
        """Requests that have begun and are not over."""
        return self._exchanges.open


class _Exchanges(httputil.HTTPServerConnectionDelegate):
    """The requests of all connections, each from its headers to its end."""

    def __init__(self, application: Application, draining: Callable[[], bool]) -> None:
        self.open = 0
        self._application, self._draining = application, draining
        self._served: set[Exchange] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    def start_request(self, server_conn: object, request_conn: httputil.HTTPConnection) -> Exchange:
        return Exchange(request_conn, self._application.most_bytes, self)

    def on_close(self, server_conn: object) -> None:
        """Do nothing: no state is kept for a connection."""

    def begun(self, exchange: Exchange) -> Awaitable[None] | None:
        self.open += 1
        return self._application.begin(exchange)

    def serve(self, exchange: Exchange) -> None:
        if exchange not in self._served:  # one that is too long is served before its end
            self._served.add(exchange)
            self._application.serve(exchange, partial(self._respond, exchange))

    def over(self, exchange: Exchange) -> None:
        if exchange not in self._served:  # the client went away before its request was whole
            self._ended(exchange)

    def _respond(self, exchange: Exchange, response: RenderedResponse) -> None:
        headers = {**response.headers, "Connection": "close"} if self._draining() else response.headers
        if response.file is None:
            exchange.answer(response.status, headers, response.body)
            self._ended(exchange)
            return
        task = asyncio.ensure_future(exchange.answer_file(response.status, headers, response.file))
        self._tasks.add(task)
        task.add_done_callback(partial(self._file_sent, exchange))

    def _file_sent(self, exchange: Exchange, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._ended(exchange)

    def _ended(self, exchange: Exchange) -> None:
        self._served.discard(exchange)
        self.open -= 1
        self._application.end(exchange)
