"""Request bodies of the Placement API, each from the version on in which it applies (see its REST version history)."""

from __future__ import annotations

from typing import Any

from api_cell.edge.route import ByVersion, Schema

UUID: Schema = {"type": "string", "format": "uuid"}
_UUID_KEY = "^[0-9a-fA-F-]{36}$"
_CLASS_KEY = "^[A-Z0-9_]+$"
_NAME: Schema = {"type": "string", "minLength": 1, "maxLength": 255}
_CUSTOM: Schema = {"type": "string", "pattern": "^CUSTOM_[A-Z0-9_]+$", "maxLength": 255}
_GENERATION: Schema = {"type": "integer"}
_LARGEST = 2147483647


def _closed(required: tuple[str, ...], **properties: object) -> dict[str, Any]:
    """An object with these keys and no others."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }


def _map(key: str, value: Schema, least: int = 0) -> dict[str, Any]:
    return {"type": "object", "minProperties": least, "patternProperties": {key: value}, "additionalProperties": False}


# -- providers --------------------------------------------------------------------------------

_PROVIDER_NAME: Schema = {"type": "string", "maxLength": 200}
_PARENT: Schema = {"anyOf": [UUID, {"type": "null"}]}
CREATE_PROVIDER: ByVersion = (
    ((1, 0), _closed(("name",), name=_PROVIDER_NAME, uuid=UUID)),
    ((1, 14), _closed(("name",), name=_PROVIDER_NAME, uuid=UUID, parent_provider_uuid=_PARENT)),
)
UPDATE_PROVIDER: ByVersion = (
    ((1, 0), _closed(("name",), name=_PROVIDER_NAME)),
    ((1, 14), _closed(("name",), name=_PROVIDER_NAME, parent_provider_uuid=_PARENT)),
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
    "patternProperties": {_CLASS_KEY: _closed(("total",), **_INVENTORY)},
}
CREATE_INVENTORY = _closed(
    ("total", "resource_class"), resource_class={"type": "string", "pattern": _CLASS_KEY}, **_INVENTORY
)
UPDATE_INVENTORY = _closed(("total",), **_INVENTORY)
PUT_INVENTORIES = _closed(
    ("resource_provider_generation", "inventories"),
    resource_provider_generation=_GENERATION,
    inventories=_INVENTORIES,
)

# -- classes, traits, aggregates --------------------------------------------------------------

RESOURCE_CLASS = _closed(("name",), name=_CUSTOM)
UPDATE_RESOURCE_CLASS: ByVersion = (((1, 2), RESOURCE_CLASS), ((1, 7), None))
PUT_TRAITS = _closed(
    ("traits", "resource_provider_generation"),
    traits={"type": "array", "items": _NAME},
    resource_provider_generation=_GENERATION,
)
_AGGREGATES: Schema = {"type": "array", "items": UUID, "uniqueItems": True}
PUT_AGGREGATES: ByVersion = (
    ((1, 1), _AGGREGATES),
    (
        (1, 19),
        _closed(
            ("aggregates", "resource_provider_generation"),
            aggregates=_AGGREGATES,
            resource_provider_generation=_GENERATION,
        ),
    ),
)

# -- allocations ------------------------------------------------------------------------------

_AMOUNTS = _map(_CLASS_KEY, {"type": "integer", "minimum": 1}, least=1)
_LIST: Schema = {
    "type": "array",
    "minItems": 1,
    "items": _closed(
        ("resource_provider", "resources"), resource_provider=_closed(("uuid",), uuid=UUID), resources=_AMOUNTS
    ),
}
_OWNER: dict[str, Any] = {"project_id": _NAME, "user_id": _NAME}
_CONSUMER_GENERATION: dict[str, Any] = {"consumer_generation": {"type": ["integer", "null"]}}
_MAPPINGS: dict[str, Any] = {
    "mappings": {
        "type": "object",
        "minProperties": 1,
        "patternProperties": {"[a-zA-Z0-9_-]{1,64}": {"type": "array", "minItems": 1, "items": UUID}},
    }
}
_CONSUMER_TYPE: dict[str, Any] = {
    "consumer_type": {"type": "string", "pattern": "^[A-Z0-9_]+$", "minLength": 1, "maxLength": 255}
}


def _by_provider(least: int) -> dict[str, Any]:
    return {
        "allocations": _map(_UUID_KEY, _closed(("resources",), generation=_GENERATION, resources=_AMOUNTS), least=least)
    }


_KEYS = ("allocations", "project_id", "user_id")
_V28 = {**_by_provider(0), **_OWNER, **_CONSUMER_GENERATION}
_ONE_V28 = _closed((*_KEYS, "consumer_generation"), **_V28)
_ONE_V34 = _closed((*_KEYS, "consumer_generation"), **_V28, **_MAPPINGS)
_ONE_V38 = _closed((*_KEYS, "consumer_generation", "consumer_type"), **_V28, **_MAPPINGS, **_CONSUMER_TYPE)
PUT_ALLOCATIONS: ByVersion = (
    ((1, 0), _closed(("allocations",), allocations=_LIST)),
    ((1, 8), _closed(_KEYS, allocations=_LIST, **_OWNER)),
    ((1, 12), _closed(_KEYS, **_by_provider(1), **_OWNER)),
    ((1, 28), _ONE_V28),
    ((1, 34), _ONE_V34),
    ((1, 38), _ONE_V38),
)
POST_ALLOCATIONS: ByVersion = (
    ((1, 13), _map(_UUID_KEY, _closed(_KEYS, **_by_provider(0), **_OWNER), least=1)),
    ((1, 28), _map(_UUID_KEY, _ONE_V28, least=1)),
    ((1, 34), _map(_UUID_KEY, _ONE_V34, least=1)),
    ((1, 38), _map(_UUID_KEY, _ONE_V38, least=1)),
)


def _reshape(allocation: Schema) -> Schema:
    return _closed(
        ("inventories", "allocations"),
        inventories=_map(_UUID_KEY, PUT_INVENTORIES, least=1),
        allocations=_map(_UUID_KEY, allocation),
    )


RESHAPE: ByVersion = (
    ((1, 30), _reshape(_ONE_V28)),
    ((1, 34), _reshape(_ONE_V34)),
    ((1, 38), _reshape(_ONE_V38)),
)
