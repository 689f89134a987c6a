"""An image's record as the image service sends it (Image API v2), read."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from cell_service.peers.image import Image
from cell_service.peers.reading import read

OWN_FIELDS = frozenset(
    {
        *("id", "name", "status", "disk_format", "container_format", "size", "min_disk", "min_ram", "visibility"),
        *("owner", "os_hash_algo", "os_hash_value", "checksum", "virtual_size", "created_at", "updated_at", "tags"),
        *("self", "file", "schema", "locations", "direct_url", "protected", "os_hidden", "stores"),
    }
)
"""The fields of an image's record that are no properties."""


def image_in(record: Any) -> Image:
    """The image. Raises PeerUnavailable when it is no record of an image."""
    return read("image", record, image_of)


def image_of(record: dict[str, Any]) -> Image:
    return Image(
        id=record["id"],
        name=record.get("name") or "",
        status=record["status"],
        disk_format=record.get("disk_format") or "",
        container_format=record.get("container_format") or "",
        size_bytes=int(record.get("size") or 0),
        min_disk_gib=int(record.get("min_disk") or 0),
        min_ram_mib=int(record.get("min_ram") or 0),
        visibility=record.get("visibility") or "private",
        owner=record.get("owner") or "",
        os_hash_algo=record.get("os_hash_algo") or "",
        os_hash_value=record.get("os_hash_value") or "",
        checksum=record.get("checksum") or "",
        virtual_bytes=record.get("virtual_size"),
        created_at=_moment(record.get("created_at")),
        updated_at=_moment(record.get("updated_at")),
        properties={
            key: value if isinstance(value, str) else str(value)
            for key, value in record.items()
            if key not in OWN_FIELDS and value is not None
        },
    )


def _moment(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
