"""The check of a VMDK's descriptor, which can name other files in several ways."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

SECTOR = 512
DESCRIPTOR_OFFSET = SECTOR
LONGEST_DESCRIPTOR = 2**20 - 1
READ_FOR_PARENTS = 20 * SECTOR
"""QEMU looks for a parent's name in so many bytes, however long the header says that the descriptor is."""
_HEADER = struct.Struct("<4sIIQQQQ")
_FOOTER_BYTES = 3 * SECTOR
_AT_END = 2**64 - 1
_NO_PARENT = "ffffffff"


def fault_of(path: Path, kinds: Sequence[str]) -> str | None:
    """Why the file is not a VMDK that is whole in itself, of one of these kinds (`createType`); None: it is. QEMU takes
    the first mention of a field, with its case, wherever it is in the descriptor: so each may be there once."""
    with path.open("rb") as file:
        header = file.read(SECTOR)
        if len(header) < SECTOR or not header.startswith(b"KDMV"):
            return "it is a VMDK descriptor, not a disk in one file"
        _magic, _version, _flags, sectors, _grain, offset, length = _HEADER.unpack_from(header)
        if not sectors or offset * SECTOR != DESCRIPTOR_OFFSET:
            return "its VMDK header does not describe a disk in one file"
        text = file.read(min(max(length * SECTOR, READ_FOR_PARENTS), LONGEST_DESCRIPTOR)).split(b"\0", 1)[0]
        footer = _footer(path, header)
    if footer is not None and footer[: _HEADER.size] != header[: _HEADER.size]:
        return "its VMDK footer differs from its header"
    return _fault_of_descriptor(text.decode("latin-1"), kinds)


def _footer(path: Path, header: bytes) -> bytes | None:
    """The header's copy at the end of a file that was written as a stream; None: it has none."""
    if int.from_bytes(header[56:64], "little") != _AT_END:
        return None
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _FOOTER_BYTES))
        return file.read(_FOOTER_BYTES)[SECTOR : 2 * SECTOR]


def _fault_of_descriptor(text: str, kinds: Sequence[str]) -> str | None:
    low = text.lower()
    if "parentfilenamehint" in low:
        return "it has a backing file"
    lines = [line.strip() for line in text.split("\n")]
    for field, allowed in (("createType", [f'"{kind}"' for kind in kinds]), ("parentCID", [_NO_PARENT])):
        found = [line.split("=", 1)[1].strip() for line in lines if line.startswith(f"{field}=")]
        if low.count(field.lower()) != 1 or found not in [[value] for value in allowed]:
            return "it has a backing file" if field == "parentCID" else f"its VMDK kind is none of {', '.join(kinds)}"
    extents = [line.split() for line in lines if line.split(" ")[0].lower() in ("rw", "rdonly", "noaccess")]
    if len(extents) != 1 or len(extents[0]) < 4 or extents[0][2] != "SPARSE":
        return "its VMDK descriptor names other files"
    return None
