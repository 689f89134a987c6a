"""Block storage companions that are killed, each at another step of the same work:

python -m tests.companions.volume_child DIRECTORY WORK STEP...     WORK: a name of WORKS

Each is a process of its own, with its data in a directory named by the step.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from tests.suites.peers import MemoryImages
from tests.suites.volume_service import Service, opened

IMAGE = "99999999-0000-4000-8000-000000000001"
MIB = 2**20


class Killer:
    """Kills this process at the step, when it is set."""

    def __init__(self) -> None:
        self.step = ""

    def __call__(self, name: str) -> None:
        if name == self.step:
            os.kill(os.getpid(), signal.SIGKILL)


def images() -> MemoryImages:
    """With one image: a MiB of the byte 7."""
    made = MemoryImages()
    known = made.add(b"\7" * MIB)
    made.records[IMAGE] = replace(made.records.pop(known), id=IMAGE)
    made.contents[IMAGE] = made.contents.pop(known)
    return made


def _image(service: Service, source: str) -> None:
    service.volume(name="made", imageRef=IMAGE)


def _clone(service: Service, source: str) -> None:
    service.volume(name="made", source_volid=source)


def _snapshot(service: Service, source: str) -> None:
    service.snapshot(source, name="made")


def _snapshot_in_use(service: Service, source: str) -> None:
    service.snapshot(source, name="made", force=True)


def _reimage(service: Service, source: str) -> None:
    service.act(source, os_reimage={"image_id": IMAGE})


def _upload(service: Service, source: str) -> None:
    service.act(source, os_volume_upload_image={"image_name": "made", "disk_format": "qcow2"})


WORKS: dict[str, Callable[[Service, str], None]] = {
    "image": _image, "clone": _clone, "snapshot": _snapshot, "snapshot in use": _snapshot_in_use,
    "reimage": _reimage, "upload": _upload,
}  # fmt: skip


def main(directory: Path, work: str, step: str) -> None:
    """The volume "source" has a MiB of the byte 5 when the work on it begins."""
    killer = Killer()
    with opened(directory, images=images(), step=killer) as service:
        source = service.volume(name="source")["id"]
        with (directory / "volumes" / f"volume-{source}").open("r+b") as file:
            file.write(b"\5" * MIB)
        if work == "snapshot in use":
            service.attach(source)
        killer.step = step
        WORKS[work](service, source)
    raise AssertionError(f"{work} has no step {step}")


def run(directory: Path, work: str, steps: list[str]) -> None:
    """Fork for each step, before there are threads here. Raises AssertionError, unless each was killed."""
    for step in steps:
        child = os.fork()
        if child == 0:
            main(directory / step, work, step)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert code == -signal.SIGKILL, f"{work} at {step} ended with {code}"


if __name__ == "__main__":
    run(Path(sys.argv[1]), sys.argv[2], sys.argv[3:])
