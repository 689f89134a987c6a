"""The documents that the service publishes without a token: versions, the OpenAPI document, and pages of it."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from functools import lru_cache

from api_cell.compute import versions
from api_cell.compute.history import NEWEST, OLDEST
from api_cell.compute.openapi import document
from api_cell.compute.routes import ROUTES
from api_cell.compute.web import files
from api_cell.edge.route import Request, Response, Route, Version
from api_cell.edge.static import Static
from cell_service.errors import Invalid, NotAcceptable

_VERSION = re.compile(r"2\.(0|[1-9][0-9]{0,3})")


def openapi(req: Request) -> Response:
    """200, the OpenAPI document at ?microversion= (the highest without it)."""
    requested = req.one("microversion") or "latest"
    return _rendered(NEWEST if requested == "latest" else _parsed(requested)).answer(req)


def front(req: Request) -> Response:
    """200: for a browser a page with links, for programs the versions."""
    if "text/html" not in req.headers.get("Accept", ""):
        return replace(versions.index(req), headers={"Vary": "Accept"})
    answer = files.page("front.html").answer(req)
    return replace(answer, headers={**answer.headers, "Vary": "Accept, Accept-Encoding"})


def _parsed(text: str) -> Version:
    """Raises Invalid (malformed), NotAcceptable (out of range)."""
    found = _VERSION.fullmatch(text)
    if found is None:
        raise Invalid(reason=f"API version {text[:64]!r} is not of the form MAJOR.MINOR.")
    version = (2, int(found[1]))
    if not OLDEST <= version <= NEWEST:
        raise NotAcceptable(reason=f"Version {text} is not supported.")
    return version


@lru_cache(maxsize=8)
def _rendered(version: Version) -> Static:
    return Static(json.dumps(document(ROUTES, version)).encode(), "application/json")


ROOTS = (
    Route("GET", "/", front, open=True),
    *(route for route in versions.ROOTS if route.path != "/"),
    Route("GET", "/v2.1/openapi.json", openapi, open=True),
    *files.ROUTES,
)
