"""The command reference and the manual pages of the four programs, made from their parsers.

`python -m tools.command_reference` writes docs/commands.md and docs/man/*.1.
"""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

from tools import policy
from tools.command_line import leaves
from tools.manage.command import whole
from tools.manage.main import COMMANDS
from tools.manage.status import STATUS_COMMANDS
from tools.up.arguments import parser_of_all
from tools.up.main import RUNS

PROGRAMS: dict[str, Callable[[], argparse.ArgumentParser]] = {
    "polycell": partial(parser_of_all, RUNS),
    "polycell-manage": partial(whole, "polycell-manage", COMMANDS),
    "polycell-policy": policy.parser_of_all,
    "polycell-status": partial(whole, "polycell-status", STATUS_COMMANDS),
}
_DIRECTORY = Path(__file__).parents[1] / "docs"
_WIDTH = "80"


def examples(command: argparse.ArgumentParser) -> list[str]:
    """The lines of a command's examples."""
    _, _, lines = (command.epilog or "").partition("examples:\n")
    return [line.strip() for line in lines.splitlines()]


def page() -> str:
    """docs/commands.md."""
    head = (
        "# Commands\n\nMade from the programs by `python -m tools.command_reference`; `COMMAND -h` prints the same.\n"
    )
    contents, body = [], []
    for name, make in PROGRAMS.items():
        program = make()
        contents.append(f"- [{name}](#{_anchor(name)})")
        body.append(f"## {name}\n\n```text\n{_help(program)}\n```\n")
        for each in leaves(program):
            contents.append(f"  - [{each.prog}](#{_anchor(each.prog)})")
            body.append(f"### {each.prog}\n\n```text\n{_help(each)}\n```\n")
    return "\n".join([head, "\n".join(contents) + "\n", *body])


def manual(name: str) -> str:
    """The manual page of a program, in the language of man(7)."""
    program = PROGRAMS[name]()
    parts = [
        f'.TH "{name.upper()}" "1" "" "Polycell" "User Commands"',
        f".SH NAME\n{_roff(name)} \\- {_roff(_first(program.description))}",
        f".SH SYNOPSIS\n.nf\n{_roff(_help(program))}\n.fi",
        ".SH COMMANDS",
    ]
    for each in leaves(program):
        parts.append(f'.SS "{each.prog}"\n.nf\n{_roff(_help(each))}\n.fi')
    return "\n".join(parts) + "\n"


def _first(text: str | None) -> str:
    return (text or "").partition(". ")[0].removesuffix(".").replace("\n", " ")


def _help(parser: argparse.ArgumentParser) -> str:
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = _WIDTH
    try:
        return parser.format_help().rstrip()
    finally:
        os.environ.pop("COLUMNS") if before is None else os.environ.update(COLUMNS=before)


def _roff(text: str) -> str:
    return re.sub(r"(?m)^(?=[.'])", r"\\&", text.replace("\\", "\\e").replace("-", "\\-"))


def _anchor(title: str) -> str:
    return title.replace(" ", "-")


if __name__ == "__main__":
    os.environ["COLUMNS"] = _WIDTH
    (_DIRECTORY / "man").mkdir(exist_ok=True)
    (_DIRECTORY / "commands.md").write_text(page(), encoding="utf-8")
    for each in PROGRAMS:
        (_DIRECTORY / "man" / f"{each}.1").write_text(manual(each), encoding="utf-8")
