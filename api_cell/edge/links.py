"""Absolute links to resources, and the link to the next page."""

from __future__ import annotations

from urllib.parse import urlencode

from api_cell.edge.route import Request

MOST_OFFSET = 2**31 - 1


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


def page_marker(req: Request) -> str | None:
    """The item after which the page begins: `marker`; None, or empty: the first page."""
    return req.one("marker") or None


def page_start(req: Request) -> int:
    """How many items come before the page: `offset`, as far as a database can count."""
    return min(int(req.one("offset") or 0), MOST_OFFSET)
