"""What is in volumes: made of images, copies and nothing, and read back as hosts read it."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cell_service.context import Context
from cell_service.peers.image import NewImage
from tests.suites import hostile_images
from tests.suites.peers import MemoryImages
from tests.suites.volume_service import LIMIT_SECONDS, Service, io, nbd_url, opened, with_qemu
from tools.companions.volume import nbd
from tools.companions.volume.settings import NONE

pytestmark = with_qemu
MIB, GIB = 2**20, 2**30
FORMATS = {"raw": "raw", "qcow2": "qcow2", "vdi": "vdi", "vmdk": "vmdk", "vhdx": "vhdx", "vhd": "vpc"}


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    with opened(tmp_path) as service:
        yield service


class Paused:
    """Copies wait at a step until they may go on."""

    def __init__(self, step: str) -> None:
        self.there, self.go, self._step, self.armed = threading.Event(), threading.Event(), step, False

    def __call__(self, name: str) -> None:
        if self.armed and name == self._step:
            self.there.set()
            assert self.go.wait(60)


def files(directory: Path) -> set[str]:
    return {path.name.removeprefix("volume-") for path in (directory / "volumes").iterdir()}


def image_file(directory: Path, kind: str, *options: str) -> bytes:
    """A disk of 8 MiB with the byte 7 in its second MiB."""
    raw, made = directory / "raw", directory / "made"
    raw.write_bytes(bytes(MIB) + b"\7" * MIB + bytes(6 * MIB))
    subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", kind, *options, raw, made], check=True)
    return made.read_bytes()


@pytest.mark.parametrize("image_format", FORMATS)
def test_a_volume_of_an_image_has_its_disk(service: Service, tmp_path: Path, image_format: str) -> None:
    content = image_file(tmp_path, FORMATS[image_format])
    image = service.images.add(content, disk_format=image_format, owner="p1")
    volume = service.settled(service.volume(imageRef=image)["id"])
    assert (volume["status"], volume["bootable"]) == ("available", "true"), service.messages(volume["id"])
    assert volume["volume_image_metadata"]["disk_format"] == image_format
    made = service.attach(volume["id"])
    assert made["connection_info"]["driver_volume_type"] == "nbd"
    io(made["connection_info"], "read -P 0 0 1M", "read -P 7 1M 1M", "read -P 0 2M 6M", f"read -P 0 {GIB - MIB} 1M")


def test_what_a_host_writes_is_there_for_the_next_one(service: Service, tmp_path: Path) -> None:
    volume = service.volume()["id"]
    first = service.attach(volume)
    io(first["connection_info"], "write -P 5 3M 1M", "flush")
    service.detach(first["id"])
    file = tmp_path / "volumes" / f"volume-{volume}"
    assert file.stat().st_size == GIB
    assert file.stat().st_blocks * 512 < 16 * MIB
    second = service.attach(volume, "other", "h2")
    io(second["connection_info"], "read -P 5 3M 1M", "discard 3M 1M", "read -P 0 3M 1M")
    service.detach(second["id"])
    assert file.stat().st_blocks * 512 < MIB
    assert service.send("DELETE", f"/volumes/{volume}").status_code == 202
    assert files(tmp_path) == set()


def test_copies_are_apart_from_what_they_were_made_of(service: Service) -> None:
    volume = service.volume()["id"]
    io(service.attach(volume)["connection_info"], "write -P 1 0 1M")
    snapshot = service.snapshot(volume, force=True)["id"]
    clone = service.volume(source_volid=volume)["id"]
    io(service.attach(volume)["connection_info"], "write -P 2 0 1M")
    later = service.volume(snapshot_id=snapshot, size=2)
    for made, size in ((clone, GIB), (later["id"], 2 * GIB)):
        connection = service.attach(made)["connection_info"]
        io(connection, "read -P 1 0 1M", "write -P 3 0 1M", f"write -P 3 {size - MIB} 1M")
    again = service.attach(service.volume(snapshot_id=snapshot)["id"])
    io(again["connection_info"], "read -P 1 0 1M")
    io(service.attach(volume)["connection_info"], "read -P 2 0 1M")


def test_a_snapshot_is_of_one_moment_while_a_guest_writes(tmp_path: Path) -> None:
    """What is written after the answer is not in it, however long the copy takes."""
    paused = Paused("copying")
    with opened(tmp_path, patience=0, step=paused) as service:
        volume = service.settled(service.volume()["id"])["id"]
        connection = service.attach(volume)["connection_info"]
        io(connection, "write -P 1 0 1M", "write -P 1 64M 1M")
        paused.armed = True
        snapshot = service.snapshot(volume, force=True)
        assert (snapshot["status"], paused.there.wait(60)) == ("creating", True)
        words = ["qemu-io", "-f", "raw", "-c", "write -P 2 0 1M", "-c", "write -P 2 64M 1M", nbd_url(connection)]
        writer = subprocess.Popen(words, stdout=subprocess.DEVNULL)
        refused = service.send("POST", "/volumes", {"volume": {"size": 1, "snapshot_id": snapshot["id"]}})
        assert (refused.status_code, "must be one of 'available'" in refused.text) == (400, True)
        assert service.send("DELETE", f"/volumes/{volume}?cascade=True").status_code == 400
        paused.go.set()
        assert service.settled(snapshot["id"], "snapshot")["status"] == "available"
        assert writer.wait(60) == 0
        io(connection, "read -P 2 0 1M", "read -P 2 64M 1M")
        copied = service.settled(service.volume(snapshot_id=snapshot["id"])["id"])["id"]
        io(service.attach(copied)["connection_info"], "read -P 1 0 1M", "read -P 1 64M 1M")


def test_a_volume_is_attached_after_a_copy_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nbd, "COPY_SECONDS", LIMIT_SECONDS)
    paused = Paused("copying")
    with opened(tmp_path, patience=0, step=paused) as service:
        image = service.images.add(b"\1" * MIB, owner="p1")
        volume = service.settled(service.volume(imageRef=image)["id"])["id"]
        paused.armed = True
        clone = service.volume(source_volid=volume)["id"]
        assert paused.there.wait(60)
        attached = threading.Event()

        def attach() -> None:
            io(service.attach(volume)["connection_info"], "write -P 2 0 1M")
            attached.set()

        thread = threading.Thread(target=attach)
        thread.start()
        refused = service.send("DELETE", f"/volumes/{volume}")
        assert (refused.status_code, "is still attached" in refused.text or "being copied" in refused.text) == (
            400, True,
        )  # fmt: skip
        paused.go.set()
        thread.join()
        assert attached.is_set()
        assert service.settled(clone)["status"] == "available"
        io(service.attach(clone)["connection_info"], "read -P 1 0 1M")


def test_requests_are_answered_while_copies_go_on(tmp_path: Path) -> None:
    paused = Paused("copying")
    with opened(tmp_path, patience=0, step=paused) as service:
        image = service.images.add(b"\1" * MIB, owner="p1")
        source = service.settled(service.volume(imageRef=image)["id"])["id"]
        paused.armed = True
        copies = [service.volume(source_volid=source)["id"] for _ in range(8)]
        assert {service.shown(one)["status"] for one in copies} == {"creating"}
        paused.go.set()
        assert {service.settled(one)["status"] for one in copies} == {"available"}


def refused_images(directory: Path) -> dict[str, tuple[bytes, str, str]]:
    """By name: content, the format that its record claims, and a part of the message."""
    qcow2 = image_file(directory, "qcow2")
    return {
        "backing file": (hostile_images.qcow2(backing=b"/etc/passwd"), "qcow2", "backing file"),
        "data file": (hostile_images.qcow2(incompatible=4), "qcow2", "data file"),
        "encrypted": (hostile_images.qcow2(crypt=1), "qcow2", "encrypted"),
        "descriptor": (hostile_images.vmdk("monolithicFlat", 'RW 2048 FLAT "/etc/passwd" 0'), "vmdk", "unacceptable"),
        "hidden": (qcow2, "raw", "claims to be raw and is qcow2"),
        "cut off": (qcow2[: len(qcow2) // 2], "qcow2", "it is damaged"),
        "too large": (hostile_images.qcow2(size=2 * GIB), "qcow2", "exceeds the disk of 1 GiB"),
        "unknown": (b"odd", "odd", "cannot be started"),
    }


NAMES = ("backing file", "data file", "encrypted", "descriptor", "hidden", "cut off", "too large", "unknown")


@pytest.mark.parametrize("case", NAMES)
def test_images_that_are_refused_make_no_volume(service: Service, tmp_path: Path, case: str) -> None:
    content, claimed, words = refused_images(tmp_path)[case]
    image = service.images.add(content, disk_format=claimed, owner="p1")
    volume = service.settled(service.volume(imageRef=image)["id"])
    assert volume["status"] == "error"
    (message,) = service.messages(volume["id"])
    assert message.startswith("copy image to volume: ")
    assert words in message
    assert str(tmp_path) not in message
    assert files(tmp_path) == set()
    assert service.send("DELETE", f"/volumes/{volume['id']}").status_code == 202
    good = service.volume()["id"]
    assert service.act(good, os_reimage={"image_id": image}).status_code == 202
    assert service.settled(good)["status"] == "error"


def test_an_image_that_does_not_fit_says_so(service: Service) -> None:
    for fields in ({"min_disk_gib": 2}, {"size_bytes": 2 * GIB}):
        image = service.images.add(b"raw", owner="p1", **fields)
        volume = service.settled(service.volume(imageRef=image)["id"])
        (message,) = service.messages(volume["id"])
        assert (volume["status"], "exceeds available space" in message) == ("error", True)


def test_another_image_replaces_all_that_a_volume_had(service: Service) -> None:
    first, second = (service.images.add(bytes([number]) * MIB, owner="p1") for number in (1, 2))
    volume = service.settled(service.volume(imageRef=first)["id"])["id"]
    made = service.attach(volume)
    io(made["connection_info"], "read -P 1 0 1M", "write -P 9 8M 1M")
    service.detach(made["id"])
    assert service.act(volume, os_reimage={"image_id": second}).status_code == 202
    shown = service.settled(volume)
    assert (shown["status"], shown["volume_image_metadata"]["image_id"]) == ("available", second)
    io(service.attach(volume)["connection_info"], "read -P 2 0 1M", "read -P 0 8M 1M")


@pytest.mark.parametrize("disk_format", ["qcow2", "vdi", "vhdx"])
def test_an_image_of_a_volume_has_its_disk(service: Service, tmp_path: Path, disk_format: str) -> None:
    volume = service.volume()["id"]
    made = service.attach(volume)
    io(made["connection_info"], "write -P 4 5M 1M")
    upload = {"image_name": "copy", "disk_format": disk_format}
    assert service.act(volume, os_volume_upload_image=upload).status_code == 400  # it is in use
    service.detach(made["id"])
    odd = {"image_name": "copy", "disk_format": "odd"}
    assert service.act(volume, os_volume_upload_image=odd).status_code == 400
    answer = service.act(volume, os_volume_upload_image=upload)
    said = answer.json()["os-volume_upload_image"]
    assert (answer.status_code, said["status"], said["disk_format"]) == (202, "uploading", disk_format)
    assert service.settled(volume)["status"] == "available"
    image = service.images.records[said["image_id"]]
    assert (image.status, image.owner, image.min_disk_gib) == ("active", "p1", 1)
    again = service.settled(service.volume(imageRef=said["image_id"])["id"])
    assert again["status"] == "available", service.messages(again["id"])
    io(service.attach(again["id"])["connection_info"], "read -P 4 5M 1M", "read -P 0 6M 1M")


class SeenImages(MemoryImages):
    """Uploads are only measured: a raw image is as large as its volume."""

    seen: tuple[int, bytes] = (0, b"")

    def upload(self, ctx: Context, image: NewImage, content: Path) -> None:
        with content.open("rb") as file:
            self.seen = content.stat().st_size, file.read(4)


def test_a_raw_image_is_the_volume_itself(tmp_path: Path) -> None:
    images = SeenImages()
    with opened(tmp_path, images=images) as service:
        volume = service.volume()["id"]
        made = service.attach(volume)
        io(made["connection_info"], "write -P 4 0 512")
        service.detach(made["id"])
        assert service.act(volume, os_volume_upload_image={"image_name": "copy"}).status_code == 202
        assert (service.settled(volume)["status"], images.seen) == ("available", (GIB, b"\4\4\4\4"))


def test_an_upload_that_fails_leaves_the_volume_as_it_was(tmp_path: Path) -> None:
    images = MemoryImages()

    def fail(step: str) -> None:
        images.down = step == "written"

    with opened(tmp_path, images=images, step=fail) as service:
        volume = service.volume()["id"]
        answer = service.act(volume, os_volume_upload_image={"image_name": "copy"})
        assert answer.status_code == 202
        assert service.settled(volume)["status"] == "available"
        assert "Failed to upload volume" in service.messages(volume)[0]


@pytest.mark.parametrize("export", ["nbd", NONE])
def test_what_is_full_says_so(tmp_path: Path, export: str) -> None:
    """By the status, and by a message; what has failed takes nothing."""
    with opened(tmp_path, export, capacity=5) as service:
        volume = service.volume(size=2)["id"]
        assert service.snapshot(volume)["status"] == "available"
        full = service.volume(size=2)
        assert (full["status"], service.snapshot(volume)["status"]) == ("error", "error")
        assert service.messages(full["id"]) == [
            "schedule allocate volume: Could not find any available weighted backend."
        ]
        assert service.act(volume, os_extend={"new_size": 4}).status_code == 202
        shown = service.shown(volume)
        assert (shown["size"], shown["status"], len(service.messages(volume))) == (2, "available", 1)
        assert service.act(volume, os_extend={"new_size": 3}).status_code == 202
        assert service.shown(volume)["size"] == 3
        assert service.send("DELETE", f"/volumes/{volume}?cascade=True").status_code == 202
        assert service.volume(size=5)["status"] == "available"


def test_a_disk_that_is_full_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object) -> int:
        raise OSError(28, "No space left on device", "/a/path")

    with opened(tmp_path) as service:
        source = service.volume()["id"]
        io(service.attach(source)["connection_info"], "write -P 1 0 1M")
        monkeypatch.setattr(os, "copy_file_range", full)
        copied = service.volume(source_volid=source)
        assert copied["status"] == "error"
        assert service.messages(copied["id"]) == [
            "create volume from backend storage: Could not find any available weighted backend. No space left on device"
        ]
        assert files(tmp_path) == {source}


def test_messages_are_a_project_s_own(tmp_path: Path) -> None:
    with opened(tmp_path, NONE, capacity=1) as service:
        failed = service.volume(size=2)["id"]
        (message,) = service.send("GET", "/messages").json()["messages"]
        assert (message["resource_uuid"], message["message_level"]) == (failed, "ERROR")
        one = f"/messages/{message['id']}"
        assert service.send("GET", one).json()["message"] == message
        assert service.send("GET", "/messages", by="user:p2").json() == {"messages": []}
        for method in ("GET", "DELETE"):
            assert service.send(method, one, by="user:p2").status_code == 404
        assert service.send("DELETE", one).status_code == 204
        assert service.send("GET", one).status_code == 404


def test_without_qemu_volumes_are_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with opened(tmp_path / "state") as service:
        made = service.attach(service.volume(imageRef=service.images.add(owner="p1"))["id"])
        assert made["connection_info"]["driver_volume_type"] == "local"
    assert "only recorded" in caplog.text
