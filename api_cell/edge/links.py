"""Absolute links as the client sees the service, also from behind proxies; and the link to the next page."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlencode

from api_cell.edge.route import Request

MOST_OFFSET = 2**31 - 1


def origin(headers: Mapping[str, str], protocol: str, *, behind_proxy: bool, link_prefix: str | None) -> str:
    """Scheme, host and path prefix of the service, without a slash at the end.

    `link_prefix` is the operator's setting and wins; the proxies' headers count only where the operator trusts them.
    """
    if link_prefix:
        return link_prefix.rstrip("/")
    host, prefix = headers.get("Host", "localhost"), ""
    if behind_proxy:
        forwarded = _forwarded(headers.get("Forwarded", ""))
        protocol = forwarded.get("proto") or _first(headers.get("X-Forwarded-Proto")) or protocol
        host = forwarded.get("host") or _first(headers.get("X-Forwarded-Host")) or host
        prefix = _first(headers.get("X-Forwarded-Prefix")).rstrip("/")
    return f"{protocol}://{host}{prefix}"


def remote_address(headers: Mapping[str, str], peer: str, *, behind_proxy: bool) -> str:
    """Where the request came from."""
    if not behind_proxy:
        return peer
    return _forwarded(headers.get("Forwarded", "")).get("for") or _first(headers.get("X-Forwarded-For")) or peer


def resource_links(req: Request, path: str) -> list[dict[str, str]]:
    """The `self` and `bookmark` links of a resource at a path below the version (`/flavors/1`)."""
    return [
        {"rel": "self", "href": f"{req.base_url}{path}"},
        {"rel": "bookmark", "href": f"{req.bookmark_url}{path}"},
    ]


def next_link(req: Request, path: str, marker: str) -> list[dict[str, str]]:
    """The link to the page after `marker`, with the query as it was; an offset has been counted already."""
    kept = {name: values for name, values in req.query.items() if name not in ("marker", "offset")}
    query = [(name, value) for name, values in kept.items() for value in values]
    return [{"rel": "next", "href": f"{req.base_url}{path}?{urlencode([*query, ('marker', marker)])}"}]


def page_size(req: Request, most: int) -> int:
    """How many items the page may have: `limit`, but never more than `most`."""
    limit = req.one("limit")
    return min(int(limit), most) if limit else most


def page_start(req: Request) -> int:
    """How many items come before the page: `offset`, as far as a database can count."""
    return min(int(req.one("offset") or 0), MOST_OFFSET)


def _first(value: str | None) -> str:
    return (value or "").split(",")[0].strip()


def _forwarded(value: str) -> dict[str, str]:
    """The first element of a Forwarded header (RFC 7239)."""
    parts = {}
    for pair in _first(value).split(";"):
        name, _, text = pair.partition("=")
        parts[name.strip().lower()] = text.strip().strip('"')
    return parts
