"""Bodies and queries of flavors, their extra specs and their access lists."""

from __future__ import annotations

from api_cell.edge.route import Schema
from api_cell.edge.shapes import (
    BOOLEAN,
    NAME,
    SHORT_TEXT,
    SPEC_KEY,
    TEXT,
    WHOLE,
    number,
    strict,
    wrapped,
)
from api_cell.edge.versioned import Field, bodies_of, many, queries_of

DESCRIPTION: Schema = {"type": ["string", "null"], "format": "printable", "maxLength": 65535}
RXTX: Schema = {
    "type": ["number", "string"],
    "pattern": r"^[0-9]+(\.[0-9]+)?$",
    "exclusiveMinimum": 0,
    "maximum": 3.40282e38,
}
FLAVOR_ID: Schema = {
    "type": ["string", "number", "null"],
    "minLength": 1,
    "maxLength": 255,
    "pattern": r"^(?! )[a-zA-Z0-9. _-]+(?<! )$",
}


CREATE = bodies_of(
    lambda fields: wrapped("flavor", fields),
    Field("name", NAME, required=True),
    Field("id", FLAVOR_ID),
    Field("ram", number(1), required=True),
    Field("vcpus", number(1), required=True),
    Field("disk", number(0), required=True),
    Field("OS-FLV-EXT-DATA:ephemeral", number(0)),
    Field("swap", number(0)),
    Field("os-flavor-access:is_public", BOOLEAN),
    Field("rxtx_factor", RXTX, until=(2, 101)),
    Field("description", DESCRIPTION, since=(2, 55)),
)
UPDATE = wrapped("flavor", strict({"description": DESCRIPTION}, "description"))
SORT_KEYS = ["created_at", "description", "disabled", "ephemeral_gb", "flavorid", "id", "is_public", "memory_mb",
             "name", "root_gb", "rxtx_factor", "swap", "updated_at", "vcpu_weight", "vcpus"]  # fmt: skip


def _one_of(words: list[str]) -> Schema:
    return {"type": "string", "enum": words}


LIST = queries_of(
    Field("limit", many(WHOLE)),
    Field("marker", many(TEXT)),
    Field("is_public", many(TEXT)),
    Field("minRam", many(TEXT)),
    Field("minDisk", many(TEXT)),
    Field("sort_key", many(_one_of(SORT_KEYS)), until=(2, 101)),
    Field("sort_key", many(_one_of([key for key in SORT_KEYS if key != "rxtx_factor"])), since=(2, 102)),
    Field("sort_dir", many(_one_of(["asc", "desc"]))),
    Field("name", many(TEXT), since=(2, 102)),
    closed=(2, 75),
)
ADD_ACCESS = wrapped("addTenantAccess", strict({"tenant": SHORT_TEXT}, "tenant"))
REMOVE_ACCESS = wrapped("removeTenantAccess", strict({"tenant": SHORT_TEXT}, "tenant"))
SPECS: Schema = {
    "type": "object",
    "patternProperties": {SPEC_KEY: {"type": ["string", "number"], "maxLength": 255}},
    "additionalProperties": False,
}
CREATE_SPECS = wrapped("extra_specs", SPECS)
UPDATE_SPEC: Schema = {**SPECS, "minProperties": 1, "maxProperties": 1}
