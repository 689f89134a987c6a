"""Images that are not what they say."""

from __future__ import annotations

import shutil
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from cell_service.errors import ImageUnacceptable
from compute_host.virt.driver import Disk
from compute_host.virt.inspection import HEAD_BYTES, check
from tests.suites import hostile_images

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


def vmdk_saying(path: Path, edit: Callable[[str], str], *, sectors: int | None = None) -> Path:
    """A VMDK with a descriptor, and a size in its header, of our own."""
    create(path, "vmdk", size="1M")
    content = bytearray(path.read_bytes())
    length = int.from_bytes(content[36:44], "little") * 512
    text = edit(content[512 : 512 + length].split(b"\0")[0].decode()).encode()
    content[512 : 512 + length] = text.ljust(length, b"\0")
    if sectors is not None:
        content[12:20] = struct.pack("<Q", sectors)
    path.write_bytes(content)
    return path


KIND, EXTENT, NO_PARENT = 'createType="monolithicSparse"', 'RW 2048 SPARSE "hostile"', "parentCID=ffffffff"
FLAT = 'createType="monolithicFlat"'
OTHER = 'RW 2048 FLAT "secret" 0'
DESCRIPTORS: dict[str, tuple[Callable[[str], str], int | None]] = {
    "as it is": (lambda text: text, None),
    "another file, the kind in a comment before and behind": (
        lambda text: f"# {KIND.lower()}\n" + text.replace(KIND, f"{FLAT}\n# {KIND}").replace(EXTENT, OTHER), 0),
    "another file as a second extent": (lambda text: text.replace(EXTENT, f"{EXTENT}\n{OTHER}"), None),
    "another file as the only extent": (lambda text: text.replace(EXTENT, OTHER), None),
    "no extent": (lambda text: text.replace(EXTENT, ""), None),
    "a parent": (lambda text: text.replace(NO_PARENT, f'{NO_PARENT}\nparentFileNameHint="/etc/hostname"'), None),
    "a parent in a comment": (lambda text: text.replace(NO_PARENT, f'{NO_PARENT}\n#parentFileNameHint="a"'), None),
    "a parent's id": (lambda text: text.replace(NO_PARENT, "parentCID=00000001"), None),
    "no size, so that QEMU opens its extents": (lambda text: text, 0),
    "two kinds": (lambda text: text.replace(KIND, f"{KIND}\n{FLAT}"), None),
}  # fmt: skip


@made_by_qemu
@pytest.mark.parametrize("case", DESCRIPTORS)
def test_a_vmdk_names_no_other_file(tmp_path: Path, case: str) -> None:
    edit, sectors = DESCRIPTORS[case]
    image = vmdk_saying(tmp_path / "hostile", edit, sectors=sectors)
    if case == "as it is":
        assert look(image, "vmdk") == MIB
    else:
        assert refused(image, "vmdk")


def test_a_bare_descriptor_is_refused(tmp_path: Path) -> None:
    image = tmp_path / "image"
    image.write_text(f"# Disk DescriptorFile\nversion=1\n{NO_PARENT}\n{KIND}\n{OTHER}\n".ljust(2000))
    for claimed in ("vmdk", "raw"):
        assert refused(image, claimed)


def streamed(path: Path, sectors_in_footer: int | None = None) -> Path:
    """A VMDK as it is written when its end is not known at its beginning: the header is there again, behind it all."""
    content = bytearray(create(path, "vmdk", "-o", "subformat=streamOptimized", size="1M").read_bytes())
    footer = bytearray(content[:512])
    if sectors_in_footer is not None:
        footer[12:20] = struct.pack("<Q", sectors_in_footer)
    content[56:64] = b"\xff" * 8
    path.write_bytes(content + struct.pack("<QII", 1, 0, 3).ljust(512, b"\0") + footer + bytes(512))
    return path


@made_by_qemu
def test_a_vmdk_whose_footer_says_another_size_is_refused(tmp_path: Path) -> None:
    assert look(streamed(tmp_path / "good"), "vmdk") == MIB
    assert "footer" in refused(streamed(tmp_path / "bad", 2**31), "vmdk")


@made_by_qemu
def test_operators_choose_the_kinds_of_vmdk(tmp_path: Path) -> None:
    sparse = create(tmp_path / "sparse", "vmdk")
    assert check(Disk("root", 2**30, sparse, "vmdk"), "an-image", ["monolithicSparse"]) == 16 * MIB
    for kinds in (["streamOptimized"], []):
        with pytest.raises(ImageUnacceptable):
            check(Disk("root", 2**30, sparse, "vmdk"), "an-image", kinds)


def iso(path: Path, head: bytes = b"") -> Path:
    content = bytearray(64 * 1024)
    content[: len(head)] = head
    content[32768:32774] = b"\x01CD001"
    path.write_bytes(content)
    return path


def test_an_iso_is_started_only_as_one(tmp_path: Path) -> None:
    image = iso(tmp_path / "image")
    assert look(image, "iso") == 64 * 1024
    for claimed in ("raw", "ami"):
        assert "is iso" in refused(image, claimed)
    hybrid = iso(tmp_path / "hybrid", b"\0" * 446 + bytes([0x80, 0, 2, 0, 0x83]) + b"\0" * 59 + b"\x55\xaa")
    assert look(hybrid, "iso") == 64 * 1024
    assert "is iso" in refused(hybrid, "raw")
    (tmp_path / "plain").write_bytes(bytes(64 * 1024))
    assert look(tmp_path / "plain", "raw") == 64 * 1024
    assert "claims to be iso" in refused(tmp_path / "plain", "iso")
    partitioned = tmp_path / "partitioned"
    partitioned.write_bytes(hybrid.read_bytes().replace(b"CD001", bytes(5)))
    assert look(partitioned, "raw") == 64 * 1024
    assert "claims to be iso and is not" in refused(partitioned, "iso")


@made_by_qemu
def test_a_vhd_with_a_parent_is_refused(tmp_path: Path) -> None:
    image = create(tmp_path / "image", "vpc")
    content = bytearray(image.read_bytes())
    content[60:64] = struct.pack(">I", 4)
    image.write_bytes(content)
    assert "backing file" in refused(image, "vhd")


@made_by_qemu
def test_qed_is_refused(tmp_path: Path) -> None:
    image = create(tmp_path / "image", "qed")
    assert "cannot be started" in refused(image, "qed")
    assert "is qed" in refused(image, "raw")


@made_by_qemu
def test_a_disk_of_no_size_takes_the_image_as_large_as_it_is(tmp_path: Path) -> None:
    assert look(create(tmp_path / "image", "qcow2"), "qcow2", 0) == 16 * MIB


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


def test_hostile_images_of_the_suite_are_good_but_for_one_thing(tmp_path: Path) -> None:
    sparse = hostile_images.vmdk("monolithicSparse", 'RW 2048 SPARSE "x"')
    for claimed, content, size in (
        ("qcow2", hostile_images.qcow2(), 2**30),
        ("vmdk", sparse, MIB),
        ("iso", hostile_images.iso(), 64 * 1024),
    ):
        (tmp_path / claimed).write_bytes(content)
        assert look(tmp_path / claimed, claimed) == size
