"""A snapshot's file: a ZIP with a member for each database and `manifest.json`, which is written last."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from cell_service.errors import Invalid

FORMAT = 1
MANIFEST = "manifest.json"
GLOBAL = "global"
_CHUNK = 1 << 20


class SnapshotBroken(Invalid):
    """The file is not a whole snapshot, or of a release that this one does not know."""

    message = "{file} cannot be restored: {reason}"


@dataclass(frozen=True, slots=True)
class Part:
    """One database. `uuid` is its cell's, "" for the global database. `schema`: its version. `member`: where its rows
    are in the file. `rows`: how many each table has."""

    name: str
    uuid: str
    schema: str
    dialect: str
    member: str
    bytes: int
    sha256: str
    rows: dict[str, int]

    @property
    def is_global(self) -> bool:
        return not self.uuid

    @property
    def total(self) -> int:
        return sum(self.rows.values())


@dataclass(frozen=True, slots=True)
class Missing:
    """A cell that the snapshot lacks, and why."""

    name: str
    uuid: str
    reason: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """`parts`: the global database first, then cells. `release`: the version of Polycell that has made it."""

    made_at: datetime
    release: str
    parts: tuple[Part, ...]
    missing: tuple[Missing, ...] = ()
    format: int = FORMAT

    @property
    def cells(self) -> tuple[Part, ...]:
        return tuple(part for part in self.parts if not part.is_global)

    def as_fields(self) -> dict[str, Any]:
        return {**asdict(self), "made_at": self.made_at.isoformat()}


@dataclass(frozen=True, slots=True)
class Written:
    """The size and the digest of one member as it was written."""

    bytes: int
    sha256: str


class Writer:
    """A new file. It is there when it is whole, and not before; only its owner may read it."""

    def __init__(self, path: Path) -> None:
        """Raises Invalid when it cannot be made there, or there is one already."""
        self.path = path
        self._part = path.with_name(f"{path.name}.part")
        if path.exists():
            raise Invalid(reason=f"{path} is there already")
        try:
            self._part.unlink(missing_ok=True)  # of a save that was killed
            number = os.open(self._part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except OSError as error:
            raise Invalid(reason=f"{path} cannot be written: {error.strerror}") from error
        self._file = os.fdopen(number, "wb")
        self._zip = zipfile.ZipFile(self._file, "w", zipfile.ZIP_DEFLATED)

    def add(self, member: str, lines: Iterable[str]) -> Written:
        """Write the lines as a member."""
        digest, size = hashlib.sha256(), 0
        with self._zip.open(member, "w", force_zip64=True) as file:
            for chunk in _chunks(lines):
                digest.update(chunk)
                size += len(chunk)
                file.write(chunk)
        return Written(size, digest.hexdigest())

    def finish(self, manifest: Manifest) -> None:
        """Write the manifest, and give the file its name."""
        self._zip.writestr(MANIFEST, json.dumps(manifest.as_fields(), indent=2))
        self._zip.close()
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        os.rename(self._part, self.path)

    def discard(self) -> None:
        """Remove what was written so far."""
        with contextlib.suppress(OSError, ValueError):
            self._zip.close()
        with contextlib.suppress(OSError):
            self._file.close()
        self._part.unlink(missing_ok=True)


class Reader:
    """A file that is there."""

    def __init__(self, path: Path) -> None:
        """Raises SnapshotBroken for a file that is no snapshot, cut off, or of a format that is not known."""
        self.path = path
        try:
            self._zip = zipfile.ZipFile(path)
            self.manifest = _manifest(json.loads(self._zip.read(MANIFEST)))
        except OSError as error:
            raise self._broken(error.strerror or str(error)) from error
        except (zipfile.BadZipFile, KeyError, ValueError, TypeError, EOFError) as error:
            raise self._broken("it is no snapshot, or not all of one") from error
        if self.manifest.format > FORMAT:
            raise self._broken(f"its format is {self.manifest.format}, and this release knows {FORMAT}")

    def verify(self) -> None:
        """Read all of it. Raises SnapshotBroken unless every database is as it was written."""
        for part in self.manifest.parts:
            digest, size = hashlib.sha256(), 0
            try:
                with self._zip.open(part.member) as file:
                    while chunk := file.read(_CHUNK):
                        digest.update(chunk)
                        size += len(chunk)
            except (OSError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
                raise self._broken(f"what it has of {part.name} is damaged") from error
            if (size, digest.hexdigest()) != (part.bytes, part.sha256):
                raise self._broken(f"what it has of {part.name} is damaged")

    @contextlib.contextmanager
    def lines(self, part: Part) -> Iterator[Iterable[str]]:
        """The lines of a database."""
        with self._zip.open(part.member) as file, io.TextIOWrapper(file, encoding="utf-8") as text:
            yield text

    def close(self) -> None:
        self._zip.close()

    def _broken(self, reason: str) -> SnapshotBroken:
        return SnapshotBroken(file=self.path, reason=reason)


def member_of(uuid: str) -> str:
    """The name in the file of a cell's database, or of the global one ("")."""
    return f"cells/{uuid}.jsonl" if uuid else f"{GLOBAL}.jsonl"


def _manifest(fields: dict[str, Any]) -> Manifest:
    return Manifest(
        made_at=datetime.fromisoformat(fields["made_at"]), release=fields["release"], format=fields["format"],
        parts=tuple(Part(**each) for each in fields["parts"]),
        missing=tuple(Missing(**each) for each in fields["missing"]),
    )  # fmt: skip


def _chunks(lines: Iterable[str]) -> Iterator[bytes]:
    """The lines in UTF-8, many at once."""
    gathered, size = [], 0
    for line in lines:
        encoded = line.encode()
        gathered.append(encoded)
        size += len(encoded)
        if size >= _CHUNK:
            yield b"".join(gathered)
            gathered, size = [], 0
    if gathered:
        yield b"".join(gathered)
