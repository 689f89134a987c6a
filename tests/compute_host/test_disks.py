"""The files of guests' disks, made by the real programs on real file systems."""

from __future__ import annotations

import json
import os
import shutil
import struct
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from cell_service.errors import DriverError, HostOutOfSpace, ImageUnacceptable
from compute_host.config import HostSettings
from compute_host.libvirt_settings import GuestSettings, LibvirtSettings
from compute_host.virt.driver import GIB, Disk, GuestSpec
from compute_host.virt.libvirt.storage import Storage
from tests.suites.driver import spec_of

pytestmark = pytest.mark.skipif(shutil.which("qemu-img") is None, reason="needs qemu-img")

MIB = 2**20
ROOT_BYTES = 256 * MIB
CONTENT = b"a system" * 1000


def settings(state: Path, images_type: str = "default", **guests: Any) -> HostSettings:
    return HostSettings(
        host="h1",
        state=state,
        image_cache=state / "_base",
        libvirt=LibvirtSettings(images_type=images_type),
        guests=GuestSettings(**guests),
    )


def storage(state: Path, images_type: str = "default", **guests: Any) -> Storage:
    return Storage(settings(state, images_type, **guests))


def guest(image: Path, image_format: str, *more: Disk, root_bytes: int = ROOT_BYTES) -> GuestSpec:
    root = Disk("root", root_bytes, image, image_format)
    return replace(spec_of(image, image_format), disks=(root, *more))


def info(path: Path) -> dict[str, Any]:
    text = subprocess.run(
        ["qemu-img", "info", "--output=json", path], check=True, capture_output=True, text=True
    ).stdout
    known: dict[str, Any] = json.loads(text)
    return known


def converted(raw: Path, kind: str, *options: str, name: str = "") -> Path:
    made = raw.with_name(name or f"converted.{kind}")
    subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", kind, *options, raw, made], check=True)
    return made


def head_of(path: Path, tmp_path: Path, kind: str, length: int) -> bytes:
    raw = tmp_path / f"{uuid4()}.raw"
    subprocess.run(["qemu-img", "convert", "-f", kind, "-O", "raw", path, raw], check=True)
    return raw.read_bytes()[:length]


def left(state: Path) -> list[str]:
    return sorted(path.name for path in state.rglob("*") if path.is_file())


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    path = tmp_path / "images" / "image"
    path.parent.mkdir()
    path.write_bytes(CONTENT.ljust(4 * MIB, b"\0"))
    return path


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of 32 MiB."""
    place = tmp_path / "small"
    place.mkdir()
    if (
        os.geteuid()
        or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=32M", "tmpfs", place], check=False).returncode
    ):
        pytest.skip("needs the right to mount a file system")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


# -- root disks --------------------------------------------------------------------------------------

BACKED: dict[str, tuple[str, dict[str, bool], bool]] = {
    "by default": ("default", {}, True),
    "qcow2": ("qcow2", {"use_cow_images": False}, True),
    "no use_cow_images": ("default", {"use_cow_images": False}, False),
    "raw": ("raw", {}, False),
    "flat": ("flat", {}, False),
}


@pytest.mark.parametrize("case", BACKED)
@pytest.mark.parametrize("kind", ["raw", "qcow2"])
def test_a_root_disk_is_backed_or_a_copy_and_as_large_as_the_flavor_says(
    tmp_path: Path, raw: Path, kind: str, case: str
) -> None:
    images_type, options, backed = BACKED[case]
    image = raw if kind == "raw" else converted(raw, kind)
    (disk,) = storage(tmp_path / "state", images_type, **options).make(guest(image, kind)).disks
    known = info(disk.path)
    assert known["virtual-size"] == ROOT_BYTES
    assert (known["format"], disk.format) == (("qcow2",) * 2 if backed else ("raw",) * 2)
    assert known.get("backing-filename") == ("base" if backed else None)
    assert head_of(disk.path, tmp_path, disk.format, len(CONTENT)) == CONTENT
    if backed:
        assert known["backing-filename-format"] == kind
        assert os.path.samefile(disk.path.with_name("base"), image)


@pytest.mark.parametrize("kind", ["qcow2", "vmdk", "vdi", "vhdx", "vpc"])
def test_guests_start_from_images_turned_to_raw_once_for_all(tmp_path: Path, raw: Path, kind: str) -> None:
    image = converted(raw, kind)
    made = storage(tmp_path / "state", force_raw_images=True)
    name = "vhd" if kind == "vpc" else kind
    with ThreadPoolExecutor(4) as pool:
        laid = list(pool.map(lambda _number: made.make(guest(image, name)), range(4)))
    bases = {os.stat(one.disks[0].path.with_name("base")).st_ino for one in laid}
    assert len(bases) == 1
    for one in laid:
        assert info(one.disks[0].path)["backing-filename-format"] == "raw"
        assert head_of(one.disks[0].path, tmp_path, "qcow2", len(CONTENT)) == CONTENT
    assert not list(image.parent.glob("*.part"))


def test_a_root_disk_of_no_size_is_as_large_as_its_image(tmp_path: Path, raw: Path) -> None:
    large = tmp_path / "large"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", large, str(GIB + 1)], check=True)
    made = storage(tmp_path / "state")
    spec = guest(large, "qcow2", root_bytes=0)
    (disk,) = made.make(spec).disks
    assert info(disk.path)["virtual-size"] == 2 * GIB
    assert made.record(spec.instance.uuid).disk_bytes == 2 * GIB


# -- further disks -----------------------------------------------------------------------------------


def printed(*command: str | Path) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_several_ephemeral_disks_and_swap_are_made(tmp_path: Path, raw: Path) -> None:
    further = (Disk("ephemeral", 64 * MIB), Disk("ephemeral", 32 * MIB), Disk("swap", 16 * MIB))
    laid = storage(tmp_path / "state").make(guest(raw, "raw", *further))
    assert [(disk.role, disk.path.name, disk.format) for disk in laid.disks[1:]] == [
        ("ephemeral", "disk.eph0", "raw"),
        ("ephemeral", "disk.eph1", "raw"),
        ("swap", "disk.swap", "raw"),
    ]
    assert [disk.path.stat().st_size for disk in laid.disks[1:]] == [64 * MIB, 32 * MIB, 16 * MIB]
    types = [printed("blkid", "-p", "-o", "value", "-s", "TYPE", disk.path).strip() for disk in laid.disks[1:]]
    assert types == ["ext4", "ext4", "swap"]
    assert printed("blkid", "-p", "-o", "value", "-s", "LABEL", laid.disks[1].path).strip() == "ephemeral0"


# -- space -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("images_type", ["qcow2", "raw"])
def test_space_is_there_from_the_beginning_where_it_is_to_be(tmp_path: Path, raw: Path, images_type: str) -> None:
    further = (Disk("ephemeral", 16 * MIB), Disk("swap", 8 * MIB))
    spec = guest(raw, "raw", *further, root_bytes=32 * MIB)
    thin = storage(tmp_path / "thin", images_type).make(spec)
    thick = storage(tmp_path / "thick", images_type, preallocate_images="space").make(spec)
    for sparse, disk, size in zip(thin.disks, thick.disks, (32 * MIB, 16 * MIB, 8 * MIB), strict=True):
        assert sparse.path.stat().st_blocks * 512 < size
        assert disk.path.stat().st_blocks * 512 >= size
    assert info(thick.disks[0].path)["virtual-size"] == 32 * MIB


def test_space_that_is_not_there_is_refused_before_anything_is_made(small: Path, raw: Path) -> None:
    full = storage(small / "state", preallocate_images="space")
    with pytest.raises(HostOutOfSpace, match="MiB free"):
        full.make(guest(raw, "raw", root_bytes=64 * MIB))
    assert full.uuids() == ()
    full.make(guest(raw, "raw", root_bytes=8 * MIB))
    with pytest.raises(HostOutOfSpace):
        full.make(guest(raw, "raw", root_bytes=24 * MIB))
    assert len(full.uuids()) == 1


@pytest.mark.parametrize("where", ["root", "ephemeral"])
def test_space_that_others_take_meanwhile_leaves_nothing(
    small: Path, raw: Path, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = storage(small / "state", preallocate_images="space")
    monkeypatch.setattr(made._disks, "check_space", lambda *_args: None)
    sizes = (64 * MIB, 8 * MIB) if where == "root" else (8 * MIB, 64 * MIB)
    with pytest.raises(HostOutOfSpace, match="No space left"):
        made.make(guest(raw, "raw", Disk("ephemeral", sizes[1]), root_bytes=sizes[0]))
    assert left(small) == []


@pytest.mark.parametrize("images_type", ["raw", "default"])
def test_an_image_that_is_larger_when_it_is_converted_leaves_nothing(small: Path, raw: Path, images_type: str) -> None:
    """Compressed it fits, so that the lack of space is found in the middle of the work."""
    raw.write_bytes(b"many words " * (6 * MIB))
    image = converted(raw, "qcow2", "-c", name=f"{'a' * 40}")
    assert image.stat().st_size < 8 * MIB
    (small / "_base").mkdir()
    cached = Path(shutil.copy(image, small / "_base"))
    made = storage(small, images_type, force_raw_images=True)
    with pytest.raises(HostOutOfSpace, match="no space left"):
        made.make(guest(cached, "qcow2"))
    assert left(small) == [cached.name]


# -- hostile images ----------------------------------------------------------------------------------


def cut(image: Path) -> None:
    os.truncate(image, image.stat().st_size // 2)


def with_parent(image: Path) -> None:
    """Say in a VHDX's metadata that it has a parent."""
    content = bytearray(image.read_bytes())
    item = content.index(bytes.fromhex("3767a1ca36fa434db3b633f0aa44e76b"))  # File Parameters
    offset = struct.unpack_from("<I", content, item + 16)[0]
    place = content.index(b"metadata") + offset + 4
    content[place] |= 2
    image.write_bytes(content)


def lying_geometry(image: Path) -> None:
    """A VHD whose size in the header is small, and whose geometry and current size are not."""
    content = bytearray(image.read_bytes())
    for place in (0, len(content) - 512):
        struct.pack_into(">QQ", content, place + 40, MIB, 2**40)
        struct.pack_into(">HBB", content, place + 56, 65535, 16, 255)
    image.write_bytes(content)


def broken_tables(image: Path) -> None:
    """A qcow2 whose first cluster is far behind its end."""
    content = bytearray(image.read_bytes())
    l1 = struct.unpack_from(">Q", content, 40)[0]
    l2 = struct.unpack_from(">Q", content, l1)[0] & 0x00FFFFFFFFFFFE00
    struct.pack_into(">Q", content, l2, 1 << 63 | 2**40)
    image.write_bytes(content)


HOSTILE: dict[str, tuple[str, str, Callable[[Path], None]]] = {
    "qcow2 cut off": ("qcow2", "qcow2", cut),
    "vmdk cut off": ("vmdk", "vmdk", cut),
    "vhdx cut off": ("vhdx", "vhdx", cut),
    "vdi cut off": ("vdi", "vdi", cut),
    "vhdx with a parent": ("vhdx", "vhdx", with_parent),
    "vhd that is larger than it says": ("vpc", "vhd", lying_geometry),
    "qcow2 with broken tables": ("qcow2", "qcow2", broken_tables),
}


@pytest.mark.parametrize("images_type", ["qcow2", "raw"])
@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_image_is_refused_and_leaves_nothing(tmp_path: Path, raw: Path, case: str, images_type: str) -> None:
    kind, name, spoil = HOSTILE[case]
    raw.write_bytes(os.urandom(4 * MIB))
    image = converted(raw, kind)
    made = storage(tmp_path / "state", images_type)
    assert made.make(guest(image, name)).disks, "the image as it was is no good"
    before = left(tmp_path / "state"), sorted(os.listdir(image.parent))
    spoil(image)
    with pytest.raises(ImageUnacceptable) as refused:
        made.make(guest(image, name))
    assert str(image) not in str(refused.value), "the host's paths are no business of the user's"
    assert (left(tmp_path / "state"), sorted(os.listdir(image.parent))) == before


def test_an_image_in_the_cache_is_examined_once(tmp_path: Path, raw: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cached = converted(raw, "qcow2", name="b" * 40)
    made = storage(tmp_path / "state")
    made.make(guest(cached, "qcow2"))
    monkeypatch.setattr("compute_host.virt.libvirt.second_opinion.run", lambda *_args, **_options: pytest.fail("again"))
    made.make(guest(cached, "qcow2"))
    with pytest.raises(ImageUnacceptable, match="exceeds"):
        made.make(guest(cached, "qcow2", root_bytes=MIB))


def test_a_guest_without_its_image_is_an_error_that_leaves_nothing(tmp_path: Path, raw: Path) -> None:
    spec = guest(raw, "raw")
    raw.unlink()
    with pytest.raises(DriverError):
        storage(tmp_path / "state").make(spec)
    assert left(tmp_path) == []
