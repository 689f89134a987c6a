"""The files with an operator's policy rules: `policy_file`, and over it those of each of `policy_dirs`, by name, as
oslo.policy reads them. Hidden files and what is in directories below do not count."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

from api_cell.edge.policy_rules import read_overrides


@dataclass(frozen=True, slots=True)
class PolicyFiles:
    """Files and directories that are not there (yet) count as empty."""

    file: Path | None = None
    directories: tuple[Path, ...] = ()

    @classmethod
    def of(cls, file: str | None, directories: Iterable[str]) -> PolicyFiles:
        return cls(Path(file) if file else None, tuple(map(Path, directories)))

    @property
    def shown(self) -> str:
        """The paths, for logs and errors."""
        return ",".join(map(str, (*([self.file] if self.file else ()), *self.directories)))

    def fingerprint(self) -> tuple[tuple[str, int, int], ...]:
        """Another value whenever a file has come, changed or gone."""
        return tuple(_fingerprints(self._paths()))

    def read(self) -> dict[str, str]:
        """Rule → check; of a rule in several files the last. Raises ValueError (naming the file), OSError."""
        found: dict[str, str] = {}
        for path in self._paths():
            try:
                found |= read_overrides(path)
            except (ValueError, yaml.YAMLError) as error:
                raise ValueError(f"{path}: {' '.join(str(error).split())}") from error
        return found

    def _paths(self) -> Iterator[Path]:
        if self.file is not None and self.file.exists():
            yield self.file
        for directory in self.directories:
            if directory.exists():
                names = sorted(each.name for each in os.scandir(directory) if each.is_file())
                yield from (directory / name for name in names if not name.startswith("."))


def _fingerprints(paths: Iterable[Path]) -> Iterator[tuple[str, int, int]]:
    for path in paths:
        try:
            stat = path.stat()
        except OSError:
            continue  # it has gone just now
        yield str(path), stat.st_mtime_ns, stat.st_size
