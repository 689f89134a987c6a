"""What the companions have in common: a table of routes on a port, tokens, bodies, and errors as answers.

Handlers run on worker threads. They return a Response or raise an error of `cell_service.errors`, whose field
`kind` (when it has one) names it in the service's own words.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import tempfile
from collections.abc import Awaitable, Callable, Iterable, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, Any
from urllib.parse import parse_qs, unquote

from api_cell.edge.auth import Authenticator, Identity
from cell_service.context import new_request_id
from cell_service.errors import (
    BadMethod,
    Forbidden,
    Invalid,
    NotFound,
    PolycellError,
    TooLarge,
    Unauthenticated,
    UnsupportedMedia,
)
from cell_service.http.exchange import PIECE_BYTES, Exchange
from cell_service.http.front import Front, Sent
from tools.companions.tokens import CachingAuthenticator

log = logging.getLogger(__name__)

THREADS = 4
MOST_JSON_BYTES = 4 << 20
MOST_BYTES = 1 << 40
NO_CALLER = Identity("")


@dataclass(frozen=True, slots=True)
class Request:
    """One request. `query` has every parameter as the list of its values; `upload` is the file with the body
    of a route that takes one."""

    method: str
    path: str
    params: Mapping[str, str]
    query: Mapping[str, list[str]]
    headers: Mapping[str, str]
    body: Any
    caller: Identity
    origin: str
    """Scheme, host and port as the client sees them."""
    upload: Path | None = None

    @property
    def is_admin(self) -> bool:
        return "admin" in self.caller.roles

    def one(self, name: str, default: str | None = None) -> str | None:
        """The last value given for a query parameter."""
        values = self.query.get(name)
        return values[-1] if values else default

    def demand_admin(self) -> None:
        if not self.is_admin:
            raise Forbidden(reason="You are not authorized to perform the requested action.")

    def content(self, key: str) -> dict[str, Any]:
        """The object under the one key of the body. Raises Invalid."""
        value = self.body.get(key) if isinstance(self.body, dict) else None
        if not isinstance(value, dict):
            raise Invalid(reason=f"The body must be an object with the key '{key}'.")
        return value


@dataclass(frozen=True, slots=True)
class Response:
    """Status, body (JSON data, or None), further headers; `file`: its content is the body."""

    status: int
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    file: Path | None = None


Handler = Callable[[Request], Response]


@dataclass(frozen=True, slots=True)
class Route:
    """`path` has placeholders in braces. `open`: needs no token. `takes_file`: the body is not JSON, but a file."""

    method: str
    path: str
    handler: Handler
    open: bool = False
    takes_file: bool = False


@dataclass(frozen=True, slots=True)
class Service:
    """A companion's API: its routes, the form of its errors, and the service that authenticates its users.

    `upload_directory`: where bodies that are files are gathered. `close` is called when it stops.
    """

    name: str
    routes: tuple[Route, ...]
    render_error: Callable[[int, str, str], Any]
    """From status, kind and message."""
    authenticator: Authenticator
    upload_directory: Path | None = None
    close: Callable[[], None] = lambda: None
    token_seconds: float = 5.0
    """How long the answer of the identity service about a token is cached."""


@dataclass(slots=True)
class _Incoming:
    """A request on its way in: its route, or why it is refused; `upload`, `file`: where its body goes."""

    route: Route | None = None
    params: Mapping[str, str] = field(default_factory=dict)
    upload: Path | None = None
    file: IO[bytes] | None = None
    refused: PolycellError | None = None


class Companion(Front):
    """One companion listening."""

    def __init__(self, service: Service) -> None:
        super().__init__(service.name, _Application(service), max_body_size=MOST_BYTES, chunk_size=PIECE_BYTES)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


class _Application:
    """Handles the requests of one service."""

    most_bytes = MOST_JSON_BYTES

    def __init__(self, service: Service) -> None:
        self._service = service
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix=f"{service.name}-worker")
        self._table = [(re.compile(_pattern(route.path)), route) for route in service.routes]
        self._authenticator = CachingAuthenticator(service.authenticator, service.token_seconds)
        self._incoming: dict[Exchange, _Incoming] = {}

    def begin(self, exchange: Exchange) -> Awaitable[None] | None:
        """Find the route; of one that takes a file, open it, unless the sender is unauthenticated."""
        incoming = self._incoming[exchange] = _Incoming()
        try:
            incoming.route, incoming.params = self._find(exchange.method, exchange.target.partition("?")[0])
        except PolycellError as error:
            incoming.refused = error
            return None
        if not incoming.route.takes_file:
            return None
        run = partial(asyncio.get_running_loop().run_in_executor, self._pool)
        exchange.take = partial(run, self._write, incoming)
        return run(self._open_upload, exchange, incoming)

    def at_once(self, exchange: Exchange) -> Sent | None:
        """Every answer needs a thread."""
        return None

    def workers(self, exchange: Exchange) -> Executor:
        return self._pool

    def answer(self, exchange: Exchange) -> Sent:
        request_id = new_request_id()
        try:
            response = self._perform(exchange, self._incoming[exchange])
        except PolycellError as error:
            response = self._error(error)
        except Exception:
            log.exception("request failed", extra={"request_id": request_id})
            message = f"Something went wrong. The request id is {request_id}."
            response = Response(500, self._service.render_error(500, "InternalServerError", message))
        return _sent(response, request_id)

    def end(self, exchange: Exchange) -> None:
        incoming = self._incoming.pop(exchange)
        if incoming.file is not None:
            incoming.file.close()
        if incoming.upload is not None:
            incoming.upload.unlink(missing_ok=True)

    def close(self) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._service.close()

    def _open_upload(self, exchange: Exchange, incoming: _Incoming) -> None:
        try:
            self._identify(exchange.headers)
        except PolycellError as error:
            incoming.refused = error
        else:
            handle, name = tempfile.mkstemp(dir=self._service.upload_directory, prefix="upload-")
            incoming.upload, incoming.file = Path(name), os.fdopen(handle, "wb")

    def _write(self, incoming: _Incoming, piece: bytes) -> None:
        if incoming.file is not None:
            incoming.file.write(piece)

    def _perform(self, exchange: Exchange, incoming: _Incoming) -> Response:
        if incoming.refused is not None:
            raise incoming.refused
        if exchange.oversize:
            raise TooLarge()
        route = incoming.route
        assert route is not None
        caller = NO_CALLER if route.open else self._identify(exchange.headers)
        if incoming.file is not None:
            incoming.file.close()
        path, _, query = exchange.target.partition("?")
        headers = exchange.headers
        protocol = headers.get("X-Forwarded-Proto", "http")
        made = Request(
            method=exchange.method,
            path=path,
            params=incoming.params,
            query=parse_qs(query, keep_blank_values=True),
            headers=headers,
            body=_json(exchange) if incoming.upload is None else None,
            caller=caller,
            origin=f"{protocol}://{headers.get('X-Forwarded-Host') or headers.get('Host', '')}",
            upload=incoming.upload,
        )
        return route.handler(made)

    def _identify(self, headers: Mapping[str, str]) -> Identity:
        token = headers.get("X-Auth-Token")
        if not token:
            raise Unauthenticated()
        return self._authenticator.authenticate(token, headers.get("X-Service-Token"))

    def _find(self, method: str, path: str) -> tuple[Route, Mapping[str, str]]:
        path = path.rstrip("/") or "/"
        path = path.removesuffix(".json")
        allowed = set()
        for pattern, route in self._table:
            found = pattern.fullmatch(path)
            if found is None:
                continue
            if route.method == method or (method == "HEAD" and route.method == "GET"):
                return route, {name: unquote(value) for name, value in found.groupdict().items()}
            allowed.add(route.method)
        if allowed:
            raise BadMethod(method=method, allow=", ".join(sorted(allowed)))
        raise NotFound(reason="The resource could not be found.")

    def _error(self, error: PolycellError) -> Response:
        headers = {}
        if isinstance(error, Unauthenticated):
            headers["WWW-Authenticate"] = self._service.authenticator.challenge
        if isinstance(error, BadMethod):
            headers["Allow"] = str(error.fields.get("allow", ""))
        kind = str(error.fields.get("kind", type(error).__name__))
        status = int(error.fields.get("status", error.status))
        return Response(status, self._service.render_error(status, kind, str(error)), headers)


def _pattern(path: str) -> str:
    return re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", path)


def _sent(response: Response, request_id: str) -> Sent:
    headers = {"X-Openstack-Request-Id": request_id, "Vary": "X-Auth-Token"}
    body = b""
    if response.body is not None:
        body = json.dumps(response.body, separators=(",", ":")).encode()
        headers["Content-Type"] = "application/json"
    return Sent(response.status, body, {**headers, **response.headers}, response.file)


def _json(exchange: Exchange) -> Any:
    if not exchange.body:
        return None
    content_type = exchange.headers.get("Content-Type", "application/json").partition(";")[0].strip().lower()
    if "json" not in content_type:
        raise UnsupportedMedia(content_type=content_type)
    try:
        return json.loads(exchange.body)
    except (ValueError, RecursionError) as error:
        raise Invalid(reason="Malformed request body: it is not JSON.") from error


def fields_shown(record: dict[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """The record with these fields only; all when none is named."""
    chosen = set(names)
    return {key: value for key, value in record.items() if key in chosen} if chosen else record
