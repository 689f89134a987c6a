"""A companion on a port, on a loop of its own thread or of a whole process; bodies and files go through in pieces."""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import socket
import threading
from collections.abc import Callable
from concurrent.futures import Future
from http.client import responses
from pathlib import Path

import tornado.netutil
from tornado import httputil
from tornado.httpserver import HTTPServer
from tornado.iostream import StreamClosedError

from cell_service.errors import Unavailable
from tools.companions.app import Desk, Gathering, Response, Service

log = logging.getLogger(__name__)

MOST_BYTES = 1 << 40
PIECE_BYTES = 1 << 20
_POLL_SECONDS = 0.02


class Companion(httputil.HTTPServerConnectionDelegate):
    """One service listening. `start` and `drain` may be called from any thread; `drain` twice is no error."""

    def __init__(self, service: Service) -> None:
        self.name = service.name
        self.desk = Desk(service)
        self.open = 0
        self._sockets: list[socket.socket] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._draining = False

    @property
    def port(self) -> int:
        """The port it listens on (0 was asked: the one it got)."""
        return int(self._sockets[0].getsockname()[1])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def bind(self, port: int = 0, address: str = "127.0.0.1") -> None:
        """Take the port. Raises Unavailable when somebody has it."""
        try:
            self._sockets = tornado.netutil.bind_sockets(port, address, family=socket.AF_INET, backlog=256)
        except OSError as error:
            raise Unavailable(reason=f"Cannot listen on {address}:{port}: {error.strerror}") from error

    def start(self, port: int = 0, address: str = "127.0.0.1") -> None:
        """Listen and serve on a thread of its own. Returned: connections are accepted. Raises Unavailable."""
        if not self._sockets:
            self.bind(port, address)
        ready: Future[None] = Future()
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._serve(ready)), name=f"{self.name}-loop", daemon=True
        )
        self._thread.start()
        ready.result(timeout=30)

    def serve(self) -> None:
        """Serve on this (the main) thread until SIGTERM or SIGINT. `bind` before."""
        asyncio.run(self._serve(None))

    def drain(self, seconds: float = 5.0) -> None:
        """Take no new connections, finish what is being served (at most that long), stop. Waits for the end."""
        if self._loop is None or self._thread is None or not self._thread.is_alive():
            return
        self._loop.call_soon_threadsafe(self._begin_drain, seconds)
        self._thread.join(seconds + 5)

    def start_request(self, server_conn: object, request_conn: httputil.HTTPConnection) -> _Exchange:
        return _Exchange(self, request_conn)

    def on_close(self, server_conn: object) -> None:
        """Nothing is kept for a connection."""

    async def _serve(self, ready: Future[None] | None) -> None:
        self._loop = asyncio.get_running_loop()
        self._ended = asyncio.Event()
        self._server = HTTPServer(self, max_body_size=MOST_BYTES, chunk_size=PIECE_BYTES)
        self._server.add_sockets(self._sockets)
        if ready is None:
            for number in (signal.SIGTERM, signal.SIGINT):
                self._loop.add_signal_handler(number, self._begin_drain, 5.0)
        else:
            ready.set_result(None)
        log.info("serving service=%s port=%s", self.name, self.port)
        await self._ended.wait()
        self.desk.workers.shutdown(wait=True, cancel_futures=True)
        self.desk.service.close()

    def _begin_drain(self, seconds: float) -> None:
        if not self._draining:
            self._draining = True
            assert self._loop is not None
            self._task = self._loop.create_task(self._drain(seconds))

    async def _drain(self, seconds: float) -> None:
        assert self._loop is not None
        self._server.stop()
        until = self._loop.time() + seconds
        while self.open and self._loop.time() < until:
            await asyncio.sleep(_POLL_SECONDS)
        await self._server.close_all_connections()
        self._ended.set()


class _Exchange(httputil.HTTPMessageDelegate):
    """One request on a connection, and its answer. Everything here runs on the loop."""

    def __init__(self, companion: Companion, connection: httputil.HTTPConnection) -> None:
        self._companion = companion
        self._connection = connection
        self._request: Gathering | None = None
        self._gone = False
        self._task: asyncio.Task[None] | None = None

    async def headers_received(  # type: ignore[override]
        self, start_line: httputil.RequestStartLine, headers: httputil.HTTPHeaders
    ) -> None:
        self._companion.open += 1
        protocol = headers.get("X-Forwarded-Proto", "http")
        origin = f"{protocol}://{headers.get('X-Forwarded-Host') or headers.get('Host', '')}"
        self._request = Gathering(start_line.method, start_line.path, headers, origin)
        desk = self._companion.desk
        desk.begin(self._request)
        if self._request.route is not None and self._request.route.takes_file:
            await self._on_worker(desk.open_upload)

    async def data_received(self, chunk: bytes) -> None:
        request = self._request
        assert request is not None
        if request.file is None:
            self._companion.desk.chunk(request, chunk)
        else:
            await self._on_worker(lambda gathering: self._companion.desk.chunk(gathering, chunk))

    def finish(self) -> None:
        self._task = asyncio.ensure_future(self._answer())

    def on_connection_close(self) -> None:
        if self._gone:
            return
        self._gone = True
        if self._task is None:
            self._over()

    async def _answer(self) -> None:
        request = self._request
        assert request is not None
        try:
            loop = asyncio.get_running_loop()
            desk = self._companion.desk
            response, request_id = await loop.run_in_executor(desk.workers, desk.answer, request)
            if not self._gone:
                await self._write(request, response, request_id)
        except StreamClosedError:
            log.debug("client went away")
        except Exception:
            log.exception("an answer cannot be written")
            getattr(self._connection, "close", lambda: None)()
        finally:
            self._over()

    async def _write(self, request: Gathering, response: Response, request_id: str) -> None:
        headers = httputil.HTTPHeaders({"X-Openstack-Request-Id": request_id, "Vary": "X-Auth-Token"})
        body = b""
        if response.body is not None:
            body = json.dumps(response.body, separators=(",", ":")).encode()
            headers["Content-Type"] = "application/json"
        for name, value in response.headers.items():
            headers[name] = value
        line = httputil.ResponseStartLine("HTTP/1.1", response.status, responses.get(response.status, "Other"))
        if response.file is not None:
            await self._write_file(line, headers, response.file, head=request.method == "HEAD")
            return
        if response.status != 204:
            headers["Content-Length"] = str(len(body))
        sent = body if response.status != 204 and request.method != "HEAD" else b""
        await self._connection.write_headers(line, headers, sent or None)
        self._connection.finish()

    async def _write_file(
        self, line: httputil.ResponseStartLine, headers: httputil.HTTPHeaders, path: Path, *, head: bool
    ) -> None:
        loop = asyncio.get_running_loop()
        workers = self._companion.desk.workers
        with path.open("rb") as file:
            headers["Content-Length"] = str(path.stat().st_size)
            await self._connection.write_headers(line, headers)
            while not head:
                piece = await loop.run_in_executor(workers, file.read, PIECE_BYTES)
                if not piece:
                    break
                await self._connection.write(piece)
        self._connection.finish()

    async def _on_worker(self, work: Callable[[Gathering], None]) -> None:
        assert self._request is not None
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._companion.desk.workers, work, self._request)

    def _over(self) -> None:
        if self._request is not None:
            self._companion.open -= 1
            self._companion.desk.drop(self._request)
            self._request = None
