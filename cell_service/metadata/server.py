"""The metadata service on a port: requests of guests, answered on bounded threads."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http.client import responses

from cell_service.context import Context, Deadline, new_request_id
from cell_service.errors import PolycellError, TooLarge, Unavailable
from cell_service.http.exchange import Exchange
from cell_service.http.front import Front, Respond, on_thread
from cell_service.http.response import RenderedResponse
from cell_service.logs import about
from cell_service.metadata.service import Document, MetadataQuery, MetadataService

log = logging.getLogger(__name__)

SECONDS = 30.0
RETRY_SECONDS = 5
THREADS = 16
MOST_OPEN = 512


class MetadataServer(Front):
    """One metadata service listening."""

    def __init__(self, service: MetadataService, *, threads: int = THREADS) -> None:
        super().__init__(
            "metadata", MetadataApplication(service, threads, lambda: self.open_requests), max_body_size=1 << 20
        )


class MetadataApplication:
    """`open_requests` says how many requests are unanswered now: more than MOST_OPEN are refused."""

    most_bytes = 65536
    """The longest valid body is a password."""

    def __init__(self, service: MetadataService, threads: int, open_requests: Callable[[], int]) -> None:
        self._service, self._open_requests = service, open_requests
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="metadata")
        self._patient = ThreadPoolExecutor(threads, thread_name_prefix="metadata-patient")
        """Threads for requests that wait for the deployer's services: they must not delay the others."""

    def begin(self, exchange: Exchange) -> None:
        """Nothing is to be done before the body."""

    def serve(self, exchange: Exchange, respond: Respond) -> None:
        at_once = self._at_once(exchange)
        if at_once is not None:
            respond(at_once)
            return
        workers = self._patient if self._service.may_take_long(_question(exchange)) else self._pool
        on_thread(workers, partial(self._answer, exchange), respond)

    def _at_once(self, exchange: Exchange) -> RenderedResponse | None:
        """The answer to a request that needs no thread: health, or a refusal when there is too much to do; None for any
        other request."""
        ctx = Context(request_id=new_request_id(), remote_address=exchange.peer)
        if exchange.target == "/healthz":
            return self._logged(ctx, exchange, _sent(ctx, 200, Document(b"OK")))
        if exchange.oversize:
            return self._logged(ctx, exchange, _refused(ctx, exchange, TooLarge()))
        if self._open_requests() > MOST_OPEN:
            busy = Unavailable(reason="Too many requests at once.")
            return self._logged(ctx, exchange, _refused(ctx, exchange, busy))
        return None

    def _answer(self, exchange: Exchange) -> RenderedResponse:
        ctx = Context(request_id=new_request_id(), remote_address=exchange.peer, deadline=Deadline.after(SECONDS))
        return self._logged(ctx, exchange, self._answered(ctx, exchange))

    def _logged(self, ctx: Context, exchange: Exchange, sent: RenderedResponse) -> RenderedResponse:
        log.info(
            "answered",
            extra=about(
                ctx, method=exchange.method, path=exchange.target, status=sent.status, bytes=len(sent.body),
                remote=exchange.peer, instance=exchange.headers.get("X-Instance-ID"),
                seconds=round(time.monotonic() - exchange.started, 3),
            ),
        )  # fmt: skip
        return sent

    def end(self, exchange: Exchange) -> None:
        """Do nothing: no request leaves anything behind."""

    def close(self) -> None:
        for pool in (self._pool, self._patient):
            pool.shutdown(wait=False, cancel_futures=True)
        self._service.close()

    def _answered(self, ctx: Context, exchange: Exchange) -> RenderedResponse:
        try:
            return _sent(ctx, 200, self._service.answer(ctx, _question(exchange)))
        except PolycellError as error:
            return _refused(ctx, exchange, error)
        except Exception:
            log.exception("a bug", extra=about(ctx, path=exchange.target))
            return _sent(ctx, 500, Document(_page(500)))


def _question(exchange: Exchange) -> MetadataQuery:
    headers = {name.lower(): value for name, value in exchange.headers.get_all()}
    return MetadataQuery(exchange.method, exchange.target, exchange.peer, headers, exchange.body)


def _sent(ctx: Context, status: int, document: Document, **more: str) -> RenderedResponse:
    headers = {"Content-Type": document.content_type, "X-Openstack-Request-Id": ctx.request_id, **more}
    return RenderedResponse(status, document.body, headers)


def _refused(ctx: Context, exchange: Exchange, error: PolycellError) -> RenderedResponse:
    if error.status >= 500:
        log.warning("cannot answer", extra=about(ctx, path=exchange.target, reason=error))
    pause = {"Retry-After": str(RETRY_SECONDS)} if error.status == 503 else {}
    return _sent(ctx, error.status, Document(_page(error.status)), **pause)


def _page(status: int) -> bytes:
    """A page that says what kind of failure it is, and nothing about the cloud."""
    return f"{status} {responses.get(status, '')}\n".encode()
