"""Root disks of simulated guests as files: a small file describes the guest, so that a guest started from it is the
same."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from cell_service import wire
from cell_service.errors import DriverError
from compute_host.virt.simulated.state import Record

FORMAT = "raw"
_MARK = b"simulated guest\n"
_MOST_BYTES = 1 << 20


def write(guest: Record, target: Path) -> None:
    """Write the guest's root disk to the file. Raises DriverError."""
    try:
        target.write_bytes(_MARK + wire.dumps(guest).encode())
    except OSError as error:
        raise DriverError(reason=f"the disk cannot be copied: {error.strerror}") from error


def grown_from(guest: Record, image: Path | None) -> Record:
    """The guest with the content of that disk: its earlier console log, if `write` has made the file."""
    past = None if image is None else _read(image)
    return guest if past is None else replace(guest, boots=past.boots, notes=past.notes)


def _read(image: Path) -> Record | None:
    try:
        with image.open("rb") as file:
            if file.read(len(_MARK)) != _MARK:
                return None
            return wire.loads(Record, file.read(_MOST_BYTES).decode())
    except (OSError, ValueError, wire.Undecodable):
        return None
