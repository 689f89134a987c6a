"""The findings of a check, and how to mend each."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any


class Level(IntEnum):
    """Also the exit code of a check: the worst that was found."""

    FINE = 0
    WARNING = 1
    ERROR = 2


@dataclass(frozen=True, slots=True)
class Finding:
    """`remedy`: what `mend` does, in words that follow "would"; both None where a person has to decide."""

    level: Level
    check: str
    cell: str | None
    text: str
    remedy: str | None = None
    mend: Callable[[], None] | None = field(default=None, repr=False, compare=False)

    def as_fields(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "level": self.level.name.lower(), "check": self.check, "cell": self.cell, "text": self.text,
            "remedy": self.remedy,
        }  # fmt: skip


def worst(findings: Iterable[Finding]) -> Level:
    return max((finding.level for finding in findings), default=Level.FINE)
