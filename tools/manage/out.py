"""What commands print: sentences, tables or JSON on standard output; warnings and progress on standard error."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TextIO

from rich.cells import cell_len

from cell_service.logs import masked

FORMATS = ("table", "json")


@dataclass(frozen=True, slots=True)
class Out:
    """With format json, standard output has one JSON value and nothing else; sentences go to standard error."""

    format: str = "table"
    stdout: TextIO = field(default_factory=lambda: sys.stdout)
    stderr: TextIO = field(default_factory=lambda: sys.stderr)

    def say(self, text: str) -> None:
        """A sentence about what was done, for people."""
        print(text, file=self.stdout if self.format == "table" else self.stderr)

    def warn(self, text: str) -> None:
        """A line on standard error, without passwords."""
        print(masked(text), file=self.stderr)

    def value(self, text: str, **fields: object) -> None:
        """The result of a command: a line, or the fields as an object."""
        if self.format == "json":
            self._json(fields)
        else:
            print(text, file=self.stdout)

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """The result of a command: a box, or a list of objects. None is shown as nothing, in JSON as null."""
        if self.format == "json":
            self._json([dict(zip(columns, row, strict=True)) for row in rows])
            return
        print(box(columns, rows), file=self.stdout)

    @contextlib.contextmanager
    def progress(self, what: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
        """A bar on standard error while the block runs, if that is a terminal; call what it gives with each step
        done."""
        if not self.stderr.isatty():
            yield lambda steps: None
            return
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=Console(file=self.stderr), transient=True) as progress:
            task = progress.add_task(what, total=total)
            yield lambda steps: progress.update(task, advance=steps)

    def _json(self, value: object) -> None:
        print(json.dumps(value, ensure_ascii=False, indent=2), file=self.stdout)


def box(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """The rows in a box of text. Characters that would move the cursor are shown as escapes."""
    cells = [[_shown(value) for value in row] for row in (columns, *rows)]
    widths = [max(cell_len(row[place]) for row in cells) for place in range(len(columns))]
    rule = "+" + "+".join("-" * (width + 2) for width in widths) + "+"
    lines = []
    for row in cells:
        padded = (value + " " * (width - cell_len(value)) for value, width in zip(row, widths, strict=True))
        lines.append("| " + " | ".join(padded) + " |")
    return "\n".join([rule, lines[0], rule, *lines[1:], *([rule] if rows else [])])


def _shown(value: object) -> str:
    text = "" if value is None else str(value)
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)
