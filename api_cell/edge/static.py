"""Content that is the same for every caller: kept by browsers, revalidated by its ETag, and sent compressed."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from api_cell.edge.route import Request, Response

_YEAR = 365 * 24 * 3600


@dataclass(frozen=True)
class Static:
    """Bytes of one type, and further headers of the answers that carry them."""

    body: bytes
    content_type: str
    headers: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def digest(self) -> str:
        """Changes whenever the bytes do."""
        return hashlib.sha256(self.body).hexdigest()[:20]

    @cached_property
    def _compressed(self) -> bytes:
        return gzip.compress(self.body, mtime=0)

    def answer(self, req: Request) -> Response:
        """200, or 304 for a client that has these bytes. A client that names them by `?v=DIGEST` need not ask again."""
        lasting = req.one("v") == self.digest
        etag = f'W/"{self.digest}"'
        headers = {
            **self.headers,
            "Cache-Control": f"public, max-age={_YEAR}, immutable" if lasting else "no-cache",
            "Content-Type": self.content_type,
            "ETag": etag,
            "Vary": "Accept-Encoding",
            "X-Content-Type-Options": "nosniff",
        }
        if etag in _listed(req, "If-None-Match"):
            return Response(304, None, headers)
        if not _listed(req, "Accept-Encoding") & {"gzip", "*"}:
            return Response(200, self.body, headers)
        return Response(200, self._compressed, headers | {"Content-Encoding": "gzip"})


def _listed(req: Request, header: str) -> set[str]:
    """The values of a header that is a list; what a client refuses by a weight of 0 is not among them."""
    found = set()
    for item in req.headers.get(header, "").split(","):
        value, _, weight = (part.strip() for part in item.partition(";"))
        if weight.replace(" ", "").rstrip("0") not in ("q=", "q=0."):
            found.add(value)
    return found
