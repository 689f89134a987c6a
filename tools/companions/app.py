"""A companion on a port: tokens, bodies and files of its requests, and errors as its answers."""

from __future__ import annotations

import asyncio
import logging
import os
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, Any
from urllib.parse import parse_qs

from api_cell.edge.auth import Authenticator, Identity, credentials
from api_cell.edge.schema import Validator
from cell_service.context import new_request_id
from cell_service.errors import (
    BadMethod,
    Forbidden,
    Invalid,
    PolycellError,
    TooLarge,
    Unauthenticated,
    UnsupportedMedia,
)
from cell_service.http.exchange import PIECE_BYTES, Exchange
from cell_service.http.forwarded import origin
from cell_service.http.front import Front, Respond, on_thread
from cell_service.http.json_body import content_type, parse_json
from cell_service.http.response import RenderedResponse, Response
from tools.companions.route import CompanionRequest, CompanionRoute, RouteTable
from tools.companions.tokens import CachingAuthenticator

log = logging.getLogger(__name__)

THREADS = 4
MOST_JSON_BYTES = 114_688
"""As oslo.middleware has it for the services themselves."""
MOST_BYTES = 1 << 40
"""The most bytes of a file: the image service's own limit, unless its operator has set another."""
NO_CALLER = Identity("")
MAY_CHANGE = frozenset({"member", "manager", "admin"})
MAY_READ = MAY_CHANGE | {"reader"}
"""The default rules that the network, image, block storage and shared file system services have published."""


@dataclass(frozen=True, slots=True)
class CompanionApi:
    """A companion's routes, the form of its errors, and the service that authenticates its users.

    `upload_directory`: where bodies that are files are gathered. `close` is called when it stops.
    """

    name: str
    routes: tuple[CompanionRoute, ...]
    render_error: Callable[[int, str, str], Any]
    """Makes the body of an error from status, kind and message."""
    authenticator: Authenticator
    upload_directory: Path | None = None
    close: Callable[[], None] = lambda: None
    version_headers: Callable[[Mapping[str, str]], Mapping[str, str]] = lambda headers: {}
    """The headers in which an answer names the API's version, from the headers of its request."""
    by_role: bool = True
    """Whether its users need a role to read what is their project's, and another to change it."""
    token_seconds: float = 5.0
    """How long the answer of the identity service about a token is cached."""


class Companion(Front):
    """One companion listening."""

    def __init__(self, api: CompanionApi) -> None:
        super().__init__(api.name, _Application(api), max_body_size=MOST_BYTES, chunk_size=PIECE_BYTES)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@dataclass(slots=True)
class _Incoming:
    """A request on its way in: its route, or why it is refused; `upload`, `file`: where its body goes."""

    route: CompanionRoute | None = None
    params: Mapping[str, str] = field(default_factory=dict)
    upload: Path | None = None
    file: IO[bytes] | None = None
    refused: PolycellError | None = None


class _Application:
    """Handles the requests of one companion."""

    most_bytes = MOST_JSON_BYTES

    def __init__(self, api: CompanionApi) -> None:
        self._api = api
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix=f"{api.name}-worker")
        self._table = RouteTable(api.routes)
        self._authenticator = CachingAuthenticator(api.authenticator, api.token_seconds)
        self._incoming: dict[Exchange, _Incoming] = {}

    def begin(self, exchange: Exchange) -> Awaitable[None] | None:
        """Find the route; of one that takes a file, open it, unless the sender is unauthenticated."""
        incoming = self._incoming[exchange] = _Incoming()
        try:
            incoming.route, incoming.params = self._table.find(exchange.method, exchange.target.partition("?")[0])
        except PolycellError as error:
            incoming.refused = error
            return None
        if not incoming.route.takes_file:
            return None
        run = partial(asyncio.get_running_loop().run_in_executor, self._pool)
        exchange.take = partial(run, self._write, incoming)
        return self._uploading(exchange, incoming, run(self._open_upload, exchange, incoming))

    def serve(self, exchange: Exchange, respond: Respond) -> None:
        on_thread(self._pool, partial(self._answer, exchange, self._incoming[exchange]), respond)

    def end(self, exchange: Exchange) -> None:
        incoming = self._incoming.pop(exchange)
        if incoming.file is not None:
            incoming.file.close()
        if incoming.upload is not None:
            incoming.upload.unlink(missing_ok=True)

    def close(self) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._api.close()

    async def _uploading(self, exchange: Exchange, incoming: _Incoming, opened: Awaitable[None]) -> None:
        """Wait until the file is open. A body that is refused is read like any other that is too long: not far."""
        await opened
        if incoming.refused is not None:
            exchange.take = None

    def _open_upload(self, exchange: Exchange, incoming: _Incoming) -> None:
        try:
            self._identify(exchange)
        except PolycellError as error:
            incoming.refused = error
        else:
            handle, name = tempfile.mkstemp(dir=self._api.upload_directory, prefix="upload-")
            incoming.upload, incoming.file = Path(name), os.fdopen(handle, "wb")

    def _write(self, incoming: _Incoming, piece: bytes) -> None:
        if incoming.file is not None:
            incoming.file.write(piece)

    def _answer(self, exchange: Exchange, incoming: _Incoming) -> RenderedResponse:
        request_id = new_request_id()
        try:
            sent = self._perform(exchange, incoming).rendered()
        except PolycellError as error:
            sent = self._error(error).rendered()
        except Exception:
            log.exception("request failed", extra={"request_id": request_id})
            message = f"Something went wrong. The request id is {request_id}."
            sent = Response(500, self._api.render_error(500, "InternalServerError", message)).rendered()
        headers = {"X-Openstack-Request-Id": request_id, "Vary": "X-Auth-Token"}
        headers |= self._api.version_headers(exchange.headers)
        if sent.body:
            headers["Content-Type"] = "application/json"
        return RenderedResponse(sent.status, sent.body, {**headers, **sent.headers}, sent.file)

    def _perform(self, exchange: Exchange, incoming: _Incoming) -> Response:
        if incoming.refused is not None:
            raise incoming.refused
        if exchange.oversize:
            raise TooLarge()
        route = incoming.route
        assert route is not None
        caller = NO_CALLER if route.open else self._identify(exchange)
        if incoming.file is not None:
            incoming.file.close()
        path, _, query = exchange.target.partition("?")
        request = CompanionRequest(
            method=exchange.method,
            path=path,
            params=incoming.params,
            query=parse_qs(query, keep_blank_values=True),
            headers=exchange.headers,
            body=_body(exchange, route) if incoming.upload is None else None,
            caller=caller,
            origin=origin(exchange.headers, exchange.protocol, behind_proxy=True),
            upload=incoming.upload,
        )
        return route.handler(request)

    def _identify(self, exchange: Exchange) -> Identity:
        """The caller, whose roles allow this method. Raises Unauthenticated, Forbidden, PeerUnavailable."""
        caller = self._authenticator.authenticate(*credentials(exchange.headers))
        allowed = MAY_READ if exchange.method in ("GET", "HEAD") else MAY_CHANGE
        if self._api.by_role and allowed.isdisjoint(caller.roles):
            raise Forbidden(reason="Policy doesn't allow this to be performed.", kind="PolicyNotAuthorized")
        return caller

    def _error(self, error: PolycellError) -> Response:
        headers = {}
        if isinstance(error, Unauthenticated):
            headers["WWW-Authenticate"] = self._api.authenticator.challenge
        if isinstance(error, BadMethod):
            headers["Allow"] = str(error.fields.get("allow", ""))
        kind = str(error.fields.get("kind", type(error).__name__))
        status = int(error.fields.get("status", error.status))
        return Response(status, self._api.render_error(status, kind, str(error)), headers)


def _body(exchange: Exchange, route: CompanionRoute) -> Any:
    """The body, which fits the route's schema. Raises Invalid, UnsupportedMedia."""
    body = _json(exchange)
    if route.body is not None:
        Validator.of(route.body).check(body)
    return body


def _json(exchange: Exchange) -> Any:
    if not exchange.body:
        return None
    kind = content_type(exchange.headers.get("Content-Type", "application/json"))
    if "json" not in kind:
        raise UnsupportedMedia(content_type=kind)
    try:
        return parse_json(exchange.body)
    except ValueError as error:
        raise Invalid(reason="Malformed request body: it is not JSON.") from error
