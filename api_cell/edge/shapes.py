"""Pieces that schemas are made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from api_cell.edge.route import ByVersion, Schema, Version
from cell_service.errors import Invalid, PolycellError

TRUE_WORDS = (True, "True", "TRUE", "true", "1", "ON", "On", "on", "YES", "Yes", "yes")
FALSE_WORDS = (False, "False", "FALSE", "false", "0", "OFF", "Off", "off", "NO", "No", "no")
BOOLEAN: Schema = {"type": ["boolean", "string"], "enum": [*TRUE_WORDS, *FALSE_WORDS]}
TEXT: Schema = {"type": "string"}
NAME: Schema = {"type": "string", "format": "name", "minLength": 1, "maxLength": 255}
SHORT_TEXT: Schema = {"type": "string", "minLength": 1, "maxLength": 255}
UUID: Schema = {"type": "string", "format": "uuid"}
HOST: Schema = {"type": "string", "pattern": "^[a-zA-Z0-9-._]*$", "minLength": 1, "maxLength": 255}
SPEC_KEY = "^[a-zA-Z0-9-_:. ]{1,255}$"
MAX_INT = 0x7FFFFFFF
WHOLE: Schema = {"type": ["integer", "string"], "pattern": "^[0-9]*$", "minimum": 0, "minLength": 1}


def is_true(value: object) -> bool:
    """Whether a value that fits BOOLEAN is true."""
    return value in TRUE_WORDS


def number_of(text: str, what: str, missing: PolycellError) -> int:
    """The number by which a path names something. Raises Invalid for what is none, `missing` for one that
    nothing has."""
    if not text.removeprefix("-").isdecimal():
        raise Invalid(reason=f"Invalid {what} id {text[:64]}")
    if len(text) > 9 or text.startswith("-"):
        raise missing
    return int(text)


def number(low: int, high: int = MAX_INT, *, pattern: str = "^[0-9]+$") -> Schema:
    """A whole number, also as text."""
    return {"type": ["integer", "string"], "pattern": pattern, "minimum": low, "maximum": high}


def strict(properties: Mapping[str, Any], *required: str) -> Schema:
    """An object with these keys and no others."""
    return {
        "type": "object",
        "properties": dict(properties),
        "required": list(required),
        "additionalProperties": False,
    }


def wrapped(name: str, content: Schema) -> Schema:
    """A body with one key."""
    return strict({name: content}, name)


def by_version(make: Callable[[Version], Schema | None], *versions: Version) -> ByVersion:
    """The schema that `make(version)` gives, for each of the versions at which it changes."""
    return tuple((version, make(version)) for version in versions)


def query(parameters: Mapping[str, Any], *, closed: bool, once: bool = False) -> Schema:
    """A query: every parameter is a list of values. `closed`: no others; `once`: each at most once."""
    limits = {"maxItems": 1} if once else {}
    return {
        "type": "object",
        "properties": {name: {"type": "array", "items": item, **limits} for name, item in parameters.items()},
        "additionalProperties": not closed,
    }


def query_until_closed(parameters: Mapping[str, Any], start: Version = (2, 1), closed: Version = (2, 75)) -> ByVersion:
    """A query that refuses unknown parameters only from `closed` on."""
    return ((start, query(parameters, closed=False)), (closed, query(parameters, closed=True)))
