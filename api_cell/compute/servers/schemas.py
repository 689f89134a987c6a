"""Bodies and queries of the servers resource, by the microversion from which each applies."""

from __future__ import annotations

from typing import Any

from api_cell.edge.route import ByVersion, Schema
from api_cell.edge.shapes import BOOLEAN, HOST, NAME, SPEC_KEY, UUID, by_version, strict

DESCRIPTION: Schema = {"type": ["string", "null"], "format": "printable", "minLength": 0, "maxLength": 255}
TAG: Schema = {"type": "string", "pattern": "^[^,/]*$", "minLength": 1, "maxLength": 60}
ADDRESS: Schema = {"type": "string", "oneOf": [{"format": "ipv4"}, {"format": "ipv6"}]}
COUNT: Schema = {"type": ["integer", "string"], "pattern": "^[0-9]*$", "minimum": 1, "minLength": 1}
ITEMS: Schema = {
    "type": "object",
    "patternProperties": {SPEC_KEY: {"type": "string", "maxLength": 255}},
    "additionalProperties": False,
}
TAGS: Schema = {"type": "array", "items": TAG, "maxItems": 50}


def _networks(version: tuple[int, int]) -> Schema:
    tagged = version >= (2, 42) or (2, 32) <= version < (2, 37)
    entry = strict(
        {
            "fixed_ip": ADDRESS,
            "port": {"type": ["string", "null"], "format": "uuid"},
            "uuid": UUID if version >= (2, 37) else {"type": "string"},
            **({"tag": TAG} if tagged else {}),
        }
    )
    listed = {"type": "array", "items": entry}
    if version < (2, 37):
        return listed
    return {"oneOf": [listed, {"type": "string", "enum": ["none", "auto"]}]}


def _device(version: tuple[int, int], *, second: bool) -> Schema:
    properties: dict[str, Any] = {
        "virtual_name": {"type": "string", "maxLength": 255},
        "volume_id": UUID,
        "snapshot_id": UUID,
        "volume_size": {"type": ["integer", "string"], "pattern": "^[0-9]+$", "minimum": 1, "maximum": 2147483647},
        "device_name": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[a-zA-Z0-9._/-]*$"},
        "delete_on_termination": BOOLEAN,
        "no_device": {},
        "connection_info": {"type": "string", "maxLength": 16777215},
    }
    if second:
        properties |= {
            "source_type": {"type": "string", "enum": ["volume", "image", "snapshot", "blank"]},
            "uuid": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[a-zA-Z0-9._-]*$"},
            "image_id": UUID,
            "destination_type": {"type": "string", "enum": ["local", "volume"]},
            "guest_format": {"type": "string", "maxLength": 255},
            "device_type": {"type": "string", "maxLength": 255},
            "disk_bus": {"type": "string", "maxLength": 255},
            "boot_index": {"type": ["integer", "string", "null"], "pattern": "^-?[0-9]+$"},
        }
        if version >= (2, 42) or version == (2, 32):
            properties["tag"] = TAG
        if version >= (2, 67):
            properties["volume_type"] = {"type": ["string", "null"], "minLength": 0, "maxLength": 255}
    return strict(properties)


def _hints() -> Schema:
    uuids = {"oneOf": [UUID, {"type": "array", "items": UUID}]}
    return {
        "type": "object",
        "properties": {
            "group": uuids,
            "different_host": uuids,
            "same_host": {"type": ["string", "array"], "items": UUID},
            "query": {"type": ["string", "object"]},
            "target_cell": NAME,
            "different_cell": {"type": ["string", "array"], "items": {"type": "string"}},
            "build_near_host_ip": ADDRESS,
            "cidr": {"type": "string", "pattern": "^/[0-9a-f.:]+$"},
        },
        "additionalProperties": True,
    }


def hostname(version: tuple[int, int]) -> Schema:
    """Host names with dots from 2.94 on."""
    if version >= (2, 94):
        return HOST
    return {
        "type": "string",
        "pattern": "^[a-zA-Z0-9]+[a-zA-Z0-9-]*[a-zA-Z0-9]+$",
        "minLength": 2,
        "maxLength": 63,
    }


def _create(version: tuple[int, int]) -> Schema:
    server: dict[str, Any] = {
        "name": NAME,
        "imageRef": {"oneOf": [UUID, {"type": "string", "maxLength": 0}]},
        "flavorRef": {"type": ["string", "integer"], "minLength": 1},
        "adminPass": {"type": "string"},
        "metadata": ITEMS,
        "networks": _networks(version),
        "OS-DCF:diskConfig": {"type": "string", "enum": ["AUTO", "MANUAL"]},
        "accessIPv4": {"type": "string", "format": "ipv4"},
        "accessIPv6": {"type": "string", "format": "ipv6"},
        "availability_zone": NAME,
        "block_device_mapping": {"type": "array", "items": _device(version, second=False)},
        "block_device_mapping_v2": {"type": "array", "items": _device(version, second=True)},
        "config_drive": BOOLEAN,
        "key_name": NAME,
        "min_count": COUNT,
        "max_count": COUNT,
        "return_reservation_id": BOOLEAN,
        "security_groups": {"type": "array", "items": strict({"name": NAME})},
        "user_data": {"type": "string", "format": "base64", "maxLength": 65535},
    }
    if version < (2, 57):
        file = strict({"path": {"type": "string"}, "contents": {"type": "string", "format": "base64"}})
        server["personality"] = {"type": "array", "items": file}
    if version >= (2, 19):
        server["description"] = DESCRIPTION
    if version >= (2, 52):
        server["tags"] = TAGS
    if version >= (2, 63):
        server["trusted_image_certificates"] = {
            "type": ["array", "null"],
            "minItems": 1,
            "maxItems": 50,
            "uniqueItems": True,
            "items": {"type": "string", "minLength": 1},
        }
    if version >= (2, 74):
        server |= {"host": HOST, "hypervisor_hostname": HOST}
    if version >= (2, 90):
        server["hostname"] = hostname(version)
    required = ["name", "flavorRef", *(["networks"] if version >= (2, 37) else [])]
    body = {
        "server": strict(server, *required),
        "os:scheduler_hints": _hints(),
        "OS-SCH-HNT:scheduler_hints": _hints(),
    }
    return strict(body, "server")


CREATE = by_version(
    _create,
    (2, 1),
    (2, 19),
    (2, 32),
    (2, 33),
    (2, 37),
    (2, 42),
    (2, 52),
    (2, 57),
    (2, 63),
    (2, 67),
    (2, 74),
    (2, 90),
    (2, 94),
)


def _update(version: tuple[int, int]) -> Schema:
    server: dict[str, Any] = {
        "name": NAME,
        "OS-DCF:diskConfig": {"type": "string", "enum": ["AUTO", "MANUAL"]},
        "accessIPv4": {"type": "string", "format": "ipv4"},
        "accessIPv6": {"type": "string", "format": "ipv6"},
    }
    if version >= (2, 19):
        server["description"] = DESCRIPTION
    if version >= (2, 90):
        server["hostname"] = hostname(version)
    if version >= (2, 104):
        server["pinned_availability_zone"] = {"type": ["string", "null"], "minLength": 1, "maxLength": 255}
    return strict({"server": strict(server)}, "server")


UPDATE = by_version(_update, (2, 1), (2, 19), (2, 90), (2, 94), (2, 104))


def action(key: str, value: Schema | None = None) -> Schema:
    """The body of an action; without a schema its value is anything."""
    return strict({key: value if value is not None else {}}, key)


REBOOT = action("reboot", strict({"type": {"type": "string", "enum": ["HARD", "Hard", "hard", "SOFT", "Soft", "soft"]}}, "type"))  # fmt: skip  # noqa: E501
RESET_STATE = action("os-resetState", strict({"state": {"type": "string", "enum": ["active", "error"]}}, "state"))
CONSOLE_OUTPUT = action(
    "os-getConsoleOutput",
    strict({"length": {"type": ["integer", "string", "null"], "pattern": "^-?[0-9]+$", "minimum": -1}}),
)
LOCK: ByVersion = (
    ((2, 1), action("lock")),
    (
        (2, 73),
        action(
            "lock",
            {
                "type": ["object", "null"],
                "properties": {"locked_reason": {"type": "string", "minLength": 1, "maxLength": 255}},
                "additionalProperties": False,
            },
        ),
    ),
)
METADATA = strict({"metadata": ITEMS}, "metadata")
META = strict({"meta": {**ITEMS, "minProperties": 1, "maxProperties": 1}}, "meta")
SERVER_TAGS = strict({"tags": TAGS}, "tags")

# -- queries: every parameter is the list of its values ----------------------------------------

_STRINGS: Schema = {"type": "array", "items": {"type": "string"}}
_TIMES: Schema = {"type": "array", "items": {"type": "string", "format": "date-time"}}
_ONE_TIME: Schema = {**_TIMES, "maxItems": 1}
_COUNTS: Schema = {
    "type": "array",
    "items": {"type": ["integer", "string"], "pattern": "^[0-9]*$", "minimum": 0, "minLength": 1},
}

SORT_KEYS = (
    "access_ip_v4", "access_ip_v6", "auto_disk_config", "availability_zone", "config_drive", "created_at",
    "display_description", "display_name", "host", "hostname", "image_ref", "instance_type_id", "kernel_id",
    "key_name", "launch_index", "launched_at", "locked_by", "node", "power_state", "progress", "project_id",
    "ramdisk_id", "root_device_name", "task_state", "terminated_at", "updated_at", "user_id", "uuid", "vm_state",
)  # fmt: skip
_IGNORED_SORT_KEYS = (
    "architecture", "cell_name", "cleaned", "default_ephemeral_device", "default_swap_device", "deleted",
    "deleted_at", "disable_terminate", "ephemeral_gb", "ephemeral_key_uuid", "id", "key_data", "launched_on",
    "locked", "memory_mb", "os_type", "reservation_id", "root_gb", "shutdown_terminate", "user_data", "vcpus",
    "vm_mode",
)  # fmt: skip
FILTERS = (
    "access_ip_v4", "access_ip_v6", "all_tenants", "auto_disk_config", "availability_zone", "block_device_mapping",
    "config_drive", "created_at", "deleted", "description", "display_description", "display_name", "flavor", "host",
    "hostname", "image", "image_ref", "info_cache", "ip", "ip6", "kernel_id", "key_name", "launch_index",
    "launched_at", "locked_by", "marker", "metadata", "name", "node", "pci_devices", "power_state", "progress",
    "project_id", "ramdisk_id", "reservation_id", "root_device_name", "security_groups", "services", "soft_deleted",
    "sort_dir", "status", "system_metadata", "task_state", "tenant_id", "terminated_at", "user_id", "uuid", "vm_state",
)  # fmt: skip


def _list_query(version: tuple[int, int]) -> Schema:
    keys = (*SORT_KEYS, "locked") if version >= (2, 73) else SORT_KEYS
    if version < (2, 75):
        keys = (*keys, *_IGNORED_SORT_KEYS)
    properties: dict[str, Any] = {
        **dict.fromkeys(FILTERS, _STRINGS),
        "limit": _COUNTS,
        "changes-since": _ONE_TIME if version >= (2, 66) else _TIMES,
        "sort_key": {"type": "array", "items": {"type": "string", "enum": sorted(set(keys))}},
    }
    if version >= (2, 26):
        properties |= dict.fromkeys(("tags", "tags-any", "not-tags", "not-tags-any"), _STRINGS)
    if version >= (2, 66):
        properties["changes-before"] = _ONE_TIME
    if version >= (2, 73):
        properties["locked"] = _STRINGS
    return {
        "type": "object",
        "properties": properties,
        "patternProperties": {"^_": _STRINGS},
        "additionalProperties": version < (2, 75),
    }


LIST_QUERY = by_version(_list_query, (2, 1), (2, 26), (2, 66), (2, 73), (2, 75))

_PAGED: dict[str, Any] = {
    "limit": {**_COUNTS, "maxItems": 1},
    "marker": {**_STRINGS, "maxItems": 1},
    "changes-since": _ONE_TIME,
}
ACTIONS_QUERY: ByVersion = (
    ((2, 1), None),
    ((2, 58), strict(_PAGED)),
    ((2, 66), strict({**_PAGED, "changes-before": _ONE_TIME})),
)
