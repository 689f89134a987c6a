"""Before libvirtd starts, guests that its last process was just starting are dropped, and only those."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tools.hypervisors.host import INIT

SCRIPT = INIT.with_name("drop-unstarted.sh")
UNSTARTED = "<domstatus state='paused' reason='starting up' pid='0'>\n</domstatus>\n"


@pytest.fixture
def qemu() -> Iterator[subprocess.Popen[bytes]]:
    """A process that looks as the QEMU of `instance-late` does."""
    words = ["-c", "import time; time.sleep(600)", "-name", "guest=instance-late,debug-threads=on"]
    process = subprocess.Popen([sys.executable, *words])
    yield process
    process.kill()
    process.wait()


def test_a_guest_without_a_qemu_is_forgotten_and_its_late_qemu_ended(
    tmp_path: Path, qemu: subprocess.Popen[bytes]
) -> None:
    tmp_path.joinpath("instance-late.xml").write_text(f"<!--\nA comment.\n-->\n\n{UNSTARTED}", encoding="ascii")
    tmp_path.joinpath("instance-late.xml.new").touch()
    tmp_path.joinpath("instance-late.pid").write_text(f"{qemu.pid}\n", encoding="ascii")
    tmp_path.joinpath("instance-none.xml").write_text(UNSTARTED, encoding="ascii")
    done = subprocess.run(["bash", SCRIPT, tmp_path], capture_output=True, text=True, check=True)
    assert sorted(line.split()[0] for line in done.stdout.splitlines()) == ["instance-late", "instance-none"]
    assert list(tmp_path.iterdir()) == []
    assert qemu.wait(timeout=60) == -9


@pytest.mark.parametrize(
    "status",
    [
        "<domstatus state='running' reason='booted' pid='0'>\n",
        "<domstatus state='paused' reason='user' pid='0'>\n",
        "<domstatus state='paused' reason='starting up' pid='4711'>\n",
    ],
)
def test_other_guests_are_left_alone(tmp_path: Path, qemu: subprocess.Popen[bytes], status: str) -> None:
    tmp_path.joinpath("instance-late.xml").write_text(status, encoding="ascii")
    tmp_path.joinpath("instance-late.pid").write_text(f"{qemu.pid}\n", encoding="ascii")
    subprocess.run(["bash", SCRIPT, tmp_path], check=True)
    assert {path.name for path in tmp_path.iterdir()} == {"instance-late.xml", "instance-late.pid"}
    assert qemu.poll() is None


def test_a_reused_process_id_is_spared(tmp_path: Path, qemu: subprocess.Popen[bytes]) -> None:
    tmp_path.joinpath("instance-other.xml").write_text(UNSTARTED, encoding="ascii")
    tmp_path.joinpath("instance-other.pid").write_text(f"{qemu.pid}\n", encoding="ascii")
    subprocess.run(["bash", SCRIPT, tmp_path], check=True)
    assert list(tmp_path.iterdir()) == []
    assert qemu.poll() is None
    subprocess.run(["bash", SCRIPT, tmp_path / "absent"], check=True)
