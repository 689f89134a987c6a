"""The schemas that the Image API publishes of its records, as far as clients read them."""

from __future__ import annotations

from typing import Any

from tools.companions.image.views import CONTAINER_FORMATS, DISK_FORMATS, VISIBILITIES

_TEXT = {"type": ["null", "string"], "maxLength": 255}
_COUNT = {"type": ["null", "integer"]}
_MOMENT = {"type": "string", "readOnly": True}

IMAGE: dict[str, Any] = {
    "name": "image",
    "properties": {
        "id": {"type": "string"},
        "name": _TEXT,
        "status": {
            "type": "string",
            "readOnly": True,
            "enum": ["queued", "saving", "active", "killed", "deleted", "uploading", "importing", "pending_delete",
                     "deactivated"],
        },
        "visibility": {"type": "string", "enum": list(VISIBILITIES)},
        "protected": {"type": "boolean"},
        "os_hidden": {"type": "boolean"},
        "checksum": _TEXT | {"readOnly": True},
        "os_hash_algo": _TEXT | {"readOnly": True},
        "os_hash_value": _TEXT | {"readOnly": True},
        "owner": _TEXT,
        "size": _COUNT | {"readOnly": True},
        "virtual_size": _COUNT | {"readOnly": True},
        "container_format": {"type": ["null", "string"], "enum": [None, *CONTAINER_FORMATS]},
        "disk_format": {"type": ["null", "string"], "enum": [None, *DISK_FORMATS]},
        "created_at": _MOMENT,
        "updated_at": _MOMENT,
        "tags": {"type": "array", "items": {"type": "string", "maxLength": 255}},
        "min_ram": {"type": "integer", "minimum": 0},
        "min_disk": {"type": "integer", "minimum": 0},
        "self": {"type": "string", "readOnly": True},
        "file": {"type": "string", "readOnly": True},
        "schema": {"type": "string", "readOnly": True},
    },
    "additionalProperties": {"type": "string"},
}  # fmt: skip
_MEMBER: dict[str, Any] = {
    "name": "member",
    "properties": {
        "image_id": {"type": "string"},
        "member_id": {"type": "string"},
        "status": {"type": "string", "enum": ["pending", "accepted", "rejected"]},
        "created_at": {"type": "string"},
        "updated_at": {"type": "string"},
        "schema": {"type": "string"},
    },
}


def _many(name: str, item: dict[str, Any]) -> dict[str, Any]:
    links = {"first": {"type": "string"}, "next": {"type": "string"}, "schema": {"type": "string"}}
    return {"name": name, "properties": {name: {"type": "array", "items": item}, **links}}


SCHEMAS = {"image": IMAGE, "images": _many("images", IMAGE), "member": _MEMBER, "members": _many("members", _MEMBER)}
_ONE, _LIST = {"type": "string"}, {"type": "array"}
_NAMED = {"name": _ONE, "created_at": _MOMENT, "updated_at": _MOMENT}
_OF_NAMESPACE = {
    "namespace": {"type": "string", "maxLength": 80},
    "display_name": {"type": "string", "maxLength": 80},
    "description": {"type": "string", "maxLength": 500},
    "visibility": {"type": "string", "enum": ["public", "private"]},
    "protected": {"type": "boolean"},
    "owner": {"type": "string", "maxLength": 255},
    "properties": {"type": "object"},
    "objects": {"type": "array"},
    "tags": {"type": "array"},
    "resource_type_associations": {"type": "array"},
    "created_at": _MOMENT, "updated_at": _MOMENT, "self": _ONE, "schema": _ONE,
}  # fmt: skip
_METADEFS: dict[str, tuple[str, dict[str, Any], list[str]]] = {
    "namespace": ("namespaces", _OF_NAMESPACE, ["namespace"]),
    "object": ("objects", {**_NAMED, "description": _ONE, "required": _LIST, "properties": {"type": "object"},
                           "self": _ONE, "schema": _ONE}, ["name"]),
    "property": ("properties", {"name": _ONE, "title": _ONE, "description": _ONE, "type": _ONE, "operators": _LIST,
                                "enum": _LIST, "items": {"type": "object"}, "default": {}}, ["type", "title"]),
    "tag": ("tags", _NAMED, ["name"]),
    "resource_type": ("resource_types", {**_NAMED, "prefix": _ONE, "properties_target": _ONE}, ["name"]),
}  # fmt: skip
METADEF_SCHEMAS: dict[str, Any] = {}
"""The schemas of metadata definitions, one and many."""
for _name, (_plural, _properties, _required) in _METADEFS.items():
    _schema = {"name": _name, "properties": _properties, "required": _required, "additionalProperties": False}
    METADEF_SCHEMAS |= {_name: _schema, _plural: _many(_plural, _schema)}
