"""Small values that fit a JSON schema: what a request needs at least, or everything that it may have."""

from __future__ import annotations

import re
from typing import Any

FORMS = {
    "date-time": "2026-01-01T00:00:00Z",
    "uuid": "6a2b0a3c-4d5e-4f60-8a1b-2c3d4e5f6071",
    "uri": "http://127.0.0.1/x",
    "ipv4": "192.0.2.7",
    "ipv6": "2001:db8::7",
    "cidr": "192.0.2.0/24",
    "base64": "aGVsbG8=",
    "regex": "a",
    "mac-address": "52:54:00:12:34:56",
    "name": "made",
    "az_name": "nova",
    "name_with_leading_trailing_spaces": "made",
}
_TEXTS = ("made", "1", "2012-01-01", "auto", "vda", "/dev/vda", "fa:16:3e:4d:4c:3f", "10", "nova", FORMS["uuid"])


def make(schema: Any, known: dict[str, Any] | None = None, *, whole: bool = False, name: str = "") -> Any:
    """A value that fits; `known` gives values by property name, `whole` also fills what need not be there."""
    known = known or {}
    if name in known:
        return known[name]
    if not isinstance(schema, dict):
        return None
    for choice in ("oneOf", "anyOf"):
        if choice in schema:
            first = next((each for each in schema[choice] if each.get("type") != "null"), schema[choice][0])
            rest = {key: value for key, value in schema.items() if key != choice}
            return make({**rest, **first}, known, whole=whole, name=name)
    if "enum" in schema:
        return schema["enum"][0]
    kinds = schema.get("type", "object" if "properties" in schema else "null")
    kind = kinds if isinstance(kinds, str) else _preferred(kinds)
    if kind == "object":
        return _object(schema, known, whole)
    if kind == "array":
        count = max(schema.get("minItems", 0), 1 if whole else 0)
        return [make(schema.get("items", {}), known, whole=whole) for _ in range(count)]
    if kind == "string":
        return _text(schema)
    if kind in ("integer", "number"):
        return max(schema.get("minimum", 0), 1) if schema.get("maximum", 1) >= 1 else schema["maximum"]
    return True if kind == "boolean" else None


def _preferred(kinds: list[str]) -> str:
    return next((kind for kind in ("object", "array", "string", "integer", "boolean") if kind in kinds), kinds[0])


def _object(schema: dict[str, Any], known: dict[str, Any], whole: bool) -> dict[str, Any]:
    properties = schema.get("properties", {})
    wanted = list(properties) if whole else list(schema.get("required", []))
    made = {name: make(properties.get(name, {}), known, whole=whole, name=name) for name in wanted}
    for name in properties:
        if len(made) < schema.get("minProperties", 0) and name not in made:
            made[name] = make(properties[name], known, name=name)
    for content in schema.get("patternProperties", {}).values():
        if whole or len(made) < schema.get("minProperties", 0):
            made.setdefault("key", make(content, known, whole=whole))
    return made


def _text(schema: dict[str, Any]) -> str:
    if schema.get("format") in FORMS:
        return FORMS[schema["format"]]
    pattern, low = schema.get("pattern"), schema.get("minLength", 0)
    for text in _TEXTS:
        if len(text) >= low and (pattern is None or re.search(pattern, text)):
            return text
    return "a" * max(low, 1)
