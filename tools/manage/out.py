"""The output of commands: sentences, tables or JSON on standard output; warnings and progress on standard error."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TextIO

from cell_service.errors import Invalid
from cell_service.logs import masked
from tools.manage.tables import Column, as_column, as_text, box, vertical

FORMATS = ("table", "json", "csv", "value", "yaml")
"""The formats of cliff, with which the openstack client is made."""
WIDTH = 80
"""The width of tables where standard output is no terminal."""


class NoSuchColumn(Invalid):
    message = "No column is called {columns}; there are: {known}."


@dataclass(frozen=True, slots=True)
class Shape:
    """The shape of printed results: `columns` of them (none: those that a table has), ordered by `sort_columns`.
    `long`: tables have all columns."""

    format: str = "table"
    columns: tuple[str, ...] = ()
    sort_columns: tuple[str, ...] = ()
    descending: bool = False
    long: bool = False
    vertical: bool = False


@dataclass(frozen=True, slots=True)
class Out:
    """Prints results and sentences. With any format but table, standard output has the result and nothing else;
    sentences go to standard error."""

    shape: Shape = Shape()
    stdout: TextIO = field(default_factory=lambda: sys.stdout)
    stderr: TextIO = field(default_factory=lambda: sys.stderr)
    stdin: TextIO | None = field(default_factory=lambda: sys.stdin)

    @property
    def for_programs(self) -> bool:
        """Whether a program reads the result, so that there must be one."""
        return self.shape.format != "table"

    @property
    def color(self) -> bool:
        """On terminals, unless NO_COLOR is set (https://no-color.org)."""
        return self.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"

    @property
    def width(self) -> int:
        return shutil.get_terminal_size((WIDTH, 24)).columns if self.stdout.isatty() else WIDTH

    def say(self, text: str) -> None:
        """A sentence about what was done, for people."""
        print(text, file=self.stderr if self.for_programs else self.stdout)

    def warn(self, text: str) -> None:
        """A line on standard error, without passwords."""
        print(masked(text), file=self.stderr)

    @property
    def can_ask(self) -> bool:
        """Whether a person can answer."""
        return self.stdin is not None and self.stdin.isatty()

    def ask(self, question: str) -> str:
        """The answer that a person types; "" where the input has ended."""
        print(masked(question), end="", file=self.stderr, flush=True)
        return self.stdin.readline().strip() if self.stdin is not None else ""

    def value(self, text: str, **fields: object) -> None:
        """The result of a command: a line, or the fields as an object. Raises NoSuchColumn."""
        if not (self.for_programs or self.shape.columns or self.shape.vertical):
            print(text, file=self.stdout)
            return
        columns = self._chosen([Column(name, name) for name in fields])
        shown = {column.name: fields[column.name] for column in columns}
        match self.shape.format:
            case "table":
                print(vertical(columns, [tuple(shown.values())], color=self.color), file=self.stdout)
            case "value":
                print("\n".join(as_text(each) for each in shown.values()), file=self.stdout)
            case "csv":
                self._csv(columns, [shown])
            case _:
                self._structured(shown)

    def table(self, columns: Sequence[Column | str], rows: Sequence[Sequence[Any]]) -> None:
        """The result of a command, a value for each column in every row; see `records`. Raises NoSuchColumn."""
        names = [as_column(column).name for column in columns]
        self.records(columns, [dict(zip(names, row, strict=True)) for row in rows])

    def records(self, columns: Sequence[Column | str], records: Sequence[Mapping[str, Any]]) -> None:
        """The result of a command: a box, or a list of objects. None is shown as nothing, in JSON as null. Tables
        leave out the columns that are long; what programs read has all. Raises NoSuchColumn."""
        known = [as_column(column) for column in columns]
        chosen = self._chosen(known)
        records = self._sorted(known, records)
        match self.shape.format:
            case "json" | "yaml":
                keys = {column.name for column in chosen}
                kept = [{k: v for k, v in record.items() if k in keys or not self.shape.columns} for record in records]
                self._structured(kept)
            case "csv":
                self._csv(chosen, records)
            case "value":
                for record in records:
                    print(" ".join(as_text(column.of(record)) for column in chosen), file=self.stdout)
            case _:
                self._print_table(chosen, [[column.of(record) for column in chosen] for record in records])

    def shows(self, column: Column) -> bool:
        """Whether a table has the column."""
        return not column.long or self.shape.long or self.shape.vertical

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

    def _chosen(self, columns: Sequence[Column]) -> list[Column]:
        wanted = self.shape.columns
        if not wanted:
            return [column for column in columns if self.for_programs or self.shows(column)]
        unknown = [text for text in wanted if not any(column.is_called(text) for column in columns)]
        if unknown:
            raise NoSuchColumn(columns=", ".join(unknown), known=", ".join(column.name for column in columns))
        return [column for column in columns if any(column.is_called(text) for text in wanted)]

    def _sorted(self, columns: Sequence[Column], records: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        """The rows by the sort columns, the first one above all; columns that are not there are passed over, as cliff
        does."""
        found = list(records)
        for text in reversed(self.shape.sort_columns):
            for column in columns:
                if column.is_called(text):
                    found.sort(key=lambda record, by=column: _order(by, record), reverse=self.shape.descending)  # type: ignore[misc]
                    break
        return found

    def _print_table(self, columns: Sequence[Column], rows: Sequence[Sequence[Any]]) -> None:
        if self.shape.vertical:
            text = vertical(columns, rows, color=self.color)
        else:
            whole = (self.shape.long or self.shape.columns) and not self.stdout.isatty()
            text = box(columns, rows, width=None if whole else self.width, color=self.color)
        if text:
            print(text, file=self.stdout)

    def _csv(self, columns: Sequence[Column], records: Sequence[Mapping[str, Any]]) -> None:
        writer = csv.writer(self.stdout, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
        writer.writerow([column.name for column in columns])
        for record in records:
            values = [column.of(record) for column in columns]
            writer.writerow([each if isinstance(each, int | float) else as_text(each) for each in values])

    def _structured(self, value: object) -> None:
        if self.shape.format == "yaml":
            import yaml

            plain = json.loads(json.dumps(value))
            text = yaml.safe_dump(plain, allow_unicode=True, sort_keys=False).rstrip("\n")
        else:
            text = json.dumps(value, ensure_ascii=False, indent=2)
        print(text, file=self.stdout)


def _order(column: Column, record: Mapping[str, Any]) -> tuple[bool, bool, Any]:
    """The key of a value in a sort order: numbers by their size, before texts; what is not known comes last."""
    value = record.get(column.name)
    if not isinstance(value, str | int | float | None):
        value = as_text(column.of(record))
    return value is None, isinstance(value, str), 0 if value is None else value
