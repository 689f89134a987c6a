"""What a libvirt host records of its guests' files."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from uuid import uuid4

import pytest

from compute_host.config import HostSettings
from compute_host.virt.libvirt.domain import Laid, LaidDisk
from compute_host.virt.libvirt.records import Record
from compute_host.virt.libvirt.storage import Storage
from tests.real.databases import wait_until

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


RUN = 'from compute_host.virt.libvirt.drive import run; run(["sleep", "600"])'


def test_a_program_ends_with_the_agent_that_is_killed() -> None:
    agent = subprocess.Popen([sys.executable, "-c", RUN])
    children = Path(f"/proc/{agent.pid}/task/{agent.pid}/children")

    def sleeping() -> int | None:
        found = children.read_text(encoding="ascii").split()
        name = Path(f"/proc/{found[0]}/comm").read_text(encoding="ascii").strip() if found else ""
        return int(found[0]) if name == "sleep" else None

    wait_until(lambda: sleeping() is not None, "the program does not start")
    program = sleeping()
    agent.kill()
    agent.wait()
    wait_until(lambda: has_ended(Path(f"/proc/{program}/stat")), "the program runs on")


def has_ended(stat: Path) -> bool:
    """Also where its new parent has not waited for it yet."""
    try:
        return stat.read_text(encoding="ascii").rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True
