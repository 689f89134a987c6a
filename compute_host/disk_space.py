"""A host that has no space left."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path

from cell_service.errors import DriverError, HostOutOfSpace

MARGIN_BYTES = 4 * 2**20


def demand_space(directory: Path, wanted_bytes: int) -> None:
    """Raises HostOutOfSpace unless the file system of the directory has so much free, and a little more."""
    wanted = wanted_bytes + MARGIN_BYTES
    free = shutil.disk_usage(directory).free
    if wanted > free:
        reason = f"The host's disk has {free >> 20} MiB free; {wanted >> 20} MiB are needed."
        raise HostOutOfSpace(reason=reason)


def from_os(what: str, error: OSError) -> DriverError:
    """The DriverError for an OSError."""
    words = f"{what}: {error.strerror or error}"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return HostOutOfSpace(reason=words)
    return DriverError(reason=words)
