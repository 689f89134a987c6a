"""Whether a program listens already, without connecting to it."""

from __future__ import annotations

from pathlib import Path

_ACCEPTS = "00010000"
_LISTENS = "0A"


def listens(at: Path | int) -> bool:
    """At a socket's path, or at a port of IPv4 (proc(5): /proc/net/unix and /proc/net/tcp)."""
    if isinstance(at, Path):
        words = [line.split() for line in Path("/proc/net/unix").read_text().splitlines()[1:]]
        return any(each[3] == _ACCEPTS and each[-1] == str(at) for each in words)
    words = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return any(each[3] == _LISTENS and each[1].endswith(f":{at:04X}") for each in words)
