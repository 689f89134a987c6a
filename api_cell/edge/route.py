"""The seam of the edge: a route says which callers may call it, with what; a handler is a function of a Request.

A handler runs on a worker thread. It returns a Response or raises an error of `cell_service.errors`; the edge turns
the error's family into a status and the API's fault body.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from api_cell.caller import Caller
from api_cell.services import Services
from cell_service.context import Context
from cell_service.errors import PolycellError
from cell_service.http.response import Response
from mapping_db.cloud import Cloud

__all__ = ["ByVersion", "Handler", "Request", "Response", "Route", "Schema", "Version"]

Version = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Request:
    """One request, validated: `body` and `query` fit the route's schemas at `version`.

    `params` are the path's placeholders, `query` has every parameter as the list of its values.
    """

    caller: Caller
    cloud: Cloud
    services: Services
    version: Version
    method: str
    path: str
    params: Mapping[str, str]
    query: Mapping[str, list[str]]
    body: Any
    headers: Mapping[str, str]
    base_url: str
    """Scheme, host and prefix as the client sees them, up to and with the version, and the project id where the
    client gave one: for absolute links."""
    bookmark_url: str
    """The same without the version."""

    @property
    def ctx(self) -> Context:
        return self.caller.ctx

    def may(self, rule: str, target: Mapping[str, Any] | None = None) -> bool:
        """Whether the policy lets the caller do more than the route's rule says."""
        return self.caller.may(rule, target)

    def demand(self, rule: str, target: Mapping[str, Any] | None = None) -> None:
        """Raises PolicyForbidden unless the policy lets the caller do that."""
        self.caller.demand(rule, target)

    def one(self, name: str, default: str | None = None) -> str | None:
        """The last value given for a query parameter."""
        values = self.query.get(name)
        return values[-1] if values else default


Handler = Callable[[Request], Response]
Schema = Mapping[str, Any]
ByVersion = tuple[tuple[Version, Schema | None], ...]
"""Schemas by the version from which each applies, ascending; None: not checked."""


@dataclass(frozen=True, slots=True)
class Route:
    """One row of an API's table.

    `action` is the one key of a body of `POST …/action`. Outside min_version..max_version it answers 404. `rule` is
    checked against the caller's own project before the handler runs (None: the handler checks it with a target).
    With `method_alone_is_new` it answers 405 there: the path has other methods at those versions.
    `bad_reference`: NotFound errors which here are about a name in the body, and so are 400.
    """

    method: str
    path: str
    handler: Handler
    rule: str | None = None
    action: str | None = None
    body: Schema | ByVersion | None = None
    query: Schema | ByVersion | None = None
    min_version: Version = (2, 1)
    max_version: Version = (2, 9999)
    method_alone_is_new: bool = False
    bad_reference: tuple[type[PolycellError], ...] = ()
    open: bool = False
    """Served without a token (version documents)."""
