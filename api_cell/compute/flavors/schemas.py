"""Bodies and queries of flavors, their extra specs and their access lists."""

from __future__ import annotations

from api_cell.edge.route import Schema, Version
from api_cell.edge.shapes import (
    BOOLEAN,
    NAME,
    SHORT_TEXT,
    SPEC_KEY,
    TEXT,
    WHOLE,
    by_version,
    number,
    query,
    query_until_closed,
    strict,
    wrapped,
)

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


def _create(version: Version) -> Schema:
    flavor = {
        "name": NAME,
        "id": FLAVOR_ID,
        "ram": number(1),
        "vcpus": number(1),
        "disk": number(0),
        "OS-FLV-EXT-DATA:ephemeral": number(0),
        "swap": number(0),
        "os-flavor-access:is_public": BOOLEAN,
    }
    if version < (2, 102):
        flavor["rxtx_factor"] = RXTX
    if version >= (2, 55):
        flavor["description"] = DESCRIPTION
    return wrapped("flavor", strict(flavor, "name", "ram", "vcpus", "disk"))


CREATE = by_version(_create, (2, 1), (2, 55), (2, 102))
UPDATE = wrapped("flavor", strict({"description": DESCRIPTION}, "description"))
SORT_KEYS = ["created_at", "description", "disabled", "ephemeral_gb", "flavorid", "id", "is_public", "memory_mb",
             "name", "root_gb", "rxtx_factor", "swap", "updated_at", "vcpu_weight", "vcpus"]  # fmt: skip
_LISTED: dict[str, Schema] = {
    "limit": WHOLE,
    "marker": TEXT,
    "is_public": TEXT,
    "minRam": TEXT,
    "minDisk": TEXT,
    "sort_key": {"type": "string", "enum": SORT_KEYS},
    "sort_dir": {"type": "string", "enum": ["asc", "desc"]},
}
_NAMED: dict[str, Schema] = {
    "name": TEXT,
    "sort_key": {"type": "string", "enum": [key for key in SORT_KEYS if key != "rxtx_factor"]},
}
LIST = (*query_until_closed(_LISTED), ((2, 102), query(_LISTED | _NAMED, closed=True)))
ADD_ACCESS = wrapped("addTenantAccess", strict({"tenant": SHORT_TEXT}, "tenant"))
REMOVE_ACCESS = wrapped("removeTenantAccess", strict({"tenant": SHORT_TEXT}, "tenant"))
SPECS: Schema = {
    "type": "object",
    "patternProperties": {SPEC_KEY: {"type": ["string", "number"], "maxLength": 255}},
    "additionalProperties": False,
}
CREATE_SPECS = wrapped("extra_specs", SPECS)
UPDATE_SPEC: Schema = {**SPECS, "minProperties": 1, "maxProperties": 1}
