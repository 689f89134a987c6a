"""The work of a worker thread on a request: route, policy, query, body, handler, and the answer's bytes."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs

from api_cell.caller import Caller
from api_cell.edge.api import Api, ErrorReply
from api_cell.edge.faults import hidden, retry_after
from api_cell.edge.idempotency import HEADER, idempotently
from api_cell.edge.media import accepts_json, fault_page
from api_cell.edge.policy import Policy
from api_cell.edge.route import Request, Version
from api_cell.edge.router import CompiledRoute, PathMatch, validator_at
from api_cell.edge.schema import Wording
from api_cell.services import Services
from cell_service.context import Context, Deadline
from cell_service.errors import BadMethod, Invalid, NotAcceptable, NotFound, PolycellError, UnsupportedMedia
from cell_service.http.exchange import Exchange
from cell_service.http.front import Respond
from cell_service.http.json_body import NumberTooLarge, content_type, parse_json
from cell_service.http.paths import decoded
from cell_service.http.response import RenderedResponse
from mapping_db.cloud import Cloud

log = logging.getLogger(__name__)

_ANONYMOUS = Context(request_id="")


@dataclass(slots=True)
class Call:
    """A request on its way through the edge."""

    exchange: Exchange
    request_id: str
    path: str
    query_text: str
    version: Version
    deadline: Deadline
    respond: Respond
    origin: str = ""
    prefix: str = ""
    project_in_path: str = ""
    versioned: bool = False
    legacy: bool = False
    opened: bool = False
    """Needs no token."""
    method: str = ""
    """The method of the route, where it is not that of the request: HEAD of what needs no token is answered as GET."""
    match: PathMatch | None = None
    values: list[str] = field(default_factory=list)
    ctx: Context | None = None

    @property
    def route_method(self) -> str:
        return self.method or self.exchange.method

    @property
    def accepts_json(self) -> bool:
        return accepts_json(self.exchange.headers.get("Accept", ""))


class Dispatcher:
    """Handles calls. Never raises: every error becomes an answer. Thread-safe."""

    def __init__(self, api: Api, cloud: Cloud, services: Services, policy: Policy) -> None:
        self._api = api
        self._cloud = cloud
        self._services = services
        self._policy = policy

    def __call__(self, call: Call) -> RenderedResponse:
        bad_reference: tuple[type[PolycellError], ...] = ()
        try:
            if call.match is None:
                assert self._api.fallback is not None
                return self._api.fallback(self._request(call, call.ctx or _ANONYMOUS, {}, {}, None)).rendered()
            ctx = call.ctx or _ANONYMOUS
            if call.project_in_path and call.project_in_path != ctx.project_id:
                raise Invalid(reason=f"The project {call.project_in_path} of the URL is not that of the token.")
            call.deadline.check("worker")
            compiled = None if call.match.has_actions(call.route_method) else _route(call, call.match, None)
            body = _body(call, self._api)
            compiled = compiled or _route(call, call.match, body)
            route = compiled.route
            bad_reference = route.bad_reference
            if route.rule is not None:
                self._policy.demand(ctx, route.rule)
            query = _query(call, compiled, self._api.query_wording)
            if self._api.strict_media and call.exchange.method == "GET" and not call.accepts_json:
                raise NotAcceptable(reason="Only application/json is provided")
            body = _checked(call, compiled, body, self._api)
            params = dict(zip(compiled.names, map(decoded, call.values), strict=True))
            request = self._request(call, ctx, params, query, body)
            if route.method == "POST" and route.action is None and HEADER in call.exchange.headers:
                return idempotently(request, route.handler).rendered()
            return route.handler(request).rendered()
        except PolycellError as error:
            if bad_reference and isinstance(error, bad_reference):
                error = Invalid(reason=error.for_users())
            return self.refused(call, error)
        except Exception:
            log.exception(
                "request failed method=%s path=%s",
                call.exchange.method,
                call.path,
                extra={"request_id": call.request_id},
            )
            return self.broken(call)

    def refused(self, call: Call, error: PolycellError) -> RenderedResponse:
        """The fault for an error. What is our own failure is logged, and hidden from the client."""
        if error.status == 500:
            log.error("request failed: %s", error, exc_info=error, extra={"request_id": call.request_id})
            return self.broken(call)
        message = error.for_users()
        if message != str(error):
            log.warning("request refused: %s", error, extra={"request_id": call.request_id})
        pause = retry_after(error)
        headers = {"Retry-After": str(pause)} if pause is not None else {}
        if isinstance(error, BadMethod):
            headers["Allow"] = str(error.fields["allow"])
        fault = ErrorReply(error.status, message, call.request_id, call.version, pause, error)
        return self._fault(call, fault, headers)

    def broken(self, call: Call) -> RenderedResponse:
        """500, without what went wrong."""
        fault = ErrorReply(500, hidden(call.request_id), call.request_id, call.version)
        return self._fault(call, fault, {})

    def _fault(self, call: Call, fault: ErrorReply, headers: dict[str, str]) -> RenderedResponse:
        if self._api.strict_media and not call.accepts_json:
            page = fault_page(fault.status, HTTPStatus(fault.status).phrase, fault.message)
            return RenderedResponse(fault.status, page, {**headers, "Content-Type": "text/html; charset=UTF-8"})
        return RenderedResponse(fault.status, json.dumps(self._api.render_fault(fault)).encode(), headers)

    def _request(
        self, call: Call, ctx: Context, params: Mapping[str, str], query: Mapping[str, list[str]], body: Any
    ) -> Request:
        project = f"/{call.project_in_path}" if call.project_in_path else ""
        return Request(
            caller=Caller(ctx, self._policy),
            cloud=self._cloud,
            services=self._services,
            version=call.version,
            method=call.exchange.method,
            path=call.path,
            params=params,
            query=query,
            body=body,
            headers=call.exchange.headers,
            base_url=f"{call.origin}{call.prefix}{project}",
            bookmark_url=f"{call.origin}{project}",
        )


def _route(call: Call, match: PathMatch, body: object) -> CompiledRoute:
    """The route for method, action and version. Raises NotFound, BadMethod, Invalid (no such action)."""
    actions = match.methods[call.route_method]
    if None in actions:
        routes = actions[None]
    else:
        if not isinstance(body, dict) or len(body) != 1:
            raise Invalid(reason="The body must be an object with one key, the action.")
        action = next(iter(body))
        if action not in actions:
            raise Invalid(reason=f"There is no such action: {str(action)[:64]}")
        routes = actions[action]
    for route in routes:
        if route.serves(call.version):
            return route
    if any(each.route.method_alone_is_new for each in routes):
        raise BadMethod(method=call.route_method, allow=match.allow)
    raise NotFound(reason="The resource could not be found.")


def _query(call: Call, route: CompiledRoute, wording: Wording) -> dict[str, list[str]]:
    """The parameters as lists of values. Raises Invalid."""
    query: dict[str, list[str]] = {}
    if call.query_text:
        try:
            query = parse_qs(call.query_text, keep_blank_values=True, max_num_fields=500)
        except ValueError as error:
            raise Invalid(reason="The query has too many parameters.") from error
        if "%00" in call.query_text:
            raise Invalid(reason="The query has a character that cannot be stored.")
    validator = validator_at(route.query, call.version)
    if validator is not None:
        if call.legacy:
            query = validator.pruned(query)
        validator.check(query, wording)
    return query


def _body(call: Call, api: Api) -> Any:
    """The body as JSON data, None when there is none. Raises Invalid, UnsupportedMedia."""
    if call.exchange.method not in ("POST", "PUT", "PATCH"):
        return None
    raw = call.exchange.body
    if not raw:
        return None
    header = call.exchange.headers.get("Content-Type", "")
    if not header and api.strict_media:
        raise Invalid(reason="content-type header required when content-length > 0")
    kind = content_type(header or "application/json")
    if kind != "application/json" and not kind.endswith("+json"):
        raise UnsupportedMedia(content_type=kind[:64])
    try:
        return parse_json(raw)
    except NumberTooLarge as error:
        raise Invalid(reason=f"The body has a number beyond 64 bits: {error}") from error
    except ValueError as error:
        raise Invalid(reason=api.malformed.format(error=error)) from error


def _checked(call: Call, route: CompiledRoute, body: object, api: Api) -> Any:
    """The body, if it fits the schema of its version. Raises Invalid, UnsupportedMedia."""
    validator = validator_at(route.body, call.version)
    if validator is None:
        return body
    if body is None and api.strict_media:
        if "Content-Type" not in call.exchange.headers:
            raise UnsupportedMedia(content_type="None")
        raise Invalid(reason=api.malformed.format(error="there is no body"))
    if body is None:
        raise Invalid(reason="The request needs a body.")
    if call.legacy:
        body = validator.pruned(body)
    validator.check(body, api.body_wording)
    return body
