"""A companion on a port, on a loop of its own thread or of a whole process; bodies and files go through in pieces."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from http.client import responses
from pathlib import Path

from tornado import httputil
from tornado.iostream import StreamClosedError

from cell_service.listening import Listener
from tools.companions.app import Desk, Gathering, Response, Service

log = logging.getLogger(__name__)

MOST_BYTES = 1 << 40
PIECE_BYTES = 1 << 20


class Companion(httputil.HTTPServerConnectionDelegate):
    """One service listening. `start` and `drain` may be called from any thread; `drain` twice is no error."""

    def __init__(self, service: Service) -> None:
        self.desk = Desk(service)
        self.open = 0
        self._listener = Listener(
            service.name,
            self,
            busy=lambda: self.open,
            ended=self._end,
            max_body_size=MOST_BYTES,
            chunk_size=PIECE_BYTES,
        )
        self.bind, self.start, self.serve = self._listener.bind, self._listener.start, self._listener.serve
        self.drain = self._listener.drain

    @property
    def name(self) -> str:
        return self._listener.name

    @property
    def port(self) -> int:
        """The port it listens on (0 was asked: the one it got)."""
        return self._listener.port

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start_request(self, server_conn: object, request_conn: httputil.HTTPConnection) -> _Exchange:
        return _Exchange(self, request_conn)

    def on_close(self, server_conn: object) -> None:
        """Nothing is kept for a connection."""

    def _end(self) -> None:
        self.desk.workers.shutdown(wait=True, cancel_futures=True)
        self.desk.service.close()


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
