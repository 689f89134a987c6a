"""Which pages of other origins may use the API (https://fetch.spec.whatwg.org/#http-cors-protocol), with the options
and the answers of oslo.middleware's CORS.

Preflights need no token, and no route: an OPTIONS that no route answers is 200 once origins are configured. What is not
allowed gets the same answer without the headers; it is the browser that refuses it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from api_cell.config import CorsSection
from cell_service.http.response import RenderedResponse

ANY = "*"
ALLOW_ORIGIN = "Access-Control-Allow-Origin"
_ALWAYS = frozenset({"accept", "accept-language", "cache-control", "content-language", "content-type", "expires",
                     "last-modified", "pragma"})  # fmt: skip
"""Names of headers that every page may send."""
_OF_REFUSALS = ("Content-Type", "WWW-Authenticate", "Retry-After")


class Cors:
    """The rules of one API. Without `allowed_origin` there are none, and answers stay as they are."""

    def __init__(self, section: CorsSection) -> None:
        self._section = section
        self._origins = frozenset(section.allowed_origin)
        self._methods = frozenset(section.allow_methods)
        self._headers = _ALWAYS | {name.lower() for name in section.allow_headers}

    def applied(self, method: str, headers: Mapping[str, str], answer: RenderedResponse) -> RenderedResponse:
        """The answer as the page that sent the request may see it."""
        if not self._origins:
            return answer
        preflight = method == "OPTIONS"
        if preflight and not 200 <= answer.status < 300:
            kept = {name: value for name, value in answer.headers.items() if name not in _OF_REFUSALS}
            answer = RenderedResponse(200, b"", kept)
        origin = self._allowed(headers.get("Origin"))
        if origin is None:
            return answer
        more = self._of_preflight(headers) if preflight else self._of_answer()
        if more is None:
            return answer
        given = {ALLOW_ORIGIN: origin, **more}
        if origin != ANY:
            given["Vary"] = ", ".join(filter(None, (answer.headers.get("Vary"), "Origin")))
        if self._section.allow_credentials:
            given["Access-Control-Allow-Credentials"] = "true"
        return replace(answer, headers={**answer.headers, **given})

    def _allowed(self, origin: str | None) -> str | None:
        if origin is None or origin in self._origins:
            return origin
        return ANY if ANY in self._origins else None

    def _of_preflight(self, headers: Mapping[str, str]) -> dict[str, str] | None:
        """None: the request that is to follow is not allowed."""
        method = headers.get("Access-Control-Request-Method")
        wanted = [name.strip() for name in headers.get("Access-Control-Request-Headers", "").split(",") if name.strip()]
        if method not in self._methods or not self._headers.issuperset(name.lower() for name in wanted):
            return None
        given = {"Access-Control-Allow-Methods": method}
        if self._section.max_age:
            given["Access-Control-Max-Age"] = str(self._section.max_age)
        if wanted:
            given["Access-Control-Allow-Headers"] = ",".join(wanted)
        return given

    def _of_answer(self) -> dict[str, str]:
        exposed = ",".join(self._section.expose_headers)
        return {"Access-Control-Expose-Headers": exposed} if exposed else {}
