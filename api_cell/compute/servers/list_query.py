"""The query of GET /servers, parsed: filters by wire name become conditions on a cell's rows."""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from api_cell.caller import Caller
from api_cell.compute import behaviours
from api_cell.edge.route import Version
from api_cell.edge.versioned import Field, values_at
from api_cell.servers.ipv6 import canonical
from api_cell.servers.lists.query import ListQuery, boolean, parse_moment
from api_cell.timestamps import end_of_second
from cell_service.db.instance_lists import Listing, StatusFilter
from cell_service.db.sql.sorting import Sort
from cell_service.errors import Invalid
from cell_service.model.numbers import INT64
from cell_service.model.status import states_of

Parameters = Mapping[str, Sequence[str]]
"""Every parameter as the list of its values."""

DEFAULT_SORT: Sort = (("created_at", "desc"), ("uuid", "desc"))

_FOR_ALL = (
    *(Field(name, None) for name in (
        "reservation_id", "name", "status", "image", "flavor", "ip", "changes-since", "all_tenants", "tags", "tags-any",
        "not-tags", "not-tags-any", "metadata", "tenant_id", "project_id", "uuid", "deleted", "display_name",
    )),
    Field("ip6", None, since=(2, 5)),
    Field("changes-before", None, since=(2, 66)),
    Field("locked", None, since=(2, 73)),
    *(Field(name, None, since=(2, 83)) for name in (
        "availability_zone", "config_drive", "key_name", "created_at", "launched_at", "terminated_at", "power_state",
        "task_state", "vm_state", "progress", "user_id",
    )),
)  # fmt: skip
"""The filters that any caller may use; the others are for callers that policy lets use all (Compute API reference)."""
_LATER = {"changes-before", "locked"}
"""Filters that versions before the one that brought them ignore, also of administrators."""
_EQUAL = {
    "image": "image_ref", "image_ref": "image_ref", "flavor": "flavorid", "host": "host", "node": "node",
    "user_id": "user_id", "availability_zone": "availability_zone", "key_name": "key_name", "uuid": "uuid",
    "reservation_id": "reservation_id", "hostname": "hostname", "kernel_id": "kernel_id", "ramdisk_id": "ramdisk_id",
    "locked_by": "locked_by", "access_ip_v4": "access_ip_v4", "access_ip_v6": "access_ip_v6",
    "root_device_name": "root_device_name", "vm_state": "vm_state",
}  # fmt: skip
_NUMBERS = {"power_state", "progress", "launch_index"}
_PATTERNS = {
    "name": "display_name", "display_name": "display_name", "description": "display_description",
    "display_description": "display_description",
}  # fmt: skip
_TIMES = {"created_at", "launched_at", "terminated_at"}
_POWER_WORDS = {"nostate": 0, "running": 1, "paused": 3, "shutdown": 4, "crashed": 6, "suspended": 7}


def parse_list_query(
    caller: Caller, parameters: Parameters, version: Version, *, rule: str, max_limit: int, brief: bool = False
) -> ListQuery:
    """Parse the parameters, which fit their schema. Raises Invalid, PolicyForbidden."""
    given = {name: values[-1] for name, values in parameters.items() if values and name not in _PAGING}
    sort = _sort(parameters)
    powerful = caller.may("os_compute_api:servers:allow_all_filters")
    project_id = _scope(caller, given, rule, powerful)
    if not powerful:
        allowed = values_at(_FOR_ALL, version)
        given = {name: value for name, value in given.items() if name in allowed}
    for name in ("all_tenants", "tenant_id", "project_id", *(_LATER - values_at(_FOR_ALL, version).keys())):
        given.pop(name, None)
    listing = _listing(caller, parameters, version, given)
    indexed = not given and sort[0][0] == "created_at" and len(sort) == 2
    if project_id is not None:
        listing = replace(listing, equal={**listing.equal, "project_id": (project_id,)})
    limit = _limit(parameters, max_limit)
    listing = replace(listing, sort=sort, limit=limit)
    nothing = listing.statuses == ()
    marker = next(reversed(parameters.get("marker", ())), None) or None
    down = behaviours.DOWN_CELLS_ARE_SHOWN.at(version)
    return ListQuery(listing, project_id, marker, limit, indexed, nothing, brief=brief, shows_down_cells=down)


_PAGING = {"limit", "marker", "sort_key", "sort_dir"}


def _limit(parameters: Parameters, max_limit: int) -> int:
    values = parameters.get("limit")
    return min(int(values[-1]), max_limit) if values else max_limit


def _sort(parameters: Parameters) -> Sort:
    keys = list(parameters.get("sort_key", []))
    directions = list(parameters.get("sort_dir", []))
    if len(directions) > max(len(keys), 1):
        raise Invalid(reason="Sort direction size exceeds sort key size")
    for direction in directions:
        if direction not in ("asc", "desc"):
            raise Invalid(reason=f"Unknown sort direction '{direction}', must be asc or desc")
    if not keys:
        if not directions or directions[0] == "desc":
            return DEFAULT_SORT
        return (("created_at", "asc"), ("uuid", "asc"))
    default = directions[0] if directions else "desc"
    directions += [default] * (len(keys) - len(directions))
    pairs = [pair for pair in zip(keys, directions, strict=True) if pair[0] in _SORTABLE]
    named = {name for name, _ in pairs}
    pairs += [pair for pair in (("created_at", default), ("uuid", default)) if pair[0] not in named]
    return tuple(pairs)


_SORTABLE = frozenset({
    "access_ip_v4", "access_ip_v6", "auto_disk_config", "availability_zone", "config_drive", "created_at",
    "display_description", "display_name", "host", "hostname", "image_ref", "instance_type_id", "kernel_id",
    "key_name", "launch_index", "launched_at", "locked_by", "node", "power_state", "progress", "project_id",
    "ramdisk_id", "root_device_name", "task_state", "terminated_at", "updated_at", "user_id", "uuid", "vm_state",
    "locked",
})  # fmt: skip


def _scope(caller: Caller, given: dict[str, str], rule: str, powerful: bool) -> str | None:
    """The project whose servers are listed; None: all projects."""
    wants_all = "all_tenants" in given and boolean(given["all_tenants"] or "1", "all_tenants")
    named = given.get("tenant_id") or given.get("project_id")
    if wants_all:
        caller.demand(f"{rule}:get_all_tenants")
        return named
    return caller.ctx.project_id


def _listing(caller: Caller, parameters: Parameters, version: Version, given: dict[str, str]) -> Listing:
    equal: dict[str, tuple[Any, ...]] = {}
    patterns: dict[str, str] = {}
    addresses: list[str] = []
    fields: dict[str, Any] = {}
    for name, value in given.items():
        if name in _EQUAL:
            form = canonical if name == "access_ip_v6" else str
            equal[_EQUAL[name]] = tuple(dict.fromkeys(map(form, parameters[name])))
        elif name in _NUMBERS:
            equal[name] = (_number(name, value),)
        elif name in _PATTERNS:
            patterns[_PATTERNS[name]] = value
        elif name in _TIMES:
            equal[name] = (parse_moment(name, value),)
        elif name in ("ip", "ip6"):
            addresses.append(value)
        elif name == "status":
            fields["statuses"] = _statuses(caller, parameters["status"], version)
        elif name == "task_state":
            equal["task_state"] = tuple(None if each in ("", "None") else each for each in parameters[name])
        elif name in ("config_drive", "auto_disk_config"):
            equal[name] = (boolean(value, name),)
        elif name == "metadata":
            fields["metadata"] = _metadata(value)
        elif name in _TAGS:
            fields[_TAGS[name]] = tuple(tag for tag in value.split(",") if tag)
        elif name == "changes-since":
            fields["changes_since"] = parse_moment(name, value)
        elif name == "changes-before":
            fields["changes_before"] = end_of_second(parse_moment(name, value))
        elif name == "locked":
            fields["locked"] = boolean(value, "locked")
        elif name == "deleted":
            fields["deleted"] = boolean(value, "deleted")
        elif name == "soft_deleted":
            fields["soft_deleted"] = boolean(value, "soft_deleted")
    return Listing(
        equal=equal, patterns=patterns, address_patterns=tuple(addresses), **_deleted(caller, parameters, fields)
    )


_TAGS = {"tags": "all_tags", "tags-any": "any_tags", "not-tags": "not_all_tags", "not-tags-any": "not_any_tags"}


def _deleted(caller: Caller, parameters: Parameters, fields: dict[str, Any]) -> dict[str, Any]:
    """Deleted servers are for administrators that request them, and in lists of what has changed. Soft-deleted ones
    are listed with the deleted ones, and where their state is a filter."""
    since, before = fields.get("changes_since"), fields.get("changes_before")
    if since and before and since > before:
        raise Invalid(reason="The value of changes-since must be less than or equal to changes-before")
    if fields.get("deleted") and not caller.ctx.is_admin:
        fields["deleted"] = False
    if "deleted" not in fields and (since or before):
        fields["deleted"] = None
    if "statuses" in fields and any(status.vm_state == "deleted" for status in fields["statuses"]):
        fields["deleted"] = True
    softly = any(status.vm_state == "soft-delete" for status in fields.get("statuses") or ())
    softly = softly or "soft-delete" in parameters.get("vm_state", ())
    fields.setdefault("soft_deleted", softly or fields.get("deleted") is True)
    return fields


def _statuses(caller: Caller, values: Sequence[str], version: Version) -> tuple[StatusFilter, ...]:
    found: list[StatusFilter] = []
    for value in values:
        states = states_of(value)
        if not states and behaviours.STATUSES_ARE_CHECKED.at(version):
            raise Invalid(reason=f"Invalid status value '{value}'")
        for vm_state, tasks, other in states:
            if vm_state in ("deleted", "soft-delete") and not caller.ctx.is_admin:
                caller.demand("context_is_admin")
            found.append(StatusFilter(vm_state, tasks, other))
    return tuple(found)


def _number(name: str, value: str) -> int:
    if name == "power_state" and value.lower() in _POWER_WORDS:
        return _POWER_WORDS[value.lower()]
    try:
        number = int(value)
    except ValueError:
        raise Invalid(reason=f"Invalid value '{value[:64]}' for {name}") from None
    if number not in INT64:
        raise Invalid(reason=f"Invalid value '{value[:64]}' for {name}")
    return number


def _metadata(value: str) -> dict[str, str]:
    """A dict as JSON, or as Python writes it (what older clients send)."""
    try:
        parsed = json.loads(value)
    except ValueError:
        try:
            parsed = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            raise Invalid(reason="Invalid metadata filter: not a JSON object") from None
    if not isinstance(parsed, dict):
        raise Invalid(reason="Invalid metadata filter: not a JSON object")
    return {str(key): str(item) for key, item in parsed.items()}
