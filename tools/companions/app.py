"""What the companions have in common: a table of routes on a port, tokens, bodies, and errors as answers.

Handlers run on worker threads. They return a Response or raise an error of `cell_service.errors`, whose field
`kind` (when it has one) names it in the service's own words.
"""

from __future__ import annotations

import json
import logging
import re
import tempfile
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
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
from tools.companions.tokens import Known

log = logging.getLogger(__name__)

THREADS = 4
MOST_JSON_BYTES = 4 << 20
NOBODY = Identity("")


@dataclass(frozen=True, slots=True)
class Request:
    """One request. `query` has every parameter as the list of its values; `upload` is the file that holds the body
    of a route that takes one."""

    method: str
    path: str
    params: Mapping[str, str]
    query: Mapping[str, list[str]]
    headers: Mapping[str, str]
    body: Any
    who: Identity
    origin: str
    """Scheme, host and port as the client sees them."""
    upload: Path | None = None

    @property
    def is_admin(self) -> bool:
        return "admin" in self.who.roles

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
    """A companion's API: its routes, how its errors look, and who knows its users.

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
    """How long it is remembered whose a token is, and that it is nobody's."""


@dataclass(slots=True)
class Gathering:
    """A request as it comes in."""

    method: str
    target: str
    headers: Mapping[str, str]
    origin: str
    body: bytearray = field(default_factory=bytearray)
    upload: Path | None = None
    file: Any = None
    refused: PolycellError | None = None
    route: Route | None = None
    params: Mapping[str, str] = field(default_factory=dict)


class Desk:
    """Carries out the requests of one service. Thread-safe."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.workers = ThreadPoolExecutor(THREADS, thread_name_prefix=f"{service.name}-worker")
        self._table = [(re.compile(_pattern(route.path)), route) for route in service.routes]
        self._known = Known(service.authenticator, service.token_seconds)

    def begin(self, request: Gathering) -> None:
        """Find the route. Does not block."""
        try:
            request.route, request.params = self._find(request.method, request.target.partition("?")[0])
            length = request.headers.get("Content-Length", "0")
            if not request.route.takes_file and length.isdigit() and int(length) > MOST_JSON_BYTES:
                raise TooLarge()
        except PolycellError as error:
            request.refused = error

    def open_upload(self, request: Gathering) -> None:
        """Open a file for the body, unless the sender is nobody we know. Blocks."""
        try:
            self._identify(request.headers)
        except PolycellError as error:
            request.refused = error
        else:
            made = tempfile.NamedTemporaryFile(dir=self.service.upload_directory, prefix="upload-", delete=False)  # noqa: SIM115
            request.upload, request.file = Path(made.name), made

    def chunk(self, request: Gathering, data: bytes) -> None:
        """Take a part of the body. Blocks on the disk for as long as writing it takes."""
        if request.refused is not None:
            return
        if request.file is not None:
            request.file.write(data)
            return
        request.body += data
        if len(request.body) > MOST_JSON_BYTES:
            request.refused = TooLarge()
            request.body.clear()

    def drop(self, request: Gathering) -> None:
        """The request is over, one way or the other."""
        if request.file is not None:
            request.file.close()
        if request.upload is not None:
            request.upload.unlink(missing_ok=True)

    def answer(self, request: Gathering) -> tuple[Response, str]:
        """The answer and the request's id. Never raises."""
        request_id = new_request_id()
        try:
            return self._perform(request), request_id
        except PolycellError as error:
            return self._error(error), request_id
        except Exception:
            log.exception("request failed", extra={"request_id": request_id})
            message = f"Something went wrong. The request id is {request_id}."
            return Response(500, self.service.render_error(500, "InternalServerError", message)), request_id

    def _perform(self, request: Gathering) -> Response:
        if request.refused is not None:
            raise request.refused
        route = request.route
        assert route is not None
        who = NOBODY if route.open else self._identify(request.headers)
        if request.file is not None:
            request.file.close()
        _path, _, query = request.target.partition("?")
        made = Request(
            method=request.method,
            path=_path,
            params=request.params,
            query=parse_qs(query, keep_blank_values=True),
            headers=request.headers,
            body=_json(request) if request.upload is None else None,
            who=who,
            origin=request.origin,
            upload=request.upload,
        )
        return route.handler(made)

    def _identify(self, headers: Mapping[str, str]) -> Identity:
        token = headers.get("X-Auth-Token")
        if not token:
            raise Unauthenticated()
        return self._known.identify(token, headers.get("X-Service-Token"))

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
            headers["WWW-Authenticate"] = self.service.authenticator.challenge
        if isinstance(error, BadMethod):
            headers["Allow"] = str(error.fields.get("allow", ""))
        kind = str(error.fields.get("kind", type(error).__name__))
        status = int(error.fields.get("status", error.status))
        return Response(status, self.service.render_error(status, kind, str(error)), headers)


def _pattern(path: str) -> str:
    return re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", path)


def _json(request: Gathering) -> Any:
    if not request.body:
        return None
    content_type = request.headers.get("Content-Type", "application/json").partition(";")[0].strip().lower()
    if "json" not in content_type:
        raise UnsupportedMedia(content_type=content_type)
    try:
        return json.loads(bytes(request.body))
    except (ValueError, RecursionError) as error:
        raise Invalid(reason="Malformed request body: it is not JSON.") from error


def fields_shown(record: dict[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """The record with these fields only; all when none is named."""
    chosen = set(names)
    return {key: value for key, value in record.items() if key in chosen} if chosen else record
