"""The bodies of requests to the block storage companion (Block Storage API reference, v3)."""

from __future__ import annotations

from api_cell.edge.route import Schema
from tools.companions.shapes import FLAG, METADATA, SIZE, TEXT, WORD, item, under

_NAMED: dict[str, Schema] = {
    "name": TEXT, "description": TEXT, "display_name": TEXT, "display_description": TEXT, "metadata": METADATA,
}  # fmt: skip
CREATE_VOLUME = under("volume", item(
    **_NAMED, size=SIZE, imageRef=TEXT, image_id=TEXT, snapshot_id=TEXT, source_volid=TEXT, volume_type=TEXT,
    availability_zone=TEXT, multiattach=FLAG,
))  # fmt: skip
UPDATE_VOLUME = under("volume", item(**_NAMED))
PUT_METADATA = under("metadata", {**METADATA, "type": "object"})
_STATUS = item("status", status=WORD)
VOLUME_ACTION = item(**{
    "os-extend": item("new_size", new_size={**SIZE, "type": ["integer", "string"]}),
    "os-set_bootable": item("bootable", bootable=FLAG),
    "os-reset_status": item(status=WORD),
    "os-set_image_metadata": item("metadata", metadata=METADATA),
    "os-update_readonly_flag": item("readonly", readonly=FLAG),
    "os-volume_upload_image": item(
        "image_name", image_name=WORD, disk_format=TEXT, container_format=TEXT, force=FLAG,
        visibility={"enum": ["public", "private", "shared", "community", None]},
    ),
    "os-reimage": item("image_id", image_id=WORD, reimage_reserved=FLAG),
})  # fmt: skip
CREATE_SNAPSHOT = under("snapshot", item("volume_id", **_NAMED, volume_id=WORD, force=FLAG))
UPDATE_SNAPSHOT = under("snapshot", item(**_NAMED))
SNAPSHOT_ACTION = item(**{
    "os-update_snapshot_status": item("status", status=WORD, progress=TEXT),
    "os-reset_status": _STATUS,
})  # fmt: skip
_CONNECTOR: Schema = {**item(host=TEXT, mountpoint=TEXT), "type": ["object", "null"]}
CREATE_ATTACHMENT = under("attachment", item(
    "volume_uuid", "instance_uuid", volume_uuid=WORD, instance_uuid=WORD, connector=_CONNECTOR, mode=TEXT,
))  # fmt: skip
UPDATE_ATTACHMENT = under("attachment", item("connector", connector={**_CONNECTOR, "type": "object"}, mode=TEXT))
CREATE_TYPE = under("volume_type", item("name", name=WORD, description=TEXT, extra_specs=METADATA))
SET_SPECS = under("extra_specs", {**METADATA, "type": "object"})
_ENCRYPTION: dict[str, Schema] = {
    "provider": WORD,
    "control_location": {"type": "string", "enum": ["front-end", "back-end"]},
    "cipher": TEXT,
    "key_size": {"type": ["integer", "string", "null"], "pattern": "^[0-9]{1,10}$", "minimum": 0, "maximum": 2**31 - 1},
}
CREATE_ENCRYPTION = under(
    "encryption", {**item("provider", "control_location", **_ENCRYPTION), "additionalProperties": False}
)
UPDATE_ENCRYPTION = under("encryption", {**item(**_ENCRYPTION), "additionalProperties": False})
