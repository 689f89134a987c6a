"""The documents that the service publishes without a token: versions, the OpenAPI document, and a page to read and try
it."""

from __future__ import annotations

import json
import re
from functools import lru_cache

from api_cell.compute import versions
from api_cell.compute.history import NEWEST, OLDEST
from api_cell.compute.openapi import document
from api_cell.compute.page import FRONT, PAGE
from api_cell.compute.routes import ROUTES
from api_cell.edge.route import Request, Response, Route, Version
from cell_service.errors import Invalid, NotAcceptable
from cell_service.http.pages import page_headers

_PAGE_HEADERS = {"Content-Type": "text/html; charset=utf-8", **page_headers(PAGE.decode())}
_FRONT_HEADERS = {"Content-Type": "text/html; charset=utf-8", **page_headers(FRONT.decode())}
_VERSION = re.compile(r"2\.(0|[1-9][0-9]{0,3})")


def openapi(req: Request) -> Response:
    """200, the OpenAPI document at ?microversion= (the highest without it)."""
    requested = req.one("microversion") or "latest"
    return Response(200, _rendered(NEWEST if requested == "latest" else _parsed(requested)))


def front(req: Request) -> Response:
    """200: for a browser a page with links, for programs the versions."""
    if "text/html" in req.headers.get("Accept", ""):
        return Response(200, FRONT, {**_FRONT_HEADERS, "Vary": "Accept"})
    return versions.index(req)


def page(req: Request) -> Response:
    """200, a page that reads the document."""
    return Response(200, PAGE, _PAGE_HEADERS)


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
def _rendered(version: Version) -> bytes:
    return json.dumps(document(ROUTES, version)).encode()


ROOTS = (
    Route("GET", "/", front, open=True),
    *(route for route in versions.ROOTS if route.path != "/"),
    Route("GET", "/v2.1/openapi.json", openapi, open=True),
    Route("GET", "/v2.1/docs", page, open=True),
)
