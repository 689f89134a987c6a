"""The storage of the image companion: records in a database, contents as files by image id."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import BigInteger, Boolean, Column, Connection, Integer, MetaData, Table, Text, insert, select

from tools.companions.store import doc, ident

metadata = MetaData()
images = Table(
    "images",
    metadata,
    ident(primary_key=True),
    Column("sequence", Integer, unique=True),
    Column("name", Text),
    Column("status", Text, nullable=False),
    Column("visibility", Text, nullable=False),
    Column("owner", Text),
    Column("disk_format", Text),
    Column("container_format", Text),
    Column("size", BigInteger),
    Column("virtual_size", BigInteger),
    Column("checksum", Text),
    Column("os_hash_algo", Text),
    Column("os_hash_value", Text),
    Column("min_disk", Integer, nullable=False, default=0),
    Column("min_ram", Integer, nullable=False, default=0),
    Column("protected", Boolean, nullable=False, default=False),
    Column("os_hidden", Boolean, nullable=False, default=False),
    Column("created_at", Text, nullable=False),
    Column("updated_at", Text, nullable=False),
    doc(),
)  # fmt: skip
"""`doc` is {"tags": [...], "properties": {...}}."""
members = Table(
    "members",
    metadata,
    ident("image_id", primary_key=True),
    ident("member_id", primary_key=True),
    Column("status", Text, nullable=False),
    Column("created_at", Text, nullable=False),
    Column("updated_at", Text, nullable=False),
)
namespaces = Table(
    "namespaces",
    metadata,
    ident("namespace", primary_key=True),
    Column("display_name", Text),
    Column("description", Text),
    Column("visibility", Text, nullable=False),
    Column("protected", Boolean, nullable=False),
    Column("owner", Text),
    Column("created_at", Text, nullable=False),
    Column("updated_at", Text, nullable=False),
    doc(),
)
"""`doc` is what a namespace has of properties, objects, tags and resource types: {part: {name: entry}}."""

PLAIN = tuple(name for name in images.c.keys() if name not in ("doc", "sequence"))  # noqa: SIM118
_QCOW2 = struct.Struct(">4sI16xQ")


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def all_images(tx: Connection) -> list[dict[str, Any]]:
    """All records, newest first."""
    return [dict(row) for row in tx.execute(select(images).order_by(images.c.sequence.desc())).mappings()]


def find(tx: Connection, image_id: str) -> dict[str, Any] | None:
    row = tx.execute(select(images).where(images.c.id == image_id)).mappings().first()
    return dict(row) if row else None


def members_of(tx: Connection, image_id: str) -> list[dict[str, Any]]:
    found = tx.execute(select(members).where(members.c.image_id == image_id).order_by(members.c.member_id))
    return [dict(row) for row in found.mappings()]


def memberships(tx: Connection, project_id: str) -> dict[str, str]:
    """Image id → status, of the images shared with a project."""
    found = tx.execute(select(members).where(members.c.member_id == project_id))
    return {row["image_id"]: row["status"] for row in found.mappings()}


def add(tx: Connection, record: Mapping[str, Any]) -> None:
    last = tx.execute(select(images.c.sequence).order_by(images.c.sequence.desc()).limit(1)).scalar()
    tx.execute(insert(images).values(**record, sequence=(last or 0) + 1))


def change(tx: Connection, image_id: str, **values: object) -> None:
    tx.execute(images.update().where(images.c.id == image_id).values(updated_at=now(), **values))


def measured(path: Path) -> dict[str, Any]:
    """Size, hashes and virtual size of a file, as columns."""
    strong, weak = hashlib.sha512(), hashlib.md5(usedforsecurity=False)
    size = 0
    with path.open("rb") as file:
        head = file.read(_QCOW2.size)
        file.seek(0)
        while piece := file.read(1 << 20):
            strong.update(piece)
            weak.update(piece)
            size += len(piece)
    return {
        "size": size,
        "virtual_size": _virtual_size(head, size),
        "checksum": weak.hexdigest(),
        "os_hash_algo": "sha512",
        "os_hash_value": strong.hexdigest(),
    }


def _virtual_size(head: bytes, size: int) -> int | None:
    """The size in a qcow2 file's header; that of other files is their own."""
    if len(head) == _QCOW2.size:
        magic, _version, virtual = _QCOW2.unpack(head)
        if magic == b"QFI\xfb":
            return int(virtual)
    return size or None
