"""Pieces of the schemas of companions' bodies. A body may have keys that its schema does not name."""

from __future__ import annotations

from api_cell.edge.route import Schema
from api_cell.edge.shapes import BOOLEAN

TEXT: Schema = {"type": ["string", "null"], "maxLength": 255}
WORD: Schema = {"type": "string", "minLength": 1, "maxLength": 255}
FLAG: Schema = {"type": ["boolean", "string", "integer", "null"], "enum": [*BOOLEAN["enum"], 0, 1, None]}
SIZE: Schema = {"type": ["integer", "string", "null"], "pattern": "^[0-9]+$", "minimum": 1, "maximum": 2**31 - 1}
METADATA: Schema = {
    "type": ["object", "null"],
    "propertyNames": {"minLength": 1, "maxLength": 255},
    "additionalProperties": {"type": "string", "maxLength": 255},
}


def item(*required: str, **properties: Schema) -> Schema:
    """An object with these keys, and any others."""
    return {"type": "object", "properties": properties, "required": list(required)}


def listed(entry: Schema) -> Schema:
    return {"type": "array", "items": entry}


def under(key: str, content: Schema) -> Schema:
    """A body with its content under one key."""
    return item(key, **{key: content})
