"""The parts that the command lines of all four programs share: the form of help, examples, and completion by the
shell."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from cell_service import version

SHELLS = ("bash", "zsh", "fish")
_COMPLETION = "--print-completion"
_CODES = re.compile(r"(?:^|(?<=[.:]) )(0 .*)$")
_UNSET = (None, False, "", argparse.SUPPRESS)


class Formatter(argparse.RawDescriptionHelpFormatter):
    """Options with their defaults; texts with the lines that `describe` has given them."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        shown = action.option_strings and action.help and not any(action.default is each for each in _UNSET)
        if not shown or "default" in (action.help or "") or action.nargs == 0:
            return action.help
        return f"{action.help} (default: %(default)s)"


def describe(parser: argparse.ArgumentParser, text: str, examples: Sequence[str] = ()) -> None:
    """Give a command its help: what it does, its exit codes as a list (in `text` they are its end: "0 done; 1 no such
    cell."), and examples, which are complete lines without the program's name."""
    formatter = Formatter(prog=parser.prog)
    width = formatter._width
    about, codes = split(text)
    parser.formatter_class = Formatter
    parser.description = _filled(about, width)
    parts = []
    if codes:
        parts.append("exit codes:\n" + "\n".join(_filled(f"{code:>3}  {what}", width, "  ", 7) for code, what in codes))
    if examples:
        program = parser.prog.split()[0]
        parts.append("examples:\n" + "\n".join(f"  {program} {each}" for each in examples))
    parser.epilog = "\n\n".join(parts)


def split(text: str) -> tuple[str, list[tuple[str, str]]]:
    """Split a command's docstring into its description and the meanings of its exit codes."""
    words = " ".join(text.split())
    found = _CODES.search(words)
    if found is None:
        return words, []
    codes = [each.partition(" ") for each in re.split(r"[;,] (?=\d+ )", found[1].removesuffix("."))]
    return words[: found.start()].strip(), [(code, what) for code, _, what in codes]


def add_common(
    parser: argparse.ArgumentParser, complete: Callable[[], argparse.ArgumentParser] | None = None
) -> argparse.ArgumentParser:
    """The options that every program has. `complete` makes the parser with all commands, where this one has not."""
    parser.add_argument("--version", action="version", version=f"{parser.prog} {version.installed()}",
                        help="print the version")  # fmt: skip
    parser.add_argument(_COMPLETION, action=_PrintCompletion, choices=SHELLS, complete=complete or (lambda: parser),
                        help="print what this shell needs to complete the line")  # fmt: skip
    return parser


def leaves(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """The parsers of the commands, in the order of their declaration."""
    below = list(below_of(parser).values())
    for each in below:
        yield from leaves(each)
    if not below:
        yield parser


def below_of(parser: argparse.ArgumentParser) -> Mapping[str, argparse.ArgumentParser]:
    """The parsers of a parser's commands."""
    found: dict[str, argparse.ArgumentParser] = {}
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            found |= action.choices
    return found


class _PrintCompletion(argparse.Action):
    def __init__(self, *args: Any, complete: Callable[[], argparse.ArgumentParser], **options: Any) -> None:
        super().__init__(*args, **options)
        self._complete = complete

    def __call__(self, parser: argparse.ArgumentParser, *found: Any) -> None:
        import shtab

        whole = self._complete()
        _name_files(whole)
        sys.stdout.write(shtab.complete(whole, found[1]) + "\n")
        parser.exit()


def _name_files(parser: argparse.ArgumentParser) -> None:
    """Files and directories are completed where the name of a value says that it is one."""
    import shtab

    kinds = {"FILE": shtab.FILE, "PATH": shtab.FILE, "DIR": shtab.DIRECTORY}
    for action in parser._actions:
        if isinstance(action.metavar, str) and action.metavar in kinds:
            action.complete = kinds[action.metavar]  # type: ignore[attr-defined]
    for each in below_of(parser).values():
        _name_files(each)


def _filled(text: str, width: int, first: str = "", indent: int = 0) -> str:
    import textwrap

    return textwrap.fill(text, width, initial_indent=first, subsequent_indent=" " * indent, break_on_hyphens=False)
