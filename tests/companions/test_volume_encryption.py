"""Volumes of encrypted types: each has a key of its own, its bytes are LUKS from the beginning, and copies open with
copies of the key."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from compute_host.virt import luks
from tests.suites.keys import MemoryKeys
from tests.suites.peers import MemoryImages
from tests.suites.volume_service import Service, opened, with_qemu
from tools.companions.volume.settings import NONE

MIB, GIB = 2**20, 2**30
SAID = {"provider": "luks", "cipher": "aes-xts-plain64", "key_size": 256, "control_location": "front-end"}
MAGIC = b"LUKS\xba\xbe\x00\x01"
MARKER = b"what the image says" * 100


@pytest.fixture
def keys() -> MemoryKeys:
    return MemoryKeys()


@pytest.fixture
def images() -> MemoryImages:
    return MemoryImages()


@pytest.fixture
def service(tmp_path: Path, keys: MemoryKeys, images: MemoryImages) -> Iterator[Service]:
    with opened(tmp_path, images=images, keys=keys) as made:
        made.kind("LUKS", **SAID)
        yield made


def key_of(service: Service, volume: str) -> str:
    answer = service.send("GET", f"/volumes/{volume}/encryption").json()
    assert {name: answer[name] for name in SAID} == SAID
    return str(answer["encryption_key_id"])


def file_of(directory: Path, record: str) -> Path:
    return directory / "volumes" / f"volume-{record}"


def decrypted(directory: Path, keys: MemoryKeys, record: str, key_id: str) -> bytes:
    """The beginning of what a guest sees."""
    made = directory / "decrypted"
    place = (
        f"file.driver=luks,file.key-secret=key,file.file.driver=file,file.file.filename={file_of(directory, record)}"
    )
    with luks.passphrase_object(luks.passphrase_of(keys.known[key_id])) as secret:
        subprocess.run(["qemu-img", "convert", "--object", secret, "--image-opts",
                        f"driver=raw,offset=0,size={MIB},{place}", "-O", "raw", made], check=True)  # fmt: skip
    return made.read_bytes()


def refusal(service: Service, **fields: Any) -> str:
    answer = service.send("POST", "/volumes", {"volume": {"size": 1, **fields}})
    assert answer.status_code >= 400, answer.text
    return str(next(iter(answer.json().values()))["message"])


@with_qemu
def test_a_volume_of_an_encrypted_type_has_a_key_and_begins_with_luks(
    service: Service, keys: MemoryKeys, tmp_path: Path
) -> None:
    one, other = (service.volume(volume_type="LUKS") for _ in range(2))
    assert (one["encrypted"], one["status"], service.shown(one["id"])["encrypted"]) == (True, "available", True)
    first, second = (key_of(service, each["id"]) for each in (one, other))
    assert {first, second} == keys.known.keys()
    assert [len(key) for key in keys.known.values()] == [32, 32]
    assert file_of(tmp_path, one["id"]).read_bytes()[:8] == MAGIC
    assert file_of(tmp_path, one["id"]).stat().st_size == GIB
    decrypted(tmp_path, keys, one["id"], first)
    assert service.attach(one["id"])["connection_info"]["encrypted"] is True
    assert service.send("GET", f"/volumes/{one['id']}/encryption", by="user:p2").status_code == 404


@with_qemu
def test_an_image_is_on_the_volume_and_not_in_clear(
    service: Service, keys: MemoryKeys, images: MemoryImages, tmp_path: Path
) -> None:
    one = service.volume(volume_type="LUKS", imageRef=images.add(MARKER.ljust(MIB, b"\0")))
    assert service.settled(one["id"])["status"] == "available"
    assert MARKER[:20] not in file_of(tmp_path, one["id"]).read_bytes()[: 2**22]
    assert decrypted(tmp_path, keys, one["id"], key_of(service, one["id"])).startswith(MARKER)


@with_qemu
def test_an_image_must_leave_space_for_the_header(service: Service, images: MemoryImages, tmp_path: Path) -> None:
    path = tmp_path / "image"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", path, str(GIB - MIB)], check=True)
    image = images.add(path.read_bytes(), disk_format="qcow2")
    assert service.settled(service.volume(volume_type="LUKS", imageRef=image)["id"])["status"] == "error"
    assert service.settled(service.volume(imageRef=image)["id"])["status"] == "available"


@with_qemu
def test_copies_have_keys_of_their_own_that_open_the_same_content(
    service: Service, keys: MemoryKeys, images: MemoryImages, tmp_path: Path
) -> None:
    """The type is that of the source, where none is named."""
    source = service.volume(volume_type="LUKS", imageRef=images.add(MARKER.ljust(MIB, b"\0")))["id"]
    snapshot = service.snapshot(source)["id"]
    clone = service.volume(source_volid=source)
    from_snapshot = service.volume(snapshot_id=snapshot, volume_type="LUKS", size=2)
    assert {each["volume_type"] for each in (clone, from_snapshot)} == {"LUKS"}
    used = {key_of(service, each) for each in (source, clone["id"], from_snapshot["id"])}
    assert used == keys.known.keys()
    assert len(used) == 3
    for each in (clone["id"], from_snapshot["id"]):
        assert service.settled(each)["status"] == "available"
    assert service.send("DELETE", f"/volumes/{source}?cascade=True").status_code == 202
    for each in (clone["id"], from_snapshot["id"]):
        assert decrypted(tmp_path, keys, each, key_of(service, each)).startswith(MARKER)
    assert len(keys.known) == 2


@with_qemu
def test_a_reimaged_volume_and_one_that_has_grown_open_with_their_key(
    service: Service, keys: MemoryKeys, images: MemoryImages, tmp_path: Path
) -> None:
    one = service.volume(volume_type="LUKS")["id"]
    key = key_of(service, one)
    service.act(one, os_reimage={"image_id": images.add(MARKER.ljust(MIB, b"\0"))})
    assert service.settled(one)["status"] == "available"
    assert service.act(one, os_extend={"new_size": 2}).status_code == 202
    assert key_of(service, one) == key
    assert decrypted(tmp_path, keys, one, key).startswith(MARKER)
    assert file_of(tmp_path, one).stat().st_size == 2 * GIB


def test_a_key_goes_with_its_volume_at_once_or_when_the_key_manager_is_back(tmp_path: Path, keys: MemoryKeys) -> None:
    with opened(tmp_path, NONE, keys=keys) as service:
        service.kind("LUKS", **SAID)
        one, other, third = (service.volume(volume_type="LUKS")["id"] for _ in range(3))
        assert service.send("DELETE", f"/volumes/{one}").status_code == 202
        assert len(keys.known) == 2
        keys.down = True
        assert service.send("DELETE", f"/volumes/{other}").status_code == 202
        assert (len(keys.known), service.send("GET", f"/volumes/{other}").status_code) == (2, 404)
        keys.down = False
        assert service.send("DELETE", f"/volumes/{third}").status_code == 202
        assert keys.known == {}


def test_without_the_key_manager_no_encrypted_volume_is_made(tmp_path: Path, keys: MemoryKeys) -> None:
    with opened(tmp_path, NONE, keys=keys) as service:
        service.kind("LUKS", **SAID)
        keys.down = True
        assert "key manager service does not answer" in refusal(service, volume_type="LUKS")
        assert service.send("GET", "/volumes").json()["volumes"] == []
        assert service.volume()["encrypted"] is False


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"provider": "luks2"}, "the provider luks2 is not luks"),
        ({"provider": "plain"}, "the provider plain is not luks"),
        ({"control_location": "back-end"}, "its control location is back-end"),
        ({"cipher": "aes-xts"}, "there is no cipher aes-xts with keys of 256 bits"),
        ({"key_size": 100}, "with keys of 100 bits"),
    ],
)
def test_encryption_that_hosts_do_not_have_is_refused(
    tmp_path: Path, keys: MemoryKeys, said: dict[str, Any], words: str
) -> None:
    with opened(tmp_path, NONE, keys=keys) as service:
        service.kind("LUKS", **{**SAID, **said})
        assert words in refusal(service, volume_type="LUKS")
        assert keys.known == {}


def test_what_is_encrypted_is_not_copied_to_another_kind_of_volume(tmp_path: Path, keys: MemoryKeys) -> None:
    with opened(tmp_path, NONE, keys=keys) as service:
        service.kind("LUKS", **SAID)
        service.kind("plain")
        source = service.volume(volume_type="LUKS")["id"]
        assert "Invalid volume_type provided" in refusal(service, source_volid=source, volume_type="plain")
        answer = service.act(source, os_volume_upload_image={"image_name": "i"})
        assert (answer.status_code, "No images are made of encrypted volumes" in answer.text) == (400, True)
        assert len(keys.known) == 1
