"""The files of the pages, and the routes that serve them: a file without a route here can't be read."""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path

from api_cell.compute.history import NEWEST
from api_cell.edge.route import Request, Response, Route
from api_cell.edge.static import Static
from cell_service.http.pages import file_page_headers

DOCS = "/v2.1/docs"
SERVED = {
    "page.css": "text/css; charset=utf-8",
    "page.js": "text/javascript; charset=utf-8",
    "swagger_ui/swagger-ui.css": "text/css; charset=utf-8",
    "swagger_ui/swagger-ui-bundle.js": "text/javascript; charset=utf-8",
    "swagger_ui/swagger-ui-bundle.js.LICENSE.txt": "text/plain; charset=utf-8",
    "swagger_ui/LICENSE": "text/plain; charset=utf-8",
    "swagger_ui/NOTICE": "text/plain; charset=utf-8",
}
"""File → its type. Its address is `/v2.1/docs/` and the file."""
_HERE = Path(__file__).parent
_LINKED = re.compile(r'(?<=")((?:v2\.1/)?docs/([\w./-]+))(?=")')


def docs(req: Request) -> Response:
    """200, the page that shows the OpenAPI document and sends requests."""
    if req.path.endswith("/"):
        return _moved("../docs")
    return page("docs.html").answer(req)


def to_docs(req: Request) -> Response:
    """302, to the page of the API."""
    return _moved(("../" if req.path.endswith("/") else "") + DOCS.removeprefix("/"))


def icon(req: Request) -> Response:
    """200, the icon that browsers show with the pages."""
    return _file("favicon.ico", "image/x-icon").answer(req)


def page(name: str) -> Static:
    """A page whose files are linked by what they contain: a browser loads those that changed, and no others."""
    return _page(name)


def _moved(where: str) -> Response:
    return Response(302, None, {"Location": where})


@lru_cache
def _page(name: str) -> Static:
    def linked(match: re.Match[str]) -> str:
        return f"{match[1]}?v={_file(match[2], SERVED[match[2]]).digest}" if match[2] in SERVED else match[1]

    text = _LINKED.sub(linked, (_HERE / name).read_text("utf-8")).replace("{newest}", str(NEWEST[1]))
    return Static(text.encode(), "text/html; charset=utf-8", file_page_headers())


@lru_cache
def _file(name: str, content_type: str) -> Static:
    return Static((_HERE / name).read_bytes(), content_type)


def _route(name: str, content_type: str) -> Route:
    def handler(req: Request) -> Response:
        return _file(name, content_type).answer(req)

    return Route("GET", f"{DOCS}/{name}", handler, open=True)


ROUTES = (
    Route("GET", DOCS, docs, open=True),
    Route("GET", "/docs", to_docs, open=True),
    Route("GET", "/favicon.ico", icon, open=True),
    *(_route(name, content_type) for name, content_type in SERVED.items()),
)
