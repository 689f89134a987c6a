"""The record of a guest's files, `guest.json` in its directory."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cell_service.errors import GuestNotFound
from compute_host.virt.libvirt.domain import Laid, LaidDisk

RECORD, CONSOLE, DRIVE = "guest.json", "console.log", "disk.config"


@dataclass(frozen=True, slots=True)
class Record:
    """The content of `guest.json`: the guest's own files, the disk space that it may fill, and the files that it
    runs from while it is rescued."""

    laid: Laid
    disk_bytes: int
    rescued: Laid | None = None

    @property
    def in_use(self) -> Laid:
        """The files that the guest runs from now."""
        return self.rescued or self.laid


def read(root: Path) -> Record:
    """The record in the guest's directory. Raises GuestNotFound unless the directory is complete."""
    try:
        return _decoded(root, json.loads((root / RECORD).read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError):
        raise GuestNotFound(uuid=root.name) from None


def write(root: Path, record: Record) -> None:
    """Write the record, whole or not at all. Raises OSError."""
    part = root / f"{RECORD}.part"
    with part.open("w", encoding="utf-8") as file:
        json.dump(_encoded(record), file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, root / RECORD)


def _encoded(record: Record) -> dict[str, Any]:
    plain = {**_plain(record.laid), "disk_bytes": record.disk_bytes}
    return plain if record.rescued is None else {**plain, "rescued": _plain(record.rescued)}


def _plain(laid: Laid) -> dict[str, Any]:
    return {
        "disks": [[disk.role, disk.path.name, disk.format] for disk in laid.disks],
        "kernel": laid.kernel is not None and laid.kernel.name,
        "ramdisk": laid.ramdisk is not None and laid.ramdisk.name,
        "drive": None if laid.drive is None else "cdrom" if laid.drive_is_cdrom else "disk",
        "drive_file": laid.drive is not None and laid.drive.name,
    }


def _decoded(root: Path, known: dict[str, Any]) -> Record:
    rescued = known.get("rescued")
    return Record(_laid(root, known), int(known["disk_bytes"]), None if rescued is None else _laid(root, rescued))


def _laid(root: Path, known: dict[str, Any]) -> Laid:
    """Earlier versions recorded of a kernel, a ramdisk and a drive only whether there is one."""

    def file(key: str, usual: str) -> Path | None:
        name = known.get(key)
        return root / (name if isinstance(name, str) else usual) if name else None

    return Laid(
        tuple(LaidDisk(role, root / name, kind) for role, name, kind in known["disks"]),
        root / CONSOLE,
        kernel=file("kernel", "kernel"),
        ramdisk=file("ramdisk", "ramdisk"),
        drive=root / (known.get("drive_file") or DRIVE) if known["drive"] else None,
        drive_is_cdrom=known["drive"] != "disk",
    )
