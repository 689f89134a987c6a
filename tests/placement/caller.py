"""Calls Placement handlers as the edge does: route by method and path, body checked by the route's schema."""

from __future__ import annotations

import re
from typing import Any, cast
from urllib.parse import parse_qs

import jsonschema

from api_cell.edge.route import Request, Response, Route, Schema
from api_cell.placement.routes import ROUTES
from cell_service.context import ManualClock, internal
from cell_service.db.sql.engine import Database
from cell_service.errors import NotFound
from mapping_db.cloud import Cloud


def schema_at(route: Route, version: tuple[int, int]) -> Schema | None:
    """The schema of a route's body that holds at a version."""
    if route.body is None or isinstance(route.body, dict):
        return cast(Schema | None, route.body)
    holding = [schema for since, schema in route.body if since <= version]  # type: ignore[misc]
    return cast(Schema | None, holding[-1] if holding else None)


class Placement:
    """The API in front of one database, without a server."""

    def __init__(self, db: Database) -> None:
        nothing = cast(Any, None)
        self.cloud = Cloud(db=db, bus=nothing, cells=nothing, locator=nothing, clock=ManualClock())

    def __call__(self, method: str, url: str, body: Any = None, version: str = "1.39") -> Response:
        path, _, text = url.partition("?")
        at = cast(tuple[int, int], tuple(int(part) for part in version.split(".")))
        for route in ROUTES:
            names = re.sub(r"{(\w+)}", r"(?P<\1>[^/]+)", route.path)
            match = re.fullmatch(names, path)
            if match is None or route.method != method or not route.min_version <= at <= route.max_version:
                continue
            schema = schema_at(route, at)
            if schema is not None:
                jsonschema.validate(body, schema)
            return route.handler(
                Request(
                    ctx=internal(),
                    cloud=self.cloud,
                    services=None,
                    version=at,
                    method=method,
                    path=path,
                    params=match.groupdict(),
                    query=parse_qs(text, keep_blank_values=True),
                    body=body,
                    headers={},
                    base_url="http://placement",
                    bookmark_url="http://placement",
                    may=lambda *_: True,
                    demand=lambda *_: None,
                )
            )
        raise NotFound(reason=f"{method} {path} at {version}")

    def get(self, url: str, version: str = "1.39") -> Any:
        answer = self("GET", url, version=version)
        assert answer.status == 200
        return answer.body
