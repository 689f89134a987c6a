"""The file that `polycell debug` makes: an archive of parts, for its owner alone."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO

from cell_service.errors import Invalid


@dataclass(frozen=True, slots=True)
class Part:
    """A file of the bundle. `note` says why it is missing or not whole, or how its command has ended."""

    file: str
    text: str = ""
    note: str = ""


def write(target: Path, parts: Sequence[Part], now: datetime) -> None:
    """For its owner alone. Raises Invalid when there is such a file, or it cannot be made."""
    try:
        with os.fdopen(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as opened:
            try:
                _fill(opened, parts, now)
            except BaseException:
                target.unlink()
                raise
    except OSError as error:
        raise Invalid(reason=f"{target} cannot be made: {error.strerror}") from None


def _fill(opened: IO[bytes], parts: Sequence[Part], now: datetime) -> None:
    with tarfile.open(fileobj=opened, mode="w:gz") as bundle:
        for part in parts:
            content = part.text.encode()
            entry = tarfile.TarInfo(f"polycell-debug/{part.file}")
            entry.size, entry.mode, entry.mtime = len(content), 0o600, int(now.timestamp())
            bundle.addfile(entry, io.BytesIO(content))
