"""The OpenAPI 3.1 document of the Compute API at one microversion, made from the table of routes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from api_cell.compute import examples
from api_cell.compute.example_answers import ANSWERS
from api_cell.compute.history import NEWEST
from api_cell.compute.titles import group, title
from api_cell.edge.faults import NAMES
from api_cell.edge.route import ByVersion, Route, Schema, Version
from api_cell.edge.versions import shown

_STATUS = re.compile(r"\b(20\d)\b")
_NO_WORD = re.compile(r"[^a-z0-9]+")
_PLACEHOLDER = re.compile(r"\{([^}]*)\}")
_GONE = "410 for every request"
_REFUSALS = {
    "400": "The body, a parameter or a value in it is not as the operation takes it.",
    "401": "There is no token, or it is not valid any more.",
    "403": "The caller's roles do not allow it, or a quota is used up.",
    "404": "There is no such thing, or not in the caller's project, or not at this microversion.",
    "406": "The service does not have this microversion.",
    "409": "The state of the thing does not allow it now, or it is there already.",
    "410": "The operation is not served any more.",
    "4XX": "The request is refused.",
    "503": "A cell, or a service that the operation needs, does not answer; the same request may succeed later.",
    "5XX": "The service failed.",
}
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
        "tags": [{"name": name} for name in _groups(paths)],
        "paths": paths,
        "components": {
            "schemas": {"Fault": _FAULT},
            "responses": {f"Refused{code}": _refusal(code) for code in _REFUSALS},
            "securitySchemes": {
                "token": {
                    "type": "apiKey",
                    "in": "header",
                    "name": "X-Auth-Token",
                    "description": "A token of the identity service.",
                }
            },
        },
    }


def _groups(paths: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The names of all groups; those of which no operation is served any more are last."""
    served = {group(path) for path, methods in paths.items() if not all(map(_deprecated, methods.values()))}
    return sorted({group(path) for path in paths}, key=lambda name: (name not in served, name))


def _deprecated(operation: Mapping[str, Any]) -> bool:
    return bool(operation.get("deprecated"))


def _operation(path: str, method: str, routes: list[Route], version: Version) -> dict[str, Any]:
    made: dict[str, Any] = {
        "operationId": _NO_WORD.sub("-", f"{method.lower()}{path}").strip("-"),
        "tags": [group(path)],
        "summary": title(method, path),
        "description": "\n".join(_description(route) for route in routes),
        "parameters": [_version_header(version), *_placeholders(path), *_query(routes[0], version)],
        "responses": _responses(path, method, routes, version),
    }
    if all(map(_gone, routes)):
        made["deprecated"] = True
    rules = sorted({route.rule for route in routes if route.rule})
    if rules:
        made["x-policy-rules"] = rules
    bodies = [(route, schema) for route in routes if (schema := _body(route, version)) is not None]
    if bodies:
        made["requestBody"] = {"required": True, "content": {"application/json": _content(method, path, bodies)}}
    if any(route.open for route in routes):
        made["security"] = []
    return made


def _content(method: str, path: str, bodies: list[tuple[Route, Schema]]) -> dict[str, Any]:
    """The schema of a body with an example; of actions the choice of them, each with an example under its name."""
    if all(route.action is None for route, _ in bodies):
        ((_, schema),) = bodies
        example = examples.body(method, path, None, schema)
        return {"schema": schema} | ({} if example is None else {"example": example})
    shown = {str(route.action): {"value": examples.body(method, path, route.action, schema)}
             for route, schema in bodies}  # fmt: skip
    return {"schema": {"oneOf": [schema for _, schema in bodies]}, "examples": shown}


def _description(route: Route) -> str:
    """The handler's docstring; of an action as an item of a list, below the action's name."""
    said = " ".join((route.handler.__doc__ or "").split())
    return f"- `{route.action}`{': ' if said else ''}{said}" if route.action else said


def _responses(path: str, method: str, routes: list[Route], version: Version) -> dict[str, Any]:
    """The statuses that handlers name, at the newest version with an example, and those of refusals."""
    codes: set[str] = set()
    for route in routes:
        if _gone(route):
            continue
        found = _STATUS.search(route.handler.__doc__ or "")
        codes.add(found[1] if found else "2XX")
    refusals = {"400", "406", "4XX", "503", "5XX"}
    if not all(route.open for route in routes):
        refusals |= {"401", "403"}
    if _PLACEHOLDER.search(path):
        refusals.add("404")
    if method != "GET":
        refusals.add("409")
    if any(_gone(route) for route in routes):
        refusals.add("410")
    made: dict[str, Any] = {code: {"description": "Done."} for code in sorted(codes)}
    if version == NEWEST and (method, path) in ANSWERS:
        (answer,) = made.values()
        answer["content"] = {"application/json": {"example": ANSWERS[method, path]}}
    return made | {code: {"$ref": f"#/components/responses/Refused{code}"} for code in sorted(refusals)}


def _gone(route: Route) -> bool:
    return (route.handler.__doc__ or "").startswith(_GONE)


def _refusal(code: str) -> dict[str, Any]:
    content: dict[str, Any] = {"schema": {"$ref": "#/components/schemas/Fault"}}
    if code.isdigit():
        content["example"] = {NAMES.get(int(code), "computeFault"): {"code": int(code), "message": _REFUSALS[code]}}
    return {"description": _REFUSALS[code], "content": {"application/json": content}}


def _version_header(version: Version) -> dict[str, Any]:
    schema = {"type": "string", "default": f"compute {shown(version)}"}
    return {
        "name": "OpenStack-API-Version",
        "in": "header",
        "required": False,
        "schema": schema,
        "description": "The microversion of the request.",
    }


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
    """The schema of the body; of an action without a schema only its name is known."""
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
