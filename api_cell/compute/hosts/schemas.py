"""Bodies and queries of services, hypervisors and aggregates."""

from __future__ import annotations

from typing import Any

from api_cell.edge.route import ByVersion, Schema, Version
from api_cell.edge.shapes import (
    BOOLEAN,
    HOST,
    NAME,
    SHORT_TEXT,
    SPEC_KEY,
    TEXT,
    WHOLE,
    by_version,
    query,
    query_until_closed,
    strict,
    wrapped,
)

LIST_SERVICES = query_until_closed({"host": TEXT, "binary": TEXT})


def _update_service(version: Version) -> Schema:
    if version >= (2, 53):
        status = {"type": "string", "enum": ["enabled", "disabled"]}
        return strict({"status": status, "disabled_reason": SHORT_TEXT, "forced_down": BOOLEAN})
    body = {"host": HOST, "binary": SHORT_TEXT, "disabled_reason": SHORT_TEXT}
    if version >= (2, 11):
        body["forced_down"] = BOOLEAN
    return strict(body, "host", "binary")


UPDATE_SERVICE = by_version(_update_service, (2, 1), (2, 11), (2, 53))

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
