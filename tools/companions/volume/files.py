"""The bytes of volumes and snapshots: a raw, sparse file for each.

A file is written under another name and renamed when it is whole: a process that ends in the middle leaves what
`sweep` removes at the next start.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from tools.companions.volume.store import GIB

PIECE_BYTES = 2**26
_FILE, _DRAFT = "volume-", "draft-"
Check = Callable[[], None]
"""Called between pieces of a copy; what it raises ends the copy."""


class Files:
    """The files, by the ids of their records. `durable`: they are there after a power cut, too."""

    def __init__(self, directory: Path, *, durable: bool = False) -> None:
        self._directory, self._durable = directory.absolute(), durable
        self._directory.mkdir(parents=True, exist_ok=True)

    def path(self, record_id: str) -> Path:
        return self._directory / f"{_FILE}{record_id}"

    @contextlib.contextmanager
    def draft(self) -> Iterator[Path]:
        """A directory for what is not whole yet; it is removed afterwards."""
        with tempfile.TemporaryDirectory(dir=self._directory, prefix=_DRAFT) as name:
            yield Path(name)

    def place(self, record_id: str, draft: Path, size_gib: int) -> None:
        """The whole draft becomes the record's file, in the place of one that was there; with that size."""
        with draft.open("ab") as file:
            file.truncate(size_gib * GIB)
            if self._durable:
                os.fsync(file.fileno())
        draft.replace(self.path(record_id))
        if self._durable:
            self._sync()

    def grow(self, record_id: str, size_gib: int) -> None:
        with self.path(record_id).open("ab") as file:
            file.truncate(size_gib * GIB)

    def remove(self, record_id: str) -> None:
        self.path(record_id).unlink(missing_ok=True)

    def sweep(self, known: Collection[str]) -> list[str]:
        """Remove drafts, and the files of records that are not known. Returns their names."""
        names = {self.path(record_id).name for record_id in known}
        gone = [
            path
            for path in sorted(self._directory.iterdir())
            if path.name.startswith(_DRAFT) or (path.name.startswith(_FILE) and path.name not in names)
        ]
        for path in gone:
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
        return [path.name for path in gone]

    def _sync(self) -> None:
        directory = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


def copy(source: Path, target: Path, check: Check) -> None:
    """Copy the source's content to the target. What is empty there takes no space here, and nothing does where the
    file system shares the content of files."""
    with source.open("rb") as found, target.open("wb") as made:
        size = os.fstat(found.fileno()).st_size
        for begin, end in _filled(found.fileno(), size):
            while begin < end:
                check()
                moved = os.copy_file_range(found.fileno(), made.fileno(), min(end - begin, PIECE_BYTES), begin, begin)
                if not moved:
                    raise OSError(errno.EIO, "the source has become shorter", str(source))
                begin += moved
        made.truncate(size)


def _filled(file: int, size: int) -> Iterator[tuple[int, int]]:
    at = 0
    while at < size:
        try:
            begin = os.lseek(file, at, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return
            raise
        if begin >= size:
            return
        at = min(os.lseek(file, begin, os.SEEK_HOLE), size)
        yield begin, at
