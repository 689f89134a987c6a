"""The check of an image before a guest starts from it: is it of the claimed format, is it safe, does it fit?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from oslo_utils.imageutils import format_inspector

from cell_service.errors import ImageUnacceptable
from compute_host.virt import vmdk
from compute_host.virt.driver import Disk

PLAIN = frozenset({"raw", "iso", "ami"})
"""Claimed formats whose content is the disk itself."""
CLAIMS: dict[str, frozenset[str]] = {
    "raw": frozenset({"raw", "gpt"}),
    "iso": frozenset({"iso", "gpt"}),
    "ami": frozenset({"raw", "gpt"}),
    "qcow2": frozenset({"qcow2"}),
    "vdi": frozenset({"vdi"}),
    "vhd": frozenset({"vhd"}),
    "vhdx": frozenset({"vhdx"}),
    "vmdk": frozenset({"vmdk"}),
}
"""The formats that a file's content may have, by claimed format."""
VMDK_KINDS = ("monolithicSparse", "streamOptimized")
LARGEST_BYTES = 2**46
HEAD_BYTES = 2**23
_CHUNK = 2**16
_QCOW2_CRYPT_OFFSET = 32
_VDI_FIELDS = (0x158, 0x178, 0x184)
"""The offsets of the data's offset, the size of a block and the number of blocks."""
_VHD_KIND_OFFSET, _VHD_DYNAMIC = 60, 3


def check(disk: Disk, image_id: str, vmdk_kinds: Sequence[str] = VMDK_KINDS) -> int:
    """The image's virtual size in bytes.

    Raises ImageUnacceptable when its content is of another format than was claimed, is cut off or refers to other
    files, or when it is larger than the disk (a disk of 0 bytes becomes as large as the image).
    """
    assert disk.image is not None
    claimed = disk.image_format or "raw"
    if claimed not in CLAIMS:
        raise ImageUnacceptable(image_id=image_id, reason=f"its format {claimed} cannot be started")
    try:
        size = _virtual_size(disk.image, claimed, vmdk_kinds)
    except _Refused as refused:
        raise ImageUnacceptable(image_id=image_id, reason=str(refused)) from None
    except OSError as error:
        raise ImageUnacceptable(image_id=image_id, reason=f"its file cannot be read: {error.strerror}") from error
    if size > LARGEST_BYTES:
        raise ImageUnacceptable(image_id=image_id, reason=f"its virtual size of {size} bytes is beyond all reason")
    if disk.size_bytes and size > disk.size_bytes:
        reason = f"its virtual size of {size} bytes exceeds the disk of {disk.size_gib} GiB"
        raise ImageUnacceptable(image_id=image_id, reason=reason)
    return size


class _Refused(Exception):
    """Why an image is refused."""


def _virtual_size(path: Path, claimed: str, vmdk_kinds: Sequence[str]) -> int:
    length = path.stat().st_size
    allowed = CLAIMS[claimed]
    found = _formats(path, whole=claimed == "vmdk")
    for inspector in found:
        if inspector.NAME not in allowed:
            raise _Refused(f"it claims to be {claimed} and is {inspector.NAME}")
    if claimed in PLAIN:
        if claimed == "iso" and not any(inspector.NAME == "iso" for inspector in found):
            raise _Refused("it claims to be iso and is not")
        return length
    if not found:
        raise _Refused(f"it claims to be {claimed} and is not")
    inspector = found[0]
    try:
        inspector.safety_check()
    except format_inspector.SafetyCheckFailed as failed:
        raise _Refused("; ".join(_reason(name, why) for name, why in failed.failures.items())) from None
    except format_inspector.ImageFormatError as error:
        raise _Refused(f"its {claimed} header is cut off or broken ({error})") from None
    if claimed == "qcow2":
        _check_qcow2(path, length)
    if claimed == "vdi":
        _check_vdi(path, length)
    if claimed == "vhd":
        _check_vhd(path)
    if claimed == "vmdk" and (fault := vmdk.fault_of(path, vmdk_kinds)):
        raise _Refused(fault)
    size = int(inspector.virtual_size)
    if not size:
        raise _Refused(f"its {claimed} header is cut off or broken")
    return size


def _formats(path: Path, *, whole: bool) -> list[format_inspector.FileInspector]:
    """The formats of the file's content; none or only `raw` when it is of no known one.

    All but VMDK's footer are at a file's head; `whole` reads on to its end.
    """
    with path.open("rb") as file:
        wrapper = format_inspector.InspectWrapper(file)
        try:
            seen = 0
            while not wrapper.formats and (whole or seen < HEAD_BYTES) and (chunk := wrapper.read(_CHUNK)):
                seen += len(chunk)
        except format_inspector.ImageFormatError as error:
            raise _Refused(f"it cannot be understood ({error})") from None
        finally:
            wrapper.close()
        try:
            return list(wrapper.formats or ())
        except format_inspector.ImageFormatError as error:
            raise _Refused(f"it is of several formats at once ({error})") from None


def _reason(check: str, why: Exception) -> str:
    known = {"backing_file": "it has a backing file", "data_file": "it has an external data file"}
    return known.get(check, f"its {check} is not safe: {why}")


def _check_qcow2(path: Path, length: int) -> None:
    with path.open("rb") as file:
        head = file.read(104)
    if len(head) < 72:
        raise _Refused("its qcow2 header is cut off")
    if int.from_bytes(head[_QCOW2_CRYPT_OFFSET : _QCOW2_CRYPT_OFFSET + 4], "big"):
        raise _Refused("it is encrypted")
    entries, table = int.from_bytes(head[36:40], "big"), int.from_bytes(head[40:48], "big")
    if table + entries * 8 > length:
        raise _Refused("it is shorter than its own tables say: it was cut off")


def _check_vdi(path: Path, length: int) -> None:
    with path.open("rb") as file:
        head = file.read(512)
    data, block, allocated = (int.from_bytes(head[at : at + 4], "little") for at in _VDI_FIELDS)
    if data + block * allocated > length:
        raise _Refused("it is shorter than its own header says: it was cut off")


def _check_vhd(path: Path) -> None:
    with path.open("rb") as file:
        kind = int.from_bytes(file.read(512)[_VHD_KIND_OFFSET : _VHD_KIND_OFFSET + 4], "big")
    if kind != _VHD_DYNAMIC:
        raise _Refused("it is a VHD with a backing file" if kind > _VHD_DYNAMIC else "it is a VHD of an unknown kind")
