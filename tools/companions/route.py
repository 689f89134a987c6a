"""The seam of the companions: their routes, and handlers that are functions of a request.

Handlers run on worker threads. They return a Response or raise an error of `cell_service.errors`, whose field
`kind` (when it has one) names it in the service's own words.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from api_cell.edge.auth import Identity
from api_cell.edge.route import Schema
from cell_service.errors import BadMethod, Forbidden, Invalid, NotFound
from cell_service.http.paths import PathTree, decoded, placeholders, split
from cell_service.http.response import Response


@dataclass(frozen=True, slots=True)
class CompanionRequest:
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

    def elevated(self) -> CompanionRequest:
        """The request with an administrator's rights: for what the service itself makes of it."""
        return replace(self, caller=replace(self.caller, roles=(*self.caller.roles, "admin")))

    def demand_admin(self) -> None:
        if not self.is_admin:
            raise Forbidden(reason="You are not authorized to perform the requested action.")

    def content(self, key: str) -> dict[str, Any]:
        """The object under the one key of the body. Raises Invalid."""
        value = self.body.get(key) if isinstance(self.body, dict) else None
        if not isinstance(value, dict):
            raise Invalid(reason=f"The body must be an object with the key '{key}'.")
        return value


Handler = Callable[[CompanionRequest], Response]


@dataclass(frozen=True, slots=True)
class CompanionRoute:
    """`path` has placeholders in braces. `open`: needs no token. `takes_file`: the body is not JSON, but a file.
    `body`: the schema of one that is JSON."""

    method: str
    path: str
    handler: Handler
    open: bool = False
    takes_file: bool = False
    body: Schema | None = None


class RouteTable:
    """The routes of a companion, by method and path. HEAD is served as GET."""

    def __init__(self, routes: Iterable[CompanionRoute]) -> None:
        self._methods: defaultdict[str, PathTree[CompanionRoute]] = defaultdict(PathTree)
        for route in routes:
            self._add(route)

    def find(self, method: str, path: str) -> tuple[CompanionRoute, Mapping[str, str]]:
        """The route, and the values of its placeholders. Raises BadMethod, NotFound."""
        segments = split((path.rstrip("/") or "/").removesuffix(".json"))
        tree = self._methods.get("GET" if method == "HEAD" else method)
        found = None if tree is None else tree.find(segments)
        if found is not None:
            route, values = found
            return route, dict(zip(placeholders(route.path), map(decoded, values), strict=True))
        allowed = sorted(method for method, tree in self._methods.items() if tree.find(segments) is not None)
        if allowed:
            raise BadMethod(method=method, allow=", ".join(allowed))
        raise NotFound(reason="The resource could not be found.")

    def _add(self, route: CompanionRoute) -> None:
        known = self._methods[route.method].at(route.path, lambda: route)
        assert known is route, f"two routes for {route.method} {route.path}"
