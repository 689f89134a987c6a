"""Tables of text: in a box of Nova's form, row by row, and as many columns wide as there is space for."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.cells import cell_len, chop_cells

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_SHORT_UUID = 8
_LEAST_WIDTH = 8
_GREEN, _YELLOW, _RED = "\033[32m", "\033[33m", "\033[31m"
_PLAIN = "\033[0m"
_COLORS = {
    "up": _GREEN, "enabled": _GREEN, "fine": _GREEN, "success": _GREEN,
    "disabled": _YELLOW, "drained": _YELLOW, "warning": _YELLOW, "partly": _YELLOW,
    "down": _RED, "unreachable": _RED, "error": _RED, "failure": _RED,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Column:
    """`key` is its name in JSON and after -c; "": the title in snake_case. `long`: tables have it only on
    demand. `state`: its first word gets a colour. `shown` makes of a whole record what a table shows."""

    title: str
    key: str = ""
    long: bool = False
    state: bool = False
    shown: Callable[[Mapping[str, Any]], object] | None = None

    @property
    def name(self) -> str:
        return self.key or snake_case(self.title)

    def is_called(self, text: str) -> bool:
        """Whether the column has that title or name; as cliff compares them, capitals and blanks do not matter."""
        return snake_case(text) in (self.name, snake_case(self.title))

    def of(self, record: Mapping[str, Any]) -> object:
        return self.shown(record) if self.shown is not None else record[self.name]


def snake_case(text: str) -> str:
    return text.strip().lower().replace(" ", "_")


def as_column(column: Column | str) -> Column:
    return column if isinstance(column, Column) else Column(column)


def box(
    columns: Sequence[Column | str], rows: Sequence[Sequence[Any]], *, width: int | None = None, color: bool = False
) -> str:
    """The rows in a box. Characters that would move the cursor are shown as escapes. With a `width`, uuids are
    shortened where the box would be wider, and then the widest columns are folded."""
    heads = [as_column(column) for column in columns]
    cells = [[column.title for column in heads], *([as_text(value) for value in row] for row in rows)]
    widths = _widths(cells)
    if width is not None and _total(widths) > width:
        cells = [[_UUID.sub(lambda found: found[0][:_SHORT_UUID], value) for value in row] for row in cells]
        widths = _narrowed(cells, width)
    rule = "+" + "+".join("-" * (each + 2) for each in widths) + "+"
    lines: list[str] = []
    for number, row in enumerate(cells):
        folded = [_folded(value, each) for value, each in zip(row, widths, strict=True)]
        for height in range(max((len(parts) for parts in folded), default=1)):
            padded = []
            for column, parts, each in zip(heads, folded, widths, strict=True):
                part = parts[height] if height < len(parts) else ""
                filled = part + " " * (each - cell_len(part))
                padded.append(colored(filled, by=parts[0]) if color and number and column.state else filled)
            lines.append("| " + " | ".join(padded) + " |")
        if number == 0:
            lines = [rule, *lines, rule]
    return "\n".join([*lines, *([rule] if rows else [])])


def vertical(columns: Sequence[Column | str], rows: Sequence[Sequence[Any]], *, color: bool = False) -> str:
    """A line for each value, an empty line between rows."""
    heads = [as_column(column) for column in columns]
    widest = max((cell_len(column.title) for column in heads), default=0)
    blocks = []
    for row in rows:
        lines = []
        for column, value in zip(heads, row, strict=True):
            text = as_text(value)
            title = column.title + ":" + " " * (widest - cell_len(column.title))
            lines.append(f"{title} {colored(text) if color and column.state else text}".rstrip())
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def colored(text: str, by: str = "") -> str:
    """The text in the colour of the state that it, or `by`, begins with."""
    found = re.match(r"\w+", by or text)
    color = _COLORS.get(found[0].lower()) if found else None
    return f"{color}{text}{_PLAIN}" if color else text


def as_text(value: object) -> str:
    """The value as tables show it: nothing for None."""
    if isinstance(value, dict | list | tuple):
        value = json.dumps(value, ensure_ascii=False)
    text = "" if value is None else str(value)
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


def _widths(cells: Sequence[Sequence[str]]) -> list[int]:
    return [max(cell_len(row[place]) for row in cells) for place in range(len(cells[0]))]


def _total(widths: Sequence[int]) -> int:
    return sum(widths) + 3 * len(widths) + 1


def _narrowed(cells: Sequence[Sequence[str]], width: int) -> list[int]:
    """The widths in which the table fits: the widest columns give way, first those that can be folded at blanks, in the
    end all."""
    widths = _widths(cells)
    words = _widths([[max(value.split(" "), key=cell_len) for value in row] for row in cells])
    for least in (words, [_LEAST_WIDTH] * len(widths)):
        while _total(widths) > width:
            spare = [each - low for each, low in zip(widths, least, strict=True)]
            able = [place for place, left in enumerate(spare) if left > 0]
            if not able:
                break
            widths[max(able, key=lambda place: widths[place])] -= 1
    return widths


def _folded(text: str, width: int) -> list[str]:
    """The lines of a folded text: it is folded at blanks where there are some, else anywhere."""
    lines: list[str] = []
    line = ""
    for word in text.split(" "):
        longer = f"{line} {word}" if line else word
        if cell_len(longer) <= width:
            line = longer
            continue
        if line:
            lines.append(line)
        *whole, line = chop_cells(word, width) or [""]
        lines += whole
    return [*lines, line]
