"""Request bodies of the Placement API, with the versions that have their fields (Placement API reference)."""

from __future__ import annotations

from typing import Any

from api_cell.edge.route import Schema
from api_cell.edge.shapes import UUID, strict
from api_cell.edge.versioned import Field, bodies_of

_UUID_KEY = "^[0-9a-fA-F-]{36}$"
_CLASS_KEY = "^[A-Z0-9_]+$"
_NAME: Schema = {"type": "string", "minLength": 1, "maxLength": 255}
_CUSTOM: Schema = {"type": "string", "pattern": "^CUSTOM_[A-Z0-9_]+$", "maxLength": 255}
_GENERATION: Schema = {"type": "integer"}
_LARGEST = 2147483647


def _map(key: str, value: Schema, least: int = 0) -> dict[str, Any]:
    return {"type": "object", "minProperties": least, "patternProperties": {key: value}, "additionalProperties": False}


# -- providers --------------------------------------------------------------------------------

_PROVIDER_NAME: Schema = {"type": "string", "maxLength": 200}
_PARENT: Schema = {"anyOf": [UUID, {"type": "null"}]}
CREATE_PROVIDER = bodies_of(
    lambda provider: provider,
    Field("name", _PROVIDER_NAME, required=True),
    Field("uuid", UUID),
    Field("parent_provider_uuid", _PARENT, since=(1, 14)),
)
UPDATE_PROVIDER = bodies_of(
    lambda provider: provider,
    Field("name", _PROVIDER_NAME, required=True),
    Field("parent_provider_uuid", _PARENT, since=(1, 14)),
)

# -- inventories ------------------------------------------------------------------------------


def _count(least: int) -> Schema:
    return {"type": "integer", "minimum": least, "maximum": _LARGEST}


_INVENTORY: dict[str, Any] = {
    "resource_provider_generation": _GENERATION,
    "total": _count(1),
    "reserved": _count(0),
    "min_unit": _count(1),
    "max_unit": _count(1),
    "step_size": _count(1),
    "allocation_ratio": {"type": "number", "maximum": 3.40282e38},
}
_INVENTORIES = {
    "type": "object",
    "patternProperties": {_CLASS_KEY: strict(_INVENTORY, "total")},
}
CREATE_INVENTORY = strict(
    {"resource_class": {"type": "string", "pattern": _CLASS_KEY}, **_INVENTORY}, "total", "resource_class"
)
UPDATE_INVENTORY = strict(_INVENTORY, "total")
PUT_INVENTORIES = strict(
    {"resource_provider_generation": _GENERATION, "inventories": _INVENTORIES},
    *("resource_provider_generation", "inventories"),
)

# -- classes, traits, aggregates --------------------------------------------------------------

RESOURCE_CLASS = strict({"name": _CUSTOM}, "name")
PUT_TRAITS = strict(
    {"traits": {"type": "array", "items": _NAME}, "resource_provider_generation": _GENERATION},
    *("traits", "resource_provider_generation"),
)
REPLACE_AGGREGATES: Schema = {"type": "array", "items": UUID, "uniqueItems": True}
PUT_AGGREGATES = strict(
    {"aggregates": REPLACE_AGGREGATES, "resource_provider_generation": _GENERATION},
    *("aggregates", "resource_provider_generation"),
)

# -- allocations ------------------------------------------------------------------------------

_AMOUNTS = _map(_CLASS_KEY, {"type": "integer", "minimum": 1}, least=1)
_MAPPINGS: Schema = {
    "type": "object",
    "minProperties": 1,
    "patternProperties": {"[a-zA-Z0-9_-]{1,64}": {"type": "array", "minItems": 1, "items": UUID}},
}
_CONSUMER_TYPE: Schema = {"type": "string", "pattern": "^[A-Z0-9_]+$", "minLength": 1, "maxLength": 255}
_BY_LIST: Schema = {
    "type": "array",
    "minItems": 1,
    "items": strict(
        {"resource_provider": strict({"uuid": UUID}, "uuid"), "resources": _AMOUNTS}, "resource_provider", "resources"
    ),
}
_ON_PROVIDER = strict({"generation": _GENERATION, "resources": _AMOUNTS}, "resources")
_BY_PROVIDER = _map(_UUID_KEY, _ON_PROVIDER)
_CONSUMER: tuple[Field[Schema], ...] = (
    Field("project_id", _NAME, since=(1, 8), required=True),
    Field("user_id", _NAME, since=(1, 8), required=True),
    Field("consumer_generation", {"type": ["integer", "null"]}, since=(1, 28), required=True),
    Field("mappings", _MAPPINGS, since=(1, 34)),
    Field("consumer_type", _CONSUMER_TYPE, since=(1, 38), required=True),
)
PUT_ALLOCATIONS = bodies_of(
    lambda consumer: consumer,
    Field("allocations", _BY_LIST, until=(1, 11), required=True),
    Field("allocations", _map(_UUID_KEY, _ON_PROVIDER, least=1), since=(1, 12), until=(1, 27), required=True),
    Field("allocations", _BY_PROVIDER, since=(1, 28), required=True),
    *_CONSUMER,
)
POST_ALLOCATIONS = bodies_of(
    lambda consumer: _map(_UUID_KEY, consumer, least=1),
    Field("allocations", _BY_PROVIDER, required=True),
    *_CONSUMER,
    since=(1, 13),
)
RESHAPE = bodies_of(
    lambda consumer: strict(
        {"inventories": _map(_UUID_KEY, PUT_INVENTORIES, least=1), "allocations": _map(_UUID_KEY, consumer)},
        *("inventories", "allocations"),
    ),
    Field("allocations", _BY_PROVIDER, required=True),
    *_CONSUMER,
    since=(1, 30),
)
