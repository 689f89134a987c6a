"""Looking into an image before a guest starts from it: is it what it claims to be, and does it fit?"""

from __future__ import annotations

import struct
from pathlib import Path

from cell_service.errors import ImageUnacceptable
from compute_host.virt.driver import Disk

QCOW2 = b"QFI\xfb"
SIGNATURES = {QCOW2: "qcow2", b"KDMV": "vmdk", b"conectix": "vhd", b"vhdxfile": "vhdx", b"QED\0": "qed"}
_BACKING_OFFSET, _SIZE_OFFSET, _HEADER_BYTES = 8, 24, 104
_INCOMPATIBLE_OFFSET, _EXTERNAL_DATA = 72, 1 << 2
GIB = 2**30


def check(disk: Disk, image_id: str) -> int:
    """The image's virtual size in bytes.

    Raises ImageUnacceptable when its content is of another format than was claimed, when it refers to other files,
    or when it is larger than the disk.
    """
    assert disk.image is not None
    head, size = _head(disk.image, image_id)
    found = next((name for signature, name in SIGNATURES.items() if head.startswith(signature)), "raw")
    claimed = disk.image_format or "raw"
    if claimed in ("raw", "iso", "ami") and found != "raw":
        raise ImageUnacceptable(image_id=image_id, reason=f"it claims to be {claimed} and is {found}")
    if claimed == "qcow2":
        if found != "qcow2":
            raise ImageUnacceptable(image_id=image_id, reason="it claims to be qcow2 and is not")
        size = _qcow2_size(head, image_id)
    if size > disk.size_bytes:
        reason = f"its virtual size of {size} bytes exceeds the disk of {disk.size_gib} GiB"
        raise ImageUnacceptable(image_id=image_id, reason=reason)
    return size


def _head(path: Path, image_id: str) -> tuple[bytes, int]:
    try:
        with path.open("rb") as file:
            return file.read(_HEADER_BYTES), path.stat().st_size
    except OSError as error:
        raise ImageUnacceptable(image_id=image_id, reason=f"its file cannot be read: {error.strerror}") from error


def _qcow2_size(head: bytes, image_id: str) -> int:
    if len(head) < 72:
        raise ImageUnacceptable(image_id=image_id, reason="its qcow2 header is cut off")
    version = struct.unpack_from(">I", head, 4)[0]
    if version not in (2, 3):
        raise ImageUnacceptable(image_id=image_id, reason=f"its qcow2 version is {version}")
    if struct.unpack_from(">Q", head, _BACKING_OFFSET)[0]:
        raise ImageUnacceptable(image_id=image_id, reason="it has a backing file")
    if version == 3 and len(head) >= 80 and struct.unpack_from(">Q", head, _INCOMPATIBLE_OFFSET)[0] & _EXTERNAL_DATA:
        raise ImageUnacceptable(image_id=image_id, reason="it has an external data file")
    return int(struct.unpack_from(">Q", head, _SIZE_OFFSET)[0])
