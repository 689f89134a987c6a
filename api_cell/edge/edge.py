"""The edge of one API: from a whole request to its answer.

On the loop: path, version, token memory, and the cap on requests in flight. On a worker thread: policy, body, schemas
and the handler. Tokens that are not remembered are validated on threads of their own, once for all requests that wait,
so that a slow identity service delays only requests whose token is not remembered.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from api_cell.config import ApiSettings
from api_cell.edge import health
from api_cell.edge.api import Api
from api_cell.edge.auth import Authenticator, Identity, TokenCache, credentials
from api_cell.edge.cors import Cors
from api_cell.edge.dispatcher import Call, Dispatcher
from api_cell.edge.metrics import PATH, Metrics
from api_cell.edge.policy import Policy
from api_cell.edge.rates import Rates
from api_cell.edge.router import PathMatch, Router
from api_cell.edge.versions import negotiate, version_headers
from api_cell.services import Services
from cell_service.context import Context, Deadline, new_request_id
from cell_service.errors import (
    BadMethod,
    NotFound,
    PolycellError,
    TooLarge,
    TooManyRequests,
    Unauthenticated,
    Unavailable,
)
from cell_service.http.exchange import Exchange
from cell_service.http.forwarded import origin, remote_address
from cell_service.http.front import Respond, on_thread
from cell_service.http.paths import split
from cell_service.http.response import RenderedResponse
from cell_service.logs import about
from mapping_db.cloud import Cloud

log = logging.getLogger(__name__)
access = logging.getLogger("polycell.access")

IDENTITY_THREADS = 4
_PROBES = ("HEAD", "OPTIONS")
_OPENED = "GET, HEAD, OPTIONS"
_REQUEST_ID = re.compile(r"req-[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_PROJECT_ID = re.compile(r"[0-9a-zA-Z][0-9a-zA-Z_.-]*")


class Edge:
    """Serves one API, as the application of a front. `services` goes to the handlers as it is."""

    def __init__(
        self,
        api: Api,
        cloud: Cloud,
        services: Services,
        settings: ApiSettings,
        policy: Policy,
        authenticator: Authenticator,
    ) -> None:
        policy.demand_known(route.rule for route in api.routes if route.rule is not None)
        self.api = api
        self.settings = settings
        self.in_flight = 0
        self._metrics = Metrics(api.name, cloud, lambda: self.in_flight)
        self._cloud = cloud
        self._router = Router(api.routes)
        self._roots = {route.path: Router([route]) for route in api.roots}
        self._dispatch = Dispatcher(api, cloud, services, policy)
        self._policy = policy
        self._cors = Cors(settings.cors)
        self._authenticator = authenticator
        self._tokens = TokenCache(settings.identity.token_cache_time, cloud.clock)
        self._rates = Rates(settings.api.rate_limit, settings.api.rate_limit_burst, cloud.clock)
        self._validating: dict[bytes, asyncio.Future[Identity]] = {}
        threads = settings.api.worker_threads
        self._workers = ThreadPoolExecutor(threads, thread_name_prefix=f"{api.name}-worker")
        self._identity_threads = ThreadPoolExecutor(IDENTITY_THREADS, thread_name_prefix=f"{api.name}-identity")
        self._prefixes = tuple(prefix for prefix in (api.prefix, api.legacy_prefix) if prefix is not None)
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def most_bytes(self) -> int:
        return self.settings.middleware.max_request_body_size

    def get_ready(self) -> None:
        """Make on another thread now what the first requests would otherwise wait for."""
        self._workers.submit(self._router.compile)

    def begin(self, exchange: Exchange) -> None:
        """Nothing is to be done before the body."""

    def end(self, exchange: Exchange) -> None:
        """No request leaves anything behind."""

    def close(self) -> None:
        """Stop the threads. Requests in flight must be done."""
        self._workers.shutdown(wait=False, cancel_futures=True)
        self._identity_threads.shutdown(wait=False, cancel_futures=True)

    def serve(self, exchange: Exchange, respond: Respond) -> None:
        request_id = new_request_id()
        path, _, query = exchange.target.partition("?")
        call = Call(
            exchange,
            request_id,
            path,
            query,
            self.api.min_version,
            deadline=Deadline.after(self.settings.api.request_timeout, self._cloud.clock),
            respond=respond,
            method=exchange.method,
        )
        try:
            self._begin(call)
        except PolycellError as error:
            self._answer(call, self._dispatch.refused(call, error))
        except Exception:
            log.exception("the edge failed", extra={"request_id": request_id})
            self._answer(call, self._dispatch.broken(call))

    def _begin(self, call: Call) -> None:
        if call.path in health.PATHS:
            self._submit(call, lambda: health.answer(call.path, self._cloud))
            return
        if call.path == PATH:
            accept = call.exchange.headers.get("Accept", "")
            self._submit(call, lambda: self._metrics.page(accept))
            return
        if call.exchange.oversize:
            call.versioned = False
            raise TooLarge()
        if self.in_flight >= self.settings.api.max_in_flight:
            raise Unavailable(reason="Too many requests are being served. Try again.", retry_after=1)
        self._aim(call)
        if call.opened and call.exchange.method == "OPTIONS":
            self._answer(call, RenderedResponse(200, b"", {"Allow": _OPENED}))
            return
        if call.opened:
            self._submit(call, lambda: self._dispatch(call))
            return
        token, service_token = credentials(call.exchange.headers)
        key = TokenCache.key(token, service_token)
        identity = self._tokens.find(key)
        if identity is not None:
            self._submit_for(call, identity)
            return
        task = asyncio.ensure_future(self._identify(call, key, token, service_token))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _aim(self, call: Call) -> None:
        """Find what the path is about, and the version. Raises NotFound, BadMethod, Invalid, NotAcceptable."""
        call.origin = origin(
            call.exchange.headers,
            call.exchange.protocol,
            behind_proxy=self.settings.middleware.enable_proxy_headers_parsing,
            link_prefix=self.settings.api.compute_link_prefix if self.api.name == "compute" else None,
        )
        segments = split(call.path)
        if self._roots and self._at_root(call):
            return
        prefix = next((p for p in self._prefixes if call.path.startswith(p + "/") or call.path == p), None)
        if prefix is None:
            raise NotFound(reason="The resource could not be found.")
        call.prefix = prefix
        call.legacy = prefix == self.api.legacy_prefix
        call.versioned = not call.legacy
        if call.versioned:
            call.version = negotiate(self.api, call.exchange.headers)
        segments = segments[prefix.count("/") :]
        if segments and call.path.endswith("/"):
            segments.append("")  # the id of nothing
        found = self._find(call, segments)
        if found is None:
            raise NotFound(reason="The resource could not be found.")
        call.match, call.values = found
        self._choose_method(call, call.match)

    def _at_root(self, call: Call) -> bool:
        """Whether the path is one that no version has: a version document, or the choice of them."""
        router = self._roots.get(call.path.removesuffix("/") or "/")
        call.versioned = False
        if router is not None:
            found = router.find(split(call.path))
            assert found is not None
            call.match, call.values = found
            self._choose_method(call, call.match)
        elif any(call.path.startswith(prefix + "/") for prefix in self._prefixes) or self.api.fallback is None:
            return False
        elif call.exchange.method not in ("GET", *_PROBES):
            raise BadMethod(method=call.exchange.method, allow=_OPENED)
        call.opened = True
        return True

    def _choose_method(self, call: Call, match: PathMatch) -> None:
        """The route's method, and whether it needs no token. What needs none also answers the probes of load balancers.
        Raises BadMethod."""
        method = call.exchange.method
        opened = _is_open(match, "GET" if method in _PROBES and method not in match.methods else method)
        if method not in match.methods and not opened:
            raise BadMethod(method=method, allow=match.allow)
        call.opened, call.method = opened, method if method in match.methods else "GET"

    def _find(self, call: Call, segments: list[str]) -> tuple[PathMatch, list[str]] | None:
        if self.api.project_in_path and segments and not self._router.starts(segments[0]):
            if not _PROJECT_ID.fullmatch(segments[0]):
                return None
            call.project_in_path = segments[0]
            segments = segments[1:]
        return self._router.find(segments)

    async def _identify(self, call: Call, key: bytes, token: str, service_token: str | None) -> None:
        """Have the token validated, or wait for the request that has begun to, and go on."""
        self.in_flight += 1
        try:
            validating = self._validating.get(key)
            if validating is None:
                loop = asyncio.get_running_loop()
                validating = loop.run_in_executor(
                    self._identity_threads, self._authenticator.authenticate, token, service_token
                )
                self._validating[key] = validating
                validating.add_done_callback(lambda done: self._validated(key, done))
            left = call.deadline.check("identity")
            identity = await asyncio.wait_for(asyncio.shield(validating), left)
        except PolycellError as error:
            self._answer(call, self._dispatch.refused(call, error))
        except TimeoutError:
            self._answer(call, self._dispatch.refused(call, Unavailable(reason="The identity service is slow.")))
        except Exception:
            log.exception("a token could not be validated", extra={"request_id": call.request_id})
            self._answer(call, self._dispatch.broken(call))
        else:
            self._submit_for(call, identity)
        finally:
            self.in_flight -= 1

    def _validated(self, key: bytes, done: asyncio.Future[Identity]) -> None:
        self._validating.pop(key, None)
        if done.cancelled():
            return
        error = done.exception()
        if error is None:
            self._tokens.put(key, done.result())
        elif isinstance(error, Unauthenticated):
            self._tokens.put(key, None)

    def _submit_for(self, call: Call, identity: Identity) -> None:
        call.ctx = self._context(call, identity)
        try:
            self._rates.take(identity.project_id)
        except TooManyRequests as error:
            self._answer(call, self._dispatch.refused(call, error))
            return
        self._submit(call, lambda: self._dispatch(call))

    def _context(self, call: Call, identity: Identity) -> Context:
        headers = call.exchange.headers
        outer = headers.get("X-OpenStack-Request-ID", "")
        return Context(
            request_id=call.request_id,
            global_request_id=outer if _REQUEST_ID.fullmatch(outer) else "",
            user_id=identity.user_id,
            project_id=identity.project_id,
            user_domain_id=identity.user_domain_id,
            project_domain_id=identity.project_domain_id,
            user_name=identity.user_name,
            project_name=identity.project_name,
            roles=identity.roles,
            is_admin=self._policy.is_admin(identity.roles),
            system_scope=identity.system_scope,
            domain_scope=identity.domain_scope,
            service_roles=identity.service_roles,
            remote_address=remote_address(
                headers, call.exchange.peer, behind_proxy=self.settings.middleware.enable_proxy_headers_parsing
            ),
            deadline=call.deadline,
        )

    def _submit(self, call: Call, work: Callable[[], RenderedResponse]) -> None:
        self.in_flight += 1

        def finished(answer: RenderedResponse) -> None:
            self.in_flight -= 1
            self._answer(call, answer)

        on_thread(self._workers, work, finished)

    def _answer(self, call: Call, answer: RenderedResponse) -> None:
        headers = {"X-OpenStack-Request-Id": call.request_id}
        if self.api.name == "compute":
            headers["X-Compute-Request-Id"] = call.request_id
        if answer.body and answer.status != 204:
            headers["Content-Type"] = "application/json"
        if call.versioned:
            headers.update(version_headers(self.api, call.version))
        if answer.status == 401:
            headers["WWW-Authenticate"] = self._authenticator.challenge
        headers.update(answer.headers)
        answer = self._cors.applied(call.exchange.method, call.exchange.headers, replace(answer, headers=headers))
        seconds = time.monotonic() - call.exchange.started
        self._metrics.answered(call.exchange.method, _template(call), answer, seconds)
        call.respond(answer)
        if access.isEnabledFor(logging.INFO):
            self._log(call, answer, seconds)

    def _log(self, call: Call, answer: RenderedResponse, seconds: float) -> None:
        """One line a request. Of the query only the names: values may be secrets."""
        names = "&".join(pair.partition("=")[0] for pair in call.query_text.split("&")) if call.query_text else None
        fields: Mapping[str, Any] = about(
            call.ctx,
            method=call.exchange.method,
            path=call.path,
            query=names,
            status=answer.status,
            ms=round(seconds * 1000, 1),
            bytes=len(answer.body),
            project=call.ctx.project_id if call.ctx else None,
            remote=call.exchange.peer,
        )
        access.info("request", extra={**fields, "request_id": call.request_id})


def _template(call: Call) -> str | None:
    """The path of which this request's is an instance; None for a path that the API does not have."""
    if call.match is not None:
        return call.match.path
    return call.path if call.path == PATH or call.path in health.PATHS else None


def _is_open(match: PathMatch, method: str) -> bool:
    routes = match.methods.get(method, {}).get(None, ())
    return bool(routes) and all(compiled.route.open for compiled in routes)
