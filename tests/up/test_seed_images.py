"""The guest's images in the image service, put there by the launcher's own code."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from cell_service.errors import PeerUnavailable
from tests.suites.companions import Companions, start_companions
from tools.guest.image import GuestImage
from tools.up.seed_images import BLANK_BYTES, GUEST, GUEST_UEC, Ask, upload_guest
from tools.up.tiny_image import tiny_qcow2


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[Companions]:
    made = start_companions(tmp_path / "companions")
    yield made
    made.close()


@pytest.fixture
def guest(tmp_path: Path) -> GuestImage:
    """Files as small as they may be."""
    made = GuestImage(tmp_path / "vmlinuz", tmp_path / "initrd.gz", tmp_path / "guest.qcow2", "6.1")
    made.kernel.write_bytes(b"kernel")
    made.ramdisk.write_bytes(b"ramdisk")
    made.disk.write_bytes(tiny_qcow2())
    return made


def asking(cloud: Companions) -> Ask:
    headers = {"X-Auth-Token": cloud.token()}

    def ask(method: str, path: str, **more: Any) -> Any:
        sent = {**headers, **more.pop("headers", {})}
        answer = requests.request(method, cloud.image.url + path, headers=sent, timeout=20, **more)
        answer.raise_for_status()
        return answer.json() if answer.content else None

    return ask


def images(ask: Ask) -> dict[str, Any]:
    found = ask("GET", "/v2/images")["images"]
    assert len({image["name"] for image in found}) == len(found)
    return {image["name"]: image for image in found}


def test_a_disk_and_a_pair_that_a_third_image_names(cloud: Companions, guest: GuestImage) -> None:
    ask = asking(cloud)
    upload_guest(guest, ask)
    upload_guest(guest, ask)
    found = images(ask)
    assert {image["status"] for image in found.values()} == {"active"}
    assert set(found) == {GUEST, GUEST_UEC, f"{GUEST_UEC}-kernel", f"{GUEST_UEC}-ramdisk"}
    assert (found[GUEST]["disk_format"], found[GUEST]["hw_rng_model"]) == ("qcow2", "virtio")
    assert found[GUEST]["min_ram"] == 128
    starter = found[GUEST_UEC]
    assert (starter["kernel_id"], starter["ramdisk_id"]) == (
        found[f"{GUEST_UEC}-kernel"]["id"],
        found[f"{GUEST_UEC}-ramdisk"]["id"],
    )
    assert starter["size"] == BLANK_BYTES
    assert found[f"{GUEST_UEC}-ramdisk"]["size"] == len(b"ramdisk")


def test_a_record_without_content_gets_it_the_next_time(cloud: Companions, guest: GuestImage) -> None:
    ask = asking(cloud)

    def cut_off(method: str, path: str, **more: Any) -> Any:
        if method == "PUT":
            raise PeerUnavailable(service="image", reason="the line was cut")
        return ask(method, path, **more)

    with pytest.raises(PeerUnavailable):
        upload_guest(guest, cut_off)
    assert images(ask)[GUEST]["status"] == "queued"
    upload_guest(guest, ask)
    assert {image["status"] for image in images(ask).values()} == {"active"}
