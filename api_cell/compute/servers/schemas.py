"""Bodies and queries of the servers resource, by the microversion from which each applies."""

from __future__ import annotations

from typing import Any

from api_cell.edge.route import ByVersion, Schema
from api_cell.edge.shapes import BOOLEAN, HOST, MAX_INT, NAME, SPEC_KEY, UUID, strict, wrapped
from api_cell.edge.versioned import Field, bodies_of, fields_of, many, once, queries_of

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


DISK_CONFIG: Schema = {"type": "string", "enum": ["AUTO", "MANUAL"]}
IPV4: Schema = {"type": "string", "format": "ipv4"}
IPV6: Schema = {"type": "string", "format": "ipv6"}
FILES: Schema = {
    "type": "array",
    "items": strict({"path": {"type": "string"}, "contents": {"type": "string", "format": "base64"}}),
}
CERTIFICATES: Schema = {
    "type": ["array", "null"],
    "minItems": 1,
    "maxItems": 50,
    "uniqueItems": True,
    "items": {"type": "string", "minLength": 1},
}
_LABEL: Schema = {
    "type": "string",
    "pattern": "^[a-zA-Z0-9]+[a-zA-Z0-9-]*[a-zA-Z0-9]+$",
    "minLength": 2,
    "maxLength": 63,
}
HOST_NAMES = (
    Field("hostname", _LABEL, since=(2, 90), until=(2, 93)),
    Field("hostname", HOST, since=(2, 94)),
)


def _listed(item: Schema) -> Schema:
    return {"type": "array", "items": item}


def _listed_or_word(item: Schema) -> Schema:
    return {"oneOf": [_listed(item), {"type": "string", "enum": ["none", "auto"]}]}


_NETWORK: dict[str, Schema] = {
    "fixed_ip": ADDRESS,
    "port": {"type": ["string", "null"], "format": "uuid"},
    "uuid": {"type": "string"},
}
_STRICT_NETWORK = {**_NETWORK, "uuid": UUID}
_NETWORKS = (
    Field("networks", _listed(strict(_NETWORK)), until=(2, 31)),
    Field("networks", _listed(strict({**_NETWORK, "tag": TAG})), since=(2, 32), until=(2, 36)),
    Field("networks", _listed_or_word(strict(_STRICT_NETWORK)), since=(2, 37), until=(2, 41), required=True),
    Field("networks", _listed_or_word(strict({**_STRICT_NETWORK, "tag": TAG})), since=(2, 42), required=True),
)

_DEVICE: tuple[Field[Schema], ...] = (
    Field("virtual_name", {"type": "string", "maxLength": 255}),
    Field("volume_id", UUID),
    Field("snapshot_id", UUID),
    Field("volume_size", {"type": ["integer", "string"], "pattern": "^[0-9]+$", "minimum": 1, "maximum": MAX_INT}),
    Field("device_name", {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[a-zA-Z0-9._/-]*$"}),
    Field("delete_on_termination", BOOLEAN),
    Field("no_device", {}),
    Field("connection_info", {"type": "string", "maxLength": 16777215}),
)
_DEVICES = bodies_of(_listed, *_DEVICE)
_DEVICES_V2 = bodies_of(
    _listed,
    *_DEVICE,
    Field("source_type", {"type": "string", "enum": ["volume", "image", "snapshot", "blank"]}),
    Field("uuid", {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[a-zA-Z0-9._-]*$"}),
    Field("image_id", UUID),
    Field("destination_type", {"type": "string", "enum": ["local", "volume"]}),
    Field("guest_format", {"type": "string", "maxLength": 255}),
    Field("device_type", {"type": "string", "maxLength": 255}),
    Field("disk_bus", {"type": "string", "maxLength": 255}),
    Field("boot_index", {"type": ["integer", "string", "null"], "pattern": "^-?[0-9]+$"}),
    Field("tag", TAG, since=(2, 32), until=(2, 32)),
    Field("tag", TAG, since=(2, 42)),
    Field("volume_type", {"type": ["string", "null"], "minLength": 0, "maxLength": 255}, since=(2, 67)),
)


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


CREATE = bodies_of(
    lambda fields: strict(
        {"server": fields, "os:scheduler_hints": _hints(), "OS-SCH-HNT:scheduler_hints": _hints()}, "server"
    ),
    Field("name", NAME, required=True),
    Field("imageRef", {"oneOf": [UUID, {"type": "string", "maxLength": 0}]}),
    Field("flavorRef", {"type": ["string", "integer"], "minLength": 1}, required=True),
    Field("adminPass", {"type": "string"}),
    Field("metadata", ITEMS),
    *_NETWORKS,
    Field("OS-DCF:diskConfig", DISK_CONFIG),
    Field("accessIPv4", IPV4),
    Field("accessIPv6", IPV6),
    Field("availability_zone", NAME),
    *fields_of("block_device_mapping", _DEVICES),
    *fields_of("block_device_mapping_v2", _DEVICES_V2),
    Field("config_drive", BOOLEAN),
    Field("key_name", NAME),
    Field("min_count", COUNT),
    Field("max_count", COUNT),
    Field("return_reservation_id", BOOLEAN),
    Field("security_groups", {"type": "array", "items": strict({"name": NAME})}),
    Field("user_data", {"type": "string", "format": "base64", "maxLength": 65535}),
    Field("personality", FILES, until=(2, 56)),
    Field("description", DESCRIPTION, since=(2, 19)),
    Field("tags", TAGS, since=(2, 52)),
    Field("trusted_image_certificates", CERTIFICATES, since=(2, 63)),
    Field("host", HOST, since=(2, 74)),
    Field("hypervisor_hostname", HOST, since=(2, 74)),
    *HOST_NAMES,
)
UPDATE = bodies_of(
    lambda fields: wrapped("server", fields),
    Field("name", NAME),
    Field("OS-DCF:diskConfig", DISK_CONFIG),
    Field("accessIPv4", IPV4),
    Field("accessIPv6", IPV6),
    Field("description", DESCRIPTION, since=(2, 19)),
    *HOST_NAMES,
    Field("pinned_availability_zone", {"type": ["string", "null"], "minLength": 1, "maxLength": 255}, since=(2, 104)),
)


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

_STRINGS = many({"type": "string"})
_TIME: Schema = {"type": "string", "format": "date-time"}
_COUNTS = many({"type": ["integer", "string"], "pattern": "^[0-9]*$", "minimum": 0, "minLength": 1})

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


def _one_of(*keys: str) -> Schema:
    return many({"type": "string", "enum": sorted(set(keys))})


LIST_QUERY = queries_of(
    *(Field(name, _STRINGS) for name in FILTERS),
    Field("limit", _COUNTS),
    Field("changes-since", many(_TIME), until=(2, 65)),
    Field("changes-since", once(_TIME), since=(2, 66)),
    Field("sort_key", _one_of(*SORT_KEYS, *_IGNORED_SORT_KEYS), until=(2, 74)),
    Field("sort_key", _one_of(*SORT_KEYS, "locked"), since=(2, 75)),
    *(Field(name, _STRINGS, since=(2, 26)) for name in ("tags", "tags-any", "not-tags", "not-tags-any")),
    Field("changes-before", once(_TIME), since=(2, 66)),
    Field("locked", _STRINGS, since=(2, 73)),
    closed=(2, 75),
    patternProperties={"^_": _STRINGS},
)

_PAGED: dict[str, Any] = {
    "limit": {**_COUNTS, "maxItems": 1},
    "marker": {**_STRINGS, "maxItems": 1},
    "changes-since": once(_TIME),
}
ACTIONS_QUERY: ByVersion = (
    ((2, 1), None),
    ((2, 58), strict(_PAGED)),
    ((2, 66), strict({**_PAGED, "changes-before": once(_TIME)})),
)
