"""Images that are not what they say."""

from __future__ import annotations

import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from cell_service.errors import ImageUnacceptable
from compute_host.virt.driver import Disk
from compute_host.virt.inspection import HEAD_BYTES, check

MIB = 2**20
FORMATS = {"qcow2": "qcow2", "vmdk": "vmdk", "vdi": "vdi", "vhdx": "vhdx", "vhd": "vpc", "raw": "raw"}

made_by_qemu = pytest.mark.skipif(shutil.which("qemu-img") is None, reason="needs qemu-img")


def look(path: Path, image_format: str, size: int = 2**30) -> int:
    return check(Disk("root", size, path, image_format), "an-image")


def refused(path: Path, image_format: str, size: int = 2**30) -> str:
    with pytest.raises(ImageUnacceptable) as error:
        look(path, image_format, size)
    return str(error.value)


def create(path: Path, kind: str, *options: str, size: str = "16M") -> Path:
    subprocess.run(["qemu-img", "create", "-q", "-f", kind, *options, path, size], check=True)
    return path


@made_by_qemu
@pytest.mark.parametrize("image_format", FORMATS)
def test_what_qemu_makes_is_taken_for_what_it_is(tmp_path: Path, image_format: str) -> None:
    image = create(tmp_path / "image", FORMATS[image_format])
    assert look(image, image_format) == pytest.approx(16 * MIB, rel=0.01)


@made_by_qemu
@pytest.mark.parametrize("image_format", [name for name in FORMATS if name != "raw"])
@pytest.mark.parametrize("claimed", ["raw", "iso", "qcow2", "vmdk"])
def test_a_wrong_label_is_refused(tmp_path: Path, image_format: str, claimed: str) -> None:
    if claimed != image_format:
        assert "claims to be" in refused(create(tmp_path / "image", FORMATS[image_format]), claimed)


@made_by_qemu
def test_references_to_other_files_are_refused(tmp_path: Path) -> None:
    base = create(tmp_path / "base", "qcow2")
    backed = create(tmp_path / "backed", "qcow2", "-b", str(base), "-F", "qcow2")
    outside = create(tmp_path / "outside", "qcow2", "-o", f"data_file={tmp_path}/data,data_file_raw=on")
    assert "backing file" in refused(backed, "qcow2")
    assert "data file" in refused(outside, "qcow2")


@made_by_qemu
def test_only_vmdks_in_one_piece_are_taken(tmp_path: Path) -> None:
    streamed = create(tmp_path / "streamed", "vmdk", "-o", "subformat=streamOptimized")
    assert look(streamed, "vmdk") == 16 * MIB
    create(tmp_path / "flat.vmdk", "vmdk", "-o", "subformat=monolithicFlat")
    assert refused(tmp_path / "flat.vmdk", "vmdk")
    sparse = create(tmp_path / "sparse", "vmdk")
    sparse.write_bytes(sparse.read_bytes().replace(b"monolithicSparse", b"monolithicFlat\n\n"))
    assert refused(sparse, "vmdk")


@made_by_qemu
def test_what_was_cut_off_is_refused(tmp_path: Path) -> None:
    whole = create(tmp_path / "whole", "qcow2", size="64G").read_bytes()
    for length in (3, 40, 100, 600, 65536):
        (tmp_path / "cut").write_bytes(whole[:length])
        assert refused(tmp_path / "cut", "qcow2", 2**40)


@made_by_qemu
def test_sizes_beyond_the_disk_or_all_reason_are_refused(tmp_path: Path) -> None:
    image = create(tmp_path / "image", "qcow2", size="16M")
    assert look(image, "qcow2", 16 * MIB) == 16 * MIB
    assert "exceeds" in refused(image, "qcow2", 16 * MIB - 1)
    content = bytearray(image.read_bytes())
    content[24:32] = struct.pack(">Q", 2**62)
    image.write_bytes(content)
    assert "beyond all reason" in refused(image, "qcow2", 2**63)


@made_by_qemu
def test_an_encrypted_image_is_refused(tmp_path: Path) -> None:
    image = create(tmp_path / "image", "qcow2")
    content = bytearray(image.read_bytes())
    content[32:36] = struct.pack(">I", 2)
    image.write_bytes(content)
    assert "encrypted" in refused(image, "qcow2")


def test_a_format_that_nobody_can_start_is_refused(tmp_path: Path) -> None:
    (tmp_path / "image").write_bytes(b"x" * 1024)
    for name in ("docker", "ploop", "aki", "../etc/passwd"):
        assert "cannot be started" in refused(tmp_path / "image", name)


def test_a_large_raw_image_is_not_read_to_its_end(tmp_path: Path) -> None:
    image = tmp_path / "image"
    with image.open("wb") as file:
        file.truncate(2**40)
    assert look(image, "raw", 2**40) == 2**40
    assert HEAD_BYTES < 2**30


@pytest.mark.parametrize("content", [b"", b"\0", b"QFI\xfb", b"KDMV", b"conectix", b"\xff" * 5000])
def test_odd_contents_are_not_qcow2(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "image").write_bytes(content)
    assert refused(tmp_path / "image", "qcow2")
