"""A block storage companion that is killed in the middle of its work: the next one ends it, and no half file is
left."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.companions.volume_child import MIB, images
from tests.suites.volume_service import Service, opened, until_served, with_qemu

pytestmark = with_qemu
COPY = ("begun", "copying", "written", "placed")
FETCH = ("begun", "fetched", "written", "placed")


def killed(directory: Path, work: str, steps: tuple[str, ...]) -> Iterator[tuple[Path, Service]]:
    """For each step a companion on the data of one that was killed there, and its directory."""
    words = [sys.executable, "-m", "tests.companions.volume_child", directory, work, *steps]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for step in steps:
        with opened(directory / step, images=images()) as service:
            yield directory / step, service


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


@pytest.mark.parametrize(("work", "steps", "byte"), [("image", FETCH, 7), ("clone", COPY, 5), ("snapshot", COPY, 5)])
def test_what_was_being_made_is_made(tmp_path: Path, work: str, steps: tuple[str, ...], byte: int) -> None:
    for directory, service in killed(tmp_path, work, steps):
        source = by_name(service, "source")
        made = by_name(service, "made", "snapshot" if work == "snapshot" else "volume")
        assert (source["status"], made["status"]) == ("available", "available"), directory
        assert begins_with(directory, made["id"]) == byte
        assert files(directory) == {f"volume-{one['id']}" for one in (source, made)}


def test_a_snapshot_of_a_volume_that_a_guest_has_used_since_is_an_error(tmp_path: Path) -> None:
    for directory, service in killed(tmp_path, "snapshot in use", COPY):
        source, made = by_name(service, "source"), by_name(service, "made", "snapshot")
        assert (source["status"], made["status"]) == ("in-use", "error"), directory
        assert "guests have written since" in service.messages(made["id"])[0]
        (attachment,) = service.send("GET", "/attachments/detail").json()["attachments"]
        until_served(attachment["connection_info"])
        assert files(directory) == {f"volume-{source['id']}"}


def test_a_volume_that_was_getting_another_image_has_it(tmp_path: Path) -> None:
    for directory, service in killed(tmp_path, "reimage", FETCH):
        source = by_name(service, "source")
        assert (source["status"], source["bootable"]) == ("available", "true"), directory
        assert begins_with(directory, source["id"]) == 7
        assert files(directory) == {f"volume-{source['id']}"}


def test_an_image_that_was_being_made_is_made(tmp_path: Path) -> None:
    """The image service knows it already, and has no content of it, or has all."""
    for directory, service in killed(tmp_path, "upload", ("begun", "written", "placed")):
        source = by_name(service, "source")
        assert source["status"] == "available", directory
        (image,) = [one for one in service.images.records.values() if one.name == "made"]
        assert (image.status, image.disk_format) == ("active", "qcow2")
        assert files(directory) == {f"volume-{source['id']}"}


def test_files_that_no_record_has_go(tmp_path: Path) -> None:
    with opened(tmp_path) as service:
        kept = service.volume()["id"]
    (tmp_path / "volumes" / "volume-odd").touch()
    (tmp_path / "volumes" / "draft-odd").mkdir()
    with opened(tmp_path):
        assert files(tmp_path) == {f"volume-{kept}"}
