"""Queries of GETs that take no parameters: from 2.102 on they refuse all of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from api_cell.compute.removed import gone
from api_cell.edge.route import ByVersion, Route
from api_cell.edge.shapes import query

CLOSED: ByVersion = (((2, 1), query({}, closed=False)), ((2, 102), query({}, closed=True)))


def closed(routes: Iterable[Route]) -> tuple[Route, ...]:
    """The routes, with that rule for those that declare no parameters; removed routes stay as they are."""
    return tuple(replace(route, query=CLOSED) if _takes_no_query(route) else route for route in routes)


def _takes_no_query(route: Route) -> bool:
    return route.method == "GET" and route.query is None and route.handler is not gone
