"""Images that no driver may start a guest from, made without tools."""

from __future__ import annotations

import struct
from pathlib import Path

GIB = 2**30
_DESCRIPTOR = '# Disk DescriptorFile\nversion=1\nCID=12345678\nparentCID=ffffffff\ncreateType="{kind}"\n{extent}\n'


def qcow2(size: int = GIB, backing: bytes = b"", incompatible: int = 0, crypt: int = 0) -> bytes:
    place = 1024 if backing else 0
    head = struct.pack(
        ">4sIQIIQIIQQIIQQQQII", b"QFI\xfb", 3, place, len(backing), 16, size, crypt, 1, 3 * 65536, 65536, 1, 0, 0,
        incompatible, 0, 0, 4, 104,
    )  # fmt: skip
    return (head.ljust(1024, b"\0") + backing).ljust(4 * 65536, b"\0")


def vmdk(kind: str, extent: str, sectors: int = 2048) -> bytes:
    head = struct.pack("<4sIIQQQQIQQQ", b"KDMV", 1, 3, sectors, 128, 1, 20, 512, 21, 26, 128)
    return head.ljust(512, b"\0") + _DESCRIPTOR.format(kind=kind, extent=extent).encode().ljust(64 * 1024, b"\0")


def iso() -> bytes:
    content = bytearray(64 * 1024)
    content[32768:32774] = b"\x01CD001"
    return bytes(content)


HOSTILE: dict[str, tuple[str, bytes]] = {
    "qcow2 inside raw": ("raw", qcow2()),
    "iso inside raw": ("raw", iso()),
    "vmdk inside raw": ("raw", vmdk("monolithicSparse", 'RW 2048 SPARSE "x"')),
    "raw inside qcow2": ("qcow2", bytes(4096)),
    "qcow2 with a backing file": ("qcow2", qcow2(backing=b"/etc/hostname")),
    "qcow2 with a data file": ("qcow2", qcow2(incompatible=4)),
    "qcow2 of an unknown kind": ("qcow2", qcow2(incompatible=1 << 40)),
    "encrypted qcow2": ("qcow2", qcow2(crypt=2)),
    "huge qcow2": ("qcow2", qcow2(size=2**50)),
    "qcow2 that is cut off": ("qcow2", qcow2()[:65536]),
    "vmdk with another file": ("vmdk", vmdk("monolithicFlat", 'RW 2048 FLAT "/etc/hostname" 0')),
    "vmdk of no size with another file": ("vmdk", vmdk("monolithicSparse", 'RW 2048 FLAT "hostname" 0', 0)),
    "vmdk that is larger than the disk": ("vmdk", vmdk("monolithicSparse", 'RW 9999999 SPARSE "x"', 2**30)),
    "qed": ("qed", b"QED\0".ljust(4096, b"\0")),
}
"""The claimed format and the content of each."""


def made(directory: Path, case: str) -> tuple[Path, str]:
    """The file of the image, and the format that its record claims."""
    claimed, content = HOSTILE[case]
    path = directory / "hostile"
    path.write_bytes(content)
    return path, claimed
