"""Scenarios of the openstack client as data: a line that a user types, and what holds afterwards."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.clients.stock import Refused, Shell
from tests.real.databases import wait_until

SECONDS = 40


@dataclass(slots=True)
class Stage:
    """A shell, what the last line printed, and the names that lines may use in braces."""

    shell: Shell
    names: dict[str, str] = field(default_factory=dict)
    printed: Any = None

    def run(self, line: str, version: str = "2.96") -> Any:
        return self.shell.run(*shlex.split(line.format(**self.names)), version=version)


Check = Callable[[Stage], bool]


@dataclass(frozen=True, slots=True)
class Step:
    """`refused`: the client says no, with this in its message. `keep`: name → column of what was printed, with ~ and
    an expression where only a part of it is wanted."""

    line: str
    holds: tuple[Check, ...] = ()
    version: str = "2.96"
    refused: str | None = None
    keep: Mapping[str, str] = field(default_factory=dict)


def step(line: str, *holds: Check, version: str = "2.96", refused: str | None = None, **keep: str) -> Step:
    return Step(line, holds, version, refused, keep)


def play(stage: Stage, steps: tuple[Step, ...]) -> None:
    """Every line in turn; what holds after one is waited for."""
    for each in steps:
        if each.refused is not None:
            with pytest.raises(Refused, match=re.escape(each.refused)):
                stage.run(each.line, each.version)
            continue
        stage.printed = stage.run(each.line, each.version)
        for name, column in each.keep.items():
            stage.names[name] = _kept(_first(stage.printed), column)
        for number, check in enumerate(each.holds):
            said = f"{each.line}: check {number} never held; it printed {str(stage.printed)[:2000]}"
            wait_until(lambda check=check: check(stage), said, SECONDS)  # type: ignore[misc]


def says(**columns: Any) -> Check:
    """What was printed has these, columns written with _ for each other sign."""
    return lambda stage: _has(stage, _first(stage.printed), columns)


def lists(**columns: Any) -> Check:
    """A row of what was printed has these."""
    return lambda stage: any(_has(stage, row, columns) for row in stage.printed)


def lacks(**columns: Any) -> Check:
    """No row of what was printed has these."""
    return lambda stage: not any(_has(stage, row, columns) for row in stage.printed)


def tells(text: str) -> Check:
    """The text is somewhere in what was printed."""
    return lambda stage: text.format(**stage.names) in str(stage.printed)


def shown(line: str, **columns: Any) -> Check:
    """Another line prints these."""
    return lambda stage: _has(stage, _first(_now(stage, line)), columns)


def listed(line: str, **columns: Any) -> Check:
    """Another line prints a row with these."""
    return lambda stage: any(_has(stage, row, columns) for row in _now(stage, line))


def unlisted(line: str, **columns: Any) -> Check:
    """Another line prints no row with these."""
    return lambda stage: not any(_has(stage, row, columns) for row in _now(stage, line))


def server(status: str | None = None, name: str = "{vm}", **columns: Any) -> Check:
    """The server is at rest in this state, with these columns."""
    columns |= {"OS_EXT_STS_task_state": None} | ({"status": status} if status else {})
    return shown(f"server show {name}", **columns)


def gone(line: str) -> Check:
    """Another line is refused, since there is no such thing any more."""

    def check(stage: Stage) -> bool:
        try:
            stage.run(line)
        except Refused:
            return True
        return False

    return check


def _now(stage: Stage, line: str) -> Any:
    version = "2.96"
    if line.startswith("@"):
        version, line = line[1:].split(" ", 1)
    return stage.run(line, version)


def _first(printed: Any) -> Mapping[str, Any]:
    found: Mapping[str, Any] = printed[0] if isinstance(printed, list) else printed
    return found


def _kept(printed: Mapping[str, Any], column: str) -> str:
    """A column's value, or the group of an expression behind ~ in it."""
    column, _, expression = column.partition("~")
    value = _alone(printed[column])
    if not expression:
        return value
    found = re.search(expression, value)
    assert found is not None, f"{column} is {value}"
    return found[1]


def _alone(value: Any) -> str:
    """The value itself, the only one of a list or of an object."""
    while isinstance(value, (list, dict)):
        (value,) = value.values() if isinstance(value, dict) else value
    return str(value)


def _plain(column: str) -> str:
    return "".join(sign if sign.isalnum() else "_" for sign in column)


def _has(stage: Stage, row: Mapping[str, Any], columns: Mapping[str, Any]) -> bool:
    """A want that is callable is asked about the value; a text has its names filled in; anything else equals it."""
    found = {_plain(name): value for name, value in row.items()}
    missing = [name for name in columns if name not in found]
    assert not missing, f"no column {missing} among {sorted(found)}"
    return all(_fits(stage, found[name], want) for name, want in columns.items())


def _fits(stage: Stage, value: Any, want: Any) -> bool:
    if callable(want):
        return bool(want(value))
    return bool(value == (want.format(**stage.names) if isinstance(want, str) else want))
