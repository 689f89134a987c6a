"""Calls Placement handlers as the edge does: route by method and path, body checked by the route's schema."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any, cast
from urllib.parse import parse_qs

import jsonschema

from api_cell.caller import Caller
from api_cell.config import ApiSettings
from api_cell.contract import SuperConductor
from api_cell.edge.policy import Policy
from api_cell.edge.route import Request, Response, Route, Schema
from api_cell.placement import policies
from api_cell.placement.routes import ROUTES
from api_cell.services import Services
from cell_service.context import ManualClock, internal
from cell_service.db.sql.engine import Database
from cell_service.errors import NotFound
from cell_service.rpc.contract import client
from cell_service.rpc.memory import Bus, MemoryTransport
from tests.suites.clouds import cloud_in_memory


def schema_at(route: Route, version: tuple[int, int]) -> Schema | None:
    """The schema of a route's body that holds at a version."""
    if route.body is None or isinstance(route.body, dict):
        return cast(Schema | None, route.body)
    holding = [schema for since, schema in route.body if since <= version]  # type: ignore[misc]
    return cast(Schema | None, holding[-1] if holding else None)


class Placement:
    """The API in front of one database, without a server."""

    def __init__(self, db: Database) -> None:
        self.cloud = cloud_in_memory(db, clock=ManualClock())
        self._policy = Policy(policies.RULES)
        self._caller = Caller(replace(internal(), roles=("admin",), project_id="p0"), self._policy)
        self._services = Services(ApiSettings(), client(SuperConductor, MemoryTransport(Bus())))

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
                    caller=self._caller,
                    cloud=self.cloud,
                    services=self._services,
                    version=at,
                    method=method,
                    path=path,
                    params=match.groupdict(),
                    query=parse_qs(text, keep_blank_values=True),
                    body=body,
                    headers={},
                    base_url="http://placement",
                    bookmark_url="http://placement",
                )
            )
        raise NotFound(reason=f"{method} {path} at {version}")

    def get(self, url: str, version: str = "1.39") -> Any:
        answer = self("GET", url, version=version)
        assert answer.status == 200
        return answer.body
