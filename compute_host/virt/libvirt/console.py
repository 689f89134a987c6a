"""The log of a guest's serial console."""

from __future__ import annotations

from pathlib import Path

KEPT_BYTES = 2**20


def tail(path: Path) -> str:
    """The end of the log, at most `KEPT_BYTES` of it; empty when nothing was printed."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - KEPT_BYTES))
            return file.read(KEPT_BYTES).decode("utf-8", errors="replace")
    except FileNotFoundError:
        return ""
