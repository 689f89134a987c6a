"""A block storage companion that is killed in the middle of its work: the next one ends it, and no half file is
left."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.companions.volume_child import MIB, images
from tests.suites.volume_service import Service, opened, with_qemu

pytestmark = with_qemu
COPY = ("begun", "copying", "written", "placed")
FETCH = ("begun", "fetched", "written", "placed")


def kill(directory: Path, work: str, step: str) -> None:
    words = [sys.executable, "-m", "tests.companions.volume_child", directory, work, step]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr


def by_name(service: Service, name: str, noun: str = "volume") -> dict[str, Any]:
    """The record of that name, when no work on it goes on any more."""
    found = [one for one in service.send("GET", f"/{noun}s/detail").json()[f"{noun}s"] if one["name"] == name]
    assert len(found) == 1
    return service.settled(found[0]["id"], noun)


def begins_with(directory: Path, record_id: str) -> int:
    """The byte of which the first MiB is."""
    with (directory / "volumes" / f"volume-{record_id}").open("rb") as file:
        content = file.read(MIB)
    assert content == bytes([content[0]]) * MIB
    return content[0]


def files(directory: Path) -> set[str]:
    return {path.name for path in (directory / "volumes").iterdir()}


@pytest.mark.parametrize(
    ("work", "step", "byte"),
    [
        *(("image", step, 7) for step in FETCH),
        *(("clone", step, 5) for step in COPY),
        *(("snapshot", step, 5) for step in COPY),
    ],
)
def test_what_was_being_made_is_made(tmp_path: Path, work: str, step: str, byte: int) -> None:
    kill(tmp_path, work, step)
    with opened(tmp_path, images=images()) as service:
        source = by_name(service, "source")
        made = by_name(service, "made", "snapshot" if work == "snapshot" else "volume")
        assert (source["status"], made["status"]) == ("available", "available")
        assert begins_with(tmp_path, made["id"]) == byte
        assert files(tmp_path) == {f"volume-{one['id']}" for one in (source, made)}


@pytest.mark.parametrize("step", COPY)
def test_a_snapshot_of_a_volume_that_a_guest_has_used_since_is_an_error(tmp_path: Path, step: str) -> None:
    kill(tmp_path, "snapshot in use", step)
    with opened(tmp_path, images=images()) as service:
        source, made = by_name(service, "source"), by_name(service, "made", "snapshot")
        assert (source["status"], made["status"]) == ("in-use", "error")
        assert "guests have written since" in service.messages(made["id"])[0]
        assert files(tmp_path) == {f"volume-{source['id']}"}


@pytest.mark.parametrize("step", FETCH)
def test_a_volume_that_was_getting_another_image_has_it(tmp_path: Path, step: str) -> None:
    kill(tmp_path, "reimage", step)
    with opened(tmp_path, images=images()) as service:
        source = by_name(service, "source")
        assert (source["status"], source["bootable"]) == ("available", "true")
        assert begins_with(tmp_path, source["id"]) == 7
        assert files(tmp_path) == {f"volume-{source['id']}"}


@pytest.mark.parametrize("step", ["begun", "written", "placed"])
def test_an_image_that_was_being_made_is_made(tmp_path: Path, step: str) -> None:
    """The image service knows it already, and has no content of it, or has all."""
    kill(tmp_path, "upload", step)
    with opened(tmp_path, images=images()) as service:
        source = by_name(service, "source")
        assert source["status"] == "available"
        (image,) = [one for one in service.images.records.values() if one.name == "made"]
        assert (image.status, image.disk_format) == ("active", "qcow2")
        assert files(tmp_path) == {f"volume-{source['id']}"}


def test_files_that_no_record_has_go(tmp_path: Path) -> None:
    with opened(tmp_path) as service:
        kept = service.volume()["id"]
    (tmp_path / "volumes" / "volume-odd").touch()
    (tmp_path / "volumes" / "draft-odd").mkdir()
    with opened(tmp_path):
        assert files(tmp_path) == {f"volume-{kept}"}
