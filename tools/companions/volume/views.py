"""The documents of volumes and snapshots."""

from __future__ import annotations

from sqlalchemy import Connection

from tools.companions.route import CompanionRequest
from tools.companions.volume.attachments import links_of
from tools.companions.volume.store import Record

_OF_VOLUME = (
    "id", "name", "description", "size", "status", "multiattach", "availability_zone", "volume_type", "metadata",
    "snapshot_id", "source_volid", "user_id", "created_at", "updated_at",
)  # fmt: skip
_OF_SNAPSHOT = ("id", "name", "description", "size", "status", "volume_id", "metadata", "created_at", "updated_at")


def volume_view(tx: Connection, req: CompanionRequest, volume: Record, *, written: bool = False) -> Record:
    """`written`: in the answer to a create or an update, which has no more than that."""
    shown: Record = {
        **{key: volume[key] for key in _OF_VOLUME},
        "bootable": str(volume["bootable"]).lower(),
        "encrypted": bool(volume.get("encrypted")),
        "replication_status": None,
        "consistencygroup_id": None,
        "migration_status": None,
        "attachments": links_of(tx, volume["id"]),
        "links": [{"rel": "self", "href": f"{req.origin}/v3/volumes/{volume['id']}"}],
    }
    if written:
        return shown
    image = {"volume_image_metadata": volume["image_metadata"]} if volume["image_metadata"] else {}
    return {**shown, "os-vol-tenant-attr:tenant_id": volume["project_id"], **image}


def snapshot_view(snapshot: Record, *, written: bool = False) -> Record:
    """`written`: as of volumes."""
    shown = {key: snapshot.get(key) for key in _OF_SNAPSHOT}
    if written:
        return shown
    ready = "100%" if snapshot["status"] == "available" else "0%"
    return {
        **shown,
        "os-extended-snapshot-attributes:project_id": snapshot["project_id"],
        "os-extended-snapshot-attributes:progress": snapshot.get("progress") or ready,
    }


def upload_view(volume: Record, image: Record) -> Record:
    """Of a volume that an image is made of. `image`: the fields of the new image."""
    return {
        "id": volume["id"], "status": "uploading", "size": volume["size"],
        "volume_type": {"name": volume["volume_type"]}, "display_description": volume["description"],
        "updated_at": volume["updated_at"], "image_id": image["id"], "image_name": image["name"],
        "disk_format": image["disk_format"],
        "container_format": image["container_format"], "visibility": image["visibility"], "protected": False,
    }  # fmt: skip
