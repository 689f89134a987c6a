"""A small valid disk image: an empty qcow2 of 64 MiB, for clouds that have no other."""

from __future__ import annotations

import struct

CLUSTER = 65536
VIRTUAL_BYTES = 64 << 20


def tiny_qcow2() -> bytes:
    """Header, refcount table, one refcount block and an empty L1 table: four clusters (qcow2 specification, v2)."""
    header = struct.pack(
        ">4sIQIIQIIQQIIQ",
        b"QFI\xfb",
        2,  # version
        0, 0,  # no backing file
        16,  # cluster bits
        VIRTUAL_BYTES,
        0,  # not encrypted
        1, 3 * CLUSTER,  # L1: entries, offset
        CLUSTER, 1,  # refcount table: offset, clusters
        0, 0,  # no snapshots
    )  # fmt: skip
    table = struct.pack(">Q", 2 * CLUSTER)
    block = struct.pack(">4H", 1, 1, 1, 1)
    return b"".join(part.ljust(CLUSTER, b"\0") for part in (header, table, block, b""))
