"""The metadata service on a port. The loop parses and writes sockets, questions are answered on bounded threads."""

from __future__ import annotations

import asyncio
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http.client import responses

from tornado import httputil
from tornado.iostream import StreamClosedError

from cell_service.context import Context, Deadline, new_request_id
from cell_service.errors import PolycellError, TooLarge, Unavailable
from cell_service.listening import Listener
from cell_service.logs import about
from cell_service.metadata.service import Answer, MetadataService, Question

log = logging.getLogger(__name__)

MOST_BYTES = 65536
"""Of a body: the longest that has a meaning is a password."""
SECONDS = 30.0
RETRY_SECONDS = 5
THREADS = 16
MOST_OPEN = 512


class MetadataServer(httputil.HTTPServerConnectionDelegate):
    """One metadata service listening. `start` and `drain` may be called from any thread; `drain` twice is no error."""

    def __init__(self, service: MetadataService, *, threads: int = THREADS) -> None:
        self.service = service
        self.workers = ThreadPoolExecutor(threads, thread_name_prefix="metadata")
        self.patient = ThreadPoolExecutor(threads, thread_name_prefix="metadata-patient")
        """For questions that wait for services of the deployer: they must not hold up the others."""
        self.open = 0
        self._listener = Listener("metadata", self, busy=lambda: self.open, ended=self._end, max_body_size=1 << 20)
        self.start, self.drain = self._listener.start, self._listener.drain

    @property
    def port(self) -> int:
        """The port it listens on (0 was asked: the one it got)."""
        return self._listener.port

    def start_request(self, server_conn: object, request_conn: httputil.HTTPConnection) -> _Exchange:
        return _Exchange(self, request_conn)

    def on_close(self, server_conn: object) -> None:
        """Nothing is kept for a connection."""

    def _end(self) -> None:
        for pool in (self.workers, self.patient):
            pool.shutdown(wait=False, cancel_futures=True)
        self.service.close()


class _Exchange(httputil.HTTPMessageDelegate):
    """One request on a connection, and its answer. Everything here runs on the loop."""

    def __init__(self, server: MetadataServer, connection: httputil.HTTPConnection) -> None:
        self._server, self._connection = server, connection
        self._body = b""
        self._whole = True
        self._gone = False

    def headers_received(  # type: ignore[override]
        self, start_line: httputil.RequestStartLine, headers: httputil.HTTPHeaders
    ) -> None:
        self._start_line, self._headers = start_line, headers

    def data_received(self, chunk: bytes) -> None:
        self._whole = self._whole and len(self._body) + len(chunk) <= MOST_BYTES
        if self._whole:
            self._body += chunk

    def finish(self) -> None:
        self._server.open += 1
        self._task = asyncio.ensure_future(self._answer())

    def on_connection_close(self) -> None:
        self._gone = True

    async def _answer(self) -> None:
        began = time.monotonic()
        method, path = self._start_line.method, self._start_line.path
        context = getattr(self._connection, "context", None)
        remote = str(getattr(context, "remote_ip", ""))
        ctx = Context(request_id=new_request_id(), remote_address=remote, deadline=Deadline.after(SECONDS))
        headers = {name.lower(): value for name, value in self._headers.get_all()}
        try:
            status, answer, extra = await self._ask(ctx, Question(method, path, remote, headers, self._body))
            log.info(
                "answered",
                extra=about(
                    ctx, method=method, path=path, status=status, bytes=len(answer.body), remote=remote,
                    instance=headers.get("x-instance-id"), seconds=round(time.monotonic() - began, 3),
                ),
            )  # fmt: skip
            if not self._gone:
                await self._write(status, answer, {"X-Openstack-Request-Id": ctx.request_id, **extra})
        except StreamClosedError:
            log.debug("guest went away")
        except Exception:
            log.exception("an answer cannot be written")
            getattr(self._connection, "close", lambda: None)()
        finally:
            self._server.open -= 1

    async def _ask(self, ctx: Context, question: Question) -> tuple[int, Answer, dict[str, str]]:
        if question.path == "/healthz":
            return 200, Answer(b"OK"), {}
        try:
            if not self._whole:
                raise TooLarge()
            if self._server.open > MOST_OPEN:
                raise Unavailable(reason="Too many requests at once.")
            service = self._server.service
            pool = self._server.patient if service.may_take_long(question) else self._server.workers
            work = partial(service.answer, ctx, question)
            return 200, await asyncio.get_running_loop().run_in_executor(pool, work), {}
        except PolycellError as error:
            if error.status >= 500:
                log.warning("cannot answer", extra=about(ctx, path=question.path, reason=error))
            extra = {"Retry-After": str(RETRY_SECONDS)} if error.status == 503 else {}
            return error.status, Answer(_page(error.status)), extra
        except Exception:
            log.exception("a bug", extra=about(ctx, path=question.path))
            return 500, Answer(_page(500)), {}

    async def _write(self, status: int, answer: Answer, extra: dict[str, str]) -> None:
        line = httputil.ResponseStartLine("HTTP/1.1", status, responses.get(status, "Other"))
        headers = httputil.HTTPHeaders({"Content-Type": answer.content_type, **extra})
        headers["Content-Length"] = str(len(answer.body))
        sent = b"" if self._start_line.method == "HEAD" else answer.body
        await self._connection.write_headers(line, headers, sent or None)
        self._connection.finish()


def _page(status: int) -> bytes:
    """The guest learns what kind of failure it is, and nothing of the cloud."""
    return f"{status} {responses.get(status, '')}\n".encode()
