"""What a libvirt host records of its guests' files."""

from __future__ import annotations

import json
from pathlib import Path
from uuid import uuid4

import pytest

from compute_host.config import HostSettings
from compute_host.virt.libvirt.domain import Laid, LaidDisk
from compute_host.virt.libvirt.records import Record
from compute_host.virt.libvirt.storage import Storage

EARLIER = {
    "disks": [["root", "disk", "qcow2"], ["ephemeral", "disk.eph0", "raw"]],
    "kernel": True,
    "ramdisk": False,
    "drive": "cdrom",
    "disk_bytes": 5,
}


def recorded(directory: Path, plain: dict[str, object]) -> tuple[Path, Record]:
    uuid = str(uuid4())
    root = directory / uuid
    root.mkdir()
    (root / "guest.json").write_text(json.dumps(plain), encoding="utf-8")
    return root, Storage(HostSettings(host="h1", state=directory, image_cache=directory)).record(uuid)


def test_a_record_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    root, record = recorded(tmp_path, EARLIER)
    disks = (LaidDisk("root", root / "disk", "qcow2"), LaidDisk("ephemeral", root / "disk.eph0", "raw"))
    laid = Laid(disks, root / "console.log", kernel=root / "kernel", drive=root / "disk.config")
    assert record == Record(laid, 5)
    assert record.in_use == laid


@pytest.mark.parametrize("drive", [None, "disk"])
def test_a_rescued_guest_runs_from_its_rescue_files(tmp_path: Path, drive: str | None) -> None:
    rescued = {
        "disks": [["rescue", "disk.rescue", "qcow2"], *EARLIER["disks"]],  # type: ignore[misc]
        "kernel": False,
        "ramdisk": False,
        "drive": drive,
        "drive_file": drive and "disk.config.rescue",
    }
    root, record = recorded(tmp_path, EARLIER | {"rescued": rescued})
    assert record.rescued is not None
    assert record.in_use == record.rescued
    assert [disk.path.name for disk in record.in_use.disks] == ["disk.rescue", "disk", "disk.eph0"]
    assert record.in_use.kernel is None
    assert record.in_use.drive == (root / "disk.config.rescue" if drive else None)
    assert record.laid.drive == root / "disk.config"
