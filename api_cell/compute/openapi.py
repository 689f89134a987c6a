"""The OpenAPI 3.1 document of the Compute API at one microversion, made from the table of routes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from api_cell.edge.route import ByVersion, Route, Schema, Version
from api_cell.edge.versions import shown

_STATUS = re.compile(r"\b(20\d)\b")
_PLACEHOLDER = re.compile(r"\{([^}]*)\}")
_FAULT = {
    "type": "object",
    "description": "One key, the name of the fault.",
    "additionalProperties": {
        "type": "object",
        "properties": {"code": {"type": "integer"}, "message": {"type": "string"}},
        "required": ["code", "message"],
    },
}


def document(routes: Iterable[Route], version: Version) -> dict[str, Any]:
    """Every route that the version serves; actions of one path are the choices of its body."""
    operations: dict[tuple[str, str], list[Route]] = {}
    for route in routes:
        if route.min_version <= version <= route.max_version:
            operations.setdefault((route.path, route.method), []).append(route)
    paths: dict[str, dict[str, Any]] = {}
    for (path, method), found in operations.items():
        paths.setdefault(path, {})[method.lower()] = _operation(path, method, found, version)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Compute API", "version": shown(version)},
        "servers": [{"url": "../v2.1"}],
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "schemas": {"Fault": _FAULT},
            "securitySchemes": {"token": {"type": "apiKey", "in": "header", "name": "X-Auth-Token"}},
        },
    }


def _operation(path: str, method: str, routes: list[Route], version: Version) -> dict[str, Any]:
    made: dict[str, Any] = {
        "operationId": _PLACEHOLDER.sub(r"\1", f"{method.lower()}{path.replace('/', '_')}"),
        "tags": [path.split("/")[1]],
        "summary": "; ".join(_summary(route) for route in routes),
        "parameters": [_version_header(version), *_placeholders(path), *_query(routes[0], version)],
        "responses": _responses(routes),
    }
    rules = sorted({route.rule for route in routes if route.rule})
    if rules:
        made["x-policy-rules"] = rules
    bodies = [_body(route, version) for route in routes]
    given = [body for body in bodies if body is not None]
    if given:
        schema = given[0] if len(routes) == 1 else {"oneOf": given}
        made["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema}}}
    if any(route.open for route in routes):
        made["security"] = []
    return made


def _summary(route: Route) -> str:
    """The first line of the handler's docstring, after the action's name."""
    said = (route.handler.__doc__ or "").strip().partition("\n")[0]
    return f"{route.action}: {said}" if route.action else said


def _responses(routes: list[Route]) -> dict[str, Any]:
    """The statuses that handlers name, and the form of every fault."""
    codes: dict[str, str] = {}
    for route in routes:
        found = _STATUS.search(route.handler.__doc__ or "")
        codes.setdefault(found[1] if found else "2XX", "Done.")
    fault = {"application/json": {"schema": {"$ref": "#/components/schemas/Fault"}}}
    made: dict[str, Any] = {code: {"description": text} for code, text in sorted(codes.items())}
    return made | {"4XX": {"description": "Refused.", "content": fault}, "5XX": {"description": "Failed.",
                                                                                "content": fault}}  # fmt: skip


def _version_header(version: Version) -> dict[str, Any]:
    schema = {"type": "string", "default": f"compute {shown(version)}"}
    return {"name": "OpenStack-API-Version", "in": "header", "required": False, "schema": schema}


def _placeholders(path: str) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in _PLACEHOLDER.findall(path)
    ]


def _query(route: Route, version: Version) -> list[dict[str, Any]]:
    schema = _at(route.query, version) or {}
    properties: Mapping[str, Any] = schema.get("properties", {})
    return [{"name": name, "in": "query", "required": False, "schema": part} for name, part in properties.items()]


def _body(route: Route, version: Version) -> Schema | None:
    """What the body must be; of an action without a schema only its name is known."""
    schema = _at(route.body, version)
    if schema is None and route.action is not None:
        return {"type": "object", "properties": {route.action: {}}, "required": [route.action]}
    return schema


def _at(schemas: Schema | ByVersion | None, version: Version) -> Schema | None:
    if not isinstance(schemas, tuple):
        return schemas
    found = None
    for start, schema in schemas:
        if start <= version:
            found = schema
    return found
