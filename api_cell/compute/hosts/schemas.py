"""Bodies and queries of services, hypervisors and aggregates."""

from __future__ import annotations

from typing import Any

from api_cell.compute.fields import Field, bodies_of
from api_cell.edge.route import ByVersion, Schema
from api_cell.edge.shapes import (
    BOOLEAN,
    HOST,
    NAME,
    SHORT_TEXT,
    SPEC_KEY,
    TEXT,
    WHOLE,
    query,
    query_until_closed,
    strict,
    wrapped,
)

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

_OPEN = query({}, closed=False)
_WITH_SERVERS = {"with_servers": BOOLEAN}
LIST_HYPERVISORS: ByVersion = (
    ((2, 1), _OPEN),
    ((2, 33), query({"limit": WHOLE, "marker": TEXT}, closed=False)),
    (
        (2, 53),
        query(
            {"limit": WHOLE, "marker": TEXT, "hypervisor_hostname_pattern": HOST, **_WITH_SERVERS},
            closed=True,
            once=True,
        ),
    ),
)
SHOW_HYPERVISOR: ByVersion = (((2, 1), _OPEN), ((2, 53), query(_WITH_SERVERS, closed=True, once=True)))

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
