"""Bodies and queries of services, hypervisors and aggregates."""

from __future__ import annotations

from typing import Any

from api_cell.edge.route import Schema
from api_cell.edge.shapes import (
    BOOLEAN,
    HOST,
    NAME,
    SHORT_TEXT,
    SPEC_KEY,
    TEXT,
    WHOLE,
    query_until_closed,
    strict,
    wrapped,
)
from api_cell.edge.versioned import Field, bodies_of, many, once, queries_of

LIST_SERVICES = query_until_closed({"host": TEXT, "binary": TEXT})


UPDATE_SERVICE_BY_VERB = bodies_of(
    lambda fields: fields,
    Field("host", HOST, required=True),
    Field("binary", SHORT_TEXT, required=True),
    Field("disabled_reason", SHORT_TEXT),
    Field("forced_down", BOOLEAN, since=(2, 11)),
)
UPDATE_SERVICE = strict({
    "status": {"type": "string", "enum": ["enabled", "disabled"]},
    "disabled_reason": SHORT_TEXT,
    "forced_down": BOOLEAN,
})  # fmt: skip

_WITH_SERVERS = Field("with_servers", once(BOOLEAN), since=(2, 53))
LIST_HYPERVISORS = queries_of(
    Field("limit", many(WHOLE), since=(2, 33), until=(2, 52)),
    Field("limit", once(WHOLE), since=(2, 53)),
    Field("marker", many(TEXT), since=(2, 33), until=(2, 52)),
    Field("marker", once(TEXT), since=(2, 53)),
    Field("hypervisor_hostname_pattern", once(HOST), since=(2, 53)),
    _WITH_SERVERS,
    closed=(2, 53),
)
SHOW_HYPERVISOR = queries_of(_WITH_SERVERS, closed=(2, 53))

_ZONE: Schema = {"oneOf": [{"type": "string", "format": "az_name", "minLength": 1, "maxLength": 255}, {"type": "null"}]}
CREATE_AGGREGATE = wrapped("aggregate", strict({"name": NAME, "availability_zone": _ZONE}, "name"))
_CHANGES: dict[str, Any] = {
    **strict({"name": {**NAME, "format": "name_with_leading_trailing_spaces"}, "availability_zone": _ZONE}),
    "anyOf": [{"required": ["name"]}, {"required": ["availability_zone"]}],
}
UPDATE_AGGREGATE = wrapped("aggregate", _CHANGES)
ADD_HOST = wrapped("add_host", strict({"host": HOST}, "host"))
REMOVE_HOST = wrapped("remove_host", strict({"host": HOST}, "host"))
_METADATA: Schema = {
    "type": "object",
    "patternProperties": {SPEC_KEY: {"type": ["string", "null"], "maxLength": 255}},
    "additionalProperties": False,
}
SET_METADATA = wrapped("set_metadata", wrapped("metadata", _METADATA))
