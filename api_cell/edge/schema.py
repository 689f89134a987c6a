"""JSON schemas as validators: compiled once, with messages in the form that the ecosystem's clients know.

Beyond the standard, `minimum` and `maximum` apply to numbers written as text too, where a schema admits text, and no
whole number is beyond 64 bits.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar

import fastjsonschema

from api_cell.edge.formats import FORMATS
from api_cell.edge.route import Schema
from cell_service.errors import Invalid
from cell_service.model.numbers import INT64

_INT64 = {"minimum": INT64[0], "maximum": INT64[-1]}
_BOUNDS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")
_SHOWN_CHARACTERS = 4096
"""Longer values are cut in messages."""
_MOST_DIGITS = 1000
"""Longer numbers are none: Python refuses to read them."""
_SECRET = re.compile(r"(?i)pass|secret|token|user_data|private")


@dataclass(frozen=True, slots=True)
class Wording:
    """How an API says what does not fit: `at` for a value in the data, with its `path` and `value`, `whole` for the
    data as such, each with the `problem`, the `rule` of the schema, and the `place` of that in the schema. `outermost`:
    the path's first name is shown, and not its last."""

    at: str
    whole: str = "{problem}"
    outermost: bool = False


BODY = Wording("Invalid input for field/attribute {path}. Value: {value}. {problem}")
QUERY = Wording("Invalid input for query parameters {path}. Value: {value}. {problem}", outermost=True)


class Validator:
    """One schema. Thread-safe."""

    _made: ClassVar[dict[int, Validator]] = {}

    def __init__(self, schema: Schema) -> None:
        self._schema = schema
        self._check: Callable[[Any], Any] | None = None

    @classmethod
    def of(cls, schema: Schema) -> Validator:
        """The validator of this very object: routes that share a schema share it."""
        return cls._made.setdefault(id(schema), cls(schema))

    def compiled(self) -> Callable[[Any], Any]:
        """The function that checks data, made at the first call."""
        if self._check is None:
            self._check = _compiled(self._schema)
        return self._check

    def check(self, data: object, wording: Wording = BODY) -> None:
        """Raises Invalid, saying where and why, unless the data fits."""
        try:
            self.compiled()(data)
        except fastjsonschema.JsonSchemaValueException as error:
            raise Invalid(reason=_explained(error, wording)) from None

    def pruned(self, data: object) -> Any:
        """The data without the keys that the schema would refuse as unknown."""
        return _pruned(self._schema, data)


def _compiled(schema: Schema) -> Callable[[Any], Any]:
    formats = dict(FORMATS)
    prepared = {"$schema": "http://json-schema.org/draft-07/schema#", **_prepared(schema, formats)}
    check: Callable[[Any], Any] = fastjsonschema.compile(prepared, formats=formats, use_default=False)
    return check


def _prepared(schema: object, formats: dict[str, Callable[[str], bool]]) -> Any:
    """The schema with its bounds on numbers written as text turned into formats."""
    if isinstance(schema, (list, tuple)):
        return [_prepared(item, formats) for item in schema]
    if not isinstance(schema, Mapping):
        return schema
    made = {name: _prepared(part, formats) for name, part in schema.items()}
    kinds = made.get("type")
    if kinds == "integer" or (isinstance(kinds, list) and "integer" in kinds):
        made = _INT64 | made
    bounds = {name: made[name] for name in _BOUNDS if isinstance(made.get(name), (int, float))}
    if bounds and isinstance(kinds, list) and "string" in kinds and "format" not in made:
        name = "number " + " ".join(f"{bound} {value}" for bound, value in bounds.items())
        formats[name] = _within(bounds)
        made["format"] = name
    return made


def _within(bounds: dict[str, float]) -> Callable[[str], bool]:
    def fits(text: str) -> bool:
        if len(text) > _MOST_DIGITS:
            return False
        try:
            number = float(text)
        except ValueError:
            return True  # not a number: the pattern's business
        return (
            number >= bounds.get("minimum", number)
            and number <= bounds.get("maximum", number)
            and ("exclusiveMinimum" not in bounds or number > bounds["exclusiveMinimum"])
            and ("exclusiveMaximum" not in bounds or number < bounds["exclusiveMaximum"])
        )

    return fits


def _pruned(schema: object, data: object) -> Any:
    if not isinstance(schema, Mapping):
        return data
    if isinstance(data, list) and isinstance(schema.get("items"), Mapping):
        return [_pruned(schema["items"], item) for item in data]
    if not isinstance(data, dict):
        return data
    known, patterns = schema.get("properties", {}), schema.get("patternProperties", {})
    kept = {}
    for name, value in data.items():
        if name in known:
            kept[name] = _pruned(known[name], value)
        elif schema.get("additionalProperties", True) is not False or _fits_any(name, patterns):
            kept[name] = value
    return kept


def _fits_any(name: str, patterns: Mapping[str, Any]) -> bool:
    return any(_pattern(pattern).search(name) for pattern in patterns)


@lru_cache(maxsize=256)
def _pattern(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern)


def _explained(error: Any, wording: Wording) -> str:
    where = error.path[1:]
    problem = _problem(error)
    if not where:
        return wording.whole.format(problem=problem, rule=error.rule, place="")
    name = where[0 if wording.outermost else -1]
    value = "***" if _SECRET.search(name) else _clipped(_masked(error.value))
    place = "".join("['items']" if part.isdecimal() else f"['properties'][{part!r}]" for part in where)
    return wording.at.format(path=name, value=value, problem=problem, rule=error.rule, place=place)


def _problem(error: Any) -> str:
    value, rule, definition = error.value, error.rule, error.definition
    if rule == "required":
        missing = next((name for name in definition["required"] if name not in value), "?")
        return f"{missing!r} is a required property"
    if rule == "additionalProperties" and isinstance(value, dict):
        known, patterns = definition.get("properties", {}), definition.get("patternProperties", {})
        extra = sorted(repr(name) for name in value if name not in known and not _fits_any(name, patterns))
        if patterns:
            verb = "does" if len(extra) == 1 else "do"
            regexes = ", ".join(repr(pattern) for pattern in sorted(patterns))
            return f"{', '.join(extra)} {verb} not match any of the regexes: {regexes}"
        verb = "was" if len(extra) == 1 else "were"
        return f"Additional properties are not allowed ({', '.join(extra)} {verb} unexpected)"
    shown = "the value" if _SECRET.search(error.path[-1]) else _clipped(repr(_masked(value)))
    wanted = definition.get(rule) if isinstance(definition, Mapping) else None
    if rule == "format" and str(wanted).startswith("number "):
        return f"{shown} is out of bounds ({str(wanted).removeprefix('number ')})"
    said = _SAID.get(rule)
    return said.format(value=shown, wanted=wanted) if said else error.message.replace("data", "the body", 1)


_SAID = {
    "type": "{value} is not of type {wanted!r}",
    "minLength": "{value} is too short",
    "maxLength": "{value} is too long",
    "minItems": "{value} is too short",
    "maxItems": "{value} is too long",
    "minProperties": "{value} does not have enough properties",
    "maxProperties": "{value} has too many properties",
    "uniqueItems": "{value} has non-unique elements",
    "pattern": "{value} does not match {wanted!r}",
    "format": "{value} is not a {wanted!r}",
    "enum": "{value} is not one of {wanted!r}",
    "const": "{wanted!r} was expected",
    "minimum": "{value} is less than the minimum of {wanted}",
    "maximum": "{value} is greater than the maximum of {wanted}",
    "oneOf": "{value} is not valid under any of the given schemas",
    "anyOf": "{value} is not valid under any of the given schemas",
    "not": "{value} is not allowed for {wanted!r}",
}


def _masked(value: object) -> Any:
    """The value with everything under a name that sounds like a secret replaced."""
    if isinstance(value, dict):
        return {name: "***" if _SECRET.search(str(name)) else _masked(part) for name, part in value.items()}
    return [_masked(part) for part in value] if isinstance(value, list) else value


def _clipped(value: object) -> str:
    text = str(value)
    return text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "..."
