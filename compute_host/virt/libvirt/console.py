"""The log of a guest's serial console, to which QEMU appends."""

from __future__ import annotations

from pathlib import Path

from compute_host.virt.libvirt.drive import run

KEPT_BYTES = 2**20
MOST_BYTES = 4 * 2**20
BLOCK_BYTES = 512


def tail(path: Path) -> str:
    """The end of the log, at most `KEPT_BYTES` of it; empty when nothing was printed."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - KEPT_BYTES))
            return file.read(KEPT_BYTES).decode("utf-8", errors="replace")
    except FileNotFoundError:
        return ""


def bound(path: Path) -> None:
    """Give the disk space of all but the end of the log back, once it is more than `MOST_BYTES`. The log keeps its
    length, with a hole at its beginning: so nothing is lost that the guest prints meanwhile. Raises DriverError."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return
    if found.st_blocks * BLOCK_BYTES > MOST_BYTES:
        length = str(found.st_size - KEPT_BYTES)
        run(["fallocate", "--punch-hole", "--offset", "0", "--length", length, path])
