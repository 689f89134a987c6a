"""Commands declared once: name, arguments, help and exit codes, on argparse.

    @command("cell_v2 delete_cell", arg("--cell_uuid", required=True), arg("--force", flag=True))
    def delete_cell(cloud: Cloud, args: Args, out: Out) -> int:
        \"\"\"Delete a cell. 0 deleted; 1 no such cell; …\"\"\"

The docstring is the help, and its end are the exit codes; examples are in `examples.py`.
A long option may be spelled with `-` or `_`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from mapping_db.cloud import Cloud
from tools.command_line import add_common, describe
from tools.manage.examples import EXAMPLES
from tools.manage.out import FORMATS, Out, Shape
from tools.manage.settings import DEFAULT_FILES, FILES_VARIABLE, Settings


class Args(argparse.Namespace):
    """The typed values, by the options' names; `settings` is the content of the configuration files."""

    settings: Settings


Run = Callable[[Cloud, Args, Out], int]


@dataclass(frozen=True, slots=True)
class Arg:
    names: tuple[str, ...]
    options: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Command:
    """`name` is "category command". `local`: it also works, with None for a cloud, where no global database is set.
    `reads`: it changes nothing, and can be watched."""

    name: str
    arguments: tuple[Arg, ...]
    help: str
    run: Run = field(repr=False)
    local: bool = False
    reads: bool = False


@dataclass(frozen=True, slots=True)
class Globals:
    """Options that may come anywhere on the line."""

    config_files: tuple[str, ...]
    debug: bool
    shape: Shape


def positive(text: str) -> float:
    """A number of seconds above 0, for argparse."""
    seconds = float(text)
    if not 0 < seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return seconds


def arg(*names: str, flag: bool = False, **options: object) -> Arg:
    """One argument. `flag`: it takes no value. `options` are argparse's."""
    if flag:
        options["action"] = "store_true"
    return Arg(names, options)


def command(name: str, *arguments: Arg, local: bool = False, reads: bool = False) -> Callable[[Run], Command]:
    """Make the function a command; it runs only where a table of commands names it."""

    def made(run: Run) -> Command:
        with_all = (*arguments, *_WATCHING) if reads else arguments
        return Command(name, with_all, " ".join((run.__doc__ or "").split()), run, local, reads)

    return made


_WATCHING = (
    arg("--watch", type=positive, default=0.0, metavar="SECONDS", help="show it again so often, until Ctrl-C"),
    arg("--watch-count", type=int, default=0, metavar="N", help="with --watch: end after so many times"),
)


def parse(prog: str, commands: Sequence[Command], argv: Sequence[str]) -> tuple[Command, Args, Globals] | None:
    """The command that the line names. None when it names none: what there is was printed on standard error.

    Ends the process as argparse does, with exit code 2, where the line cannot be understood.
    """
    anywhere = _anywhere()
    found, rest = anywhere.parse_known_args(list(argv))
    parser, categories = _parser(prog, commands, anywhere, rest)
    args = parser.parse_args(_spelled(rest, commands), namespace=Args())
    chosen: Command | None = getattr(args, "command", None)
    if chosen is None:
        (categories.get(getattr(args, "category", None) or "") or parser).print_help(sys.stderr)
        return None
    shape = Shape(
        found.format, tuple(found.column), tuple(found.sort_column), found.sort_descending, found.long, found.vertical
    )
    return chosen, args, Globals(tuple(found.config_file or ()), found.debug, shape)


def whole(prog: str, commands: Sequence[Command]) -> argparse.ArgumentParser:
    """The parser with all commands and their arguments."""
    return _parser(prog, commands, _anywhere(), [word for each in commands for word in each.name.split()])[0]


def _anywhere() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    group = parser.add_argument_group("anywhere on the line")
    group.add_argument("--config-file", action="append", metavar="PATH",
                       help="may be given several times, later files win; else those of "
                       f"{FILES_VARIABLE}, else the first of "
                       + ", ".join(DEFAULT_FILES))  # fmt: skip
    group.add_argument("--debug", "-d", action="store_true", help="log what is done, and show tracebacks")
    group = parser.add_argument_group("output, anywhere on the line")
    group.add_argument("--format", "-f", choices=FORMATS, default="table", metavar="FORMAT",
                       help=f"how results are printed: {', '.join(FORMATS)}")  # fmt: skip
    group.add_argument("--column", "-c", action="append", default=[], metavar="COLUMN",
                       help="only this one; may be given several times")  # fmt: skip
    group.add_argument("--sort-column", action="append", default=[], metavar="COLUMN",
                       help="may be given several times, the first one decides")  # fmt: skip
    group.add_argument("--sort-ascending", action="store_false", dest="sort_descending", default=False,
                       help="the usual order")  # fmt: skip
    group.add_argument("--sort-descending", action="store_true", default=False, help="the other way round")
    group.add_argument("--long", action="store_true", help="tables with all columns, and with whole uuids")
    group.add_argument("--vertical", action="store_true", help="a line for each value, in place of a table")
    return parser


def _parser(
    prog: str, commands: Sequence[Command], anywhere: argparse.ArgumentParser, words: Sequence[str]
) -> tuple[argparse.ArgumentParser, dict[str, argparse.ArgumentParser]]:
    """Complete as far as the words of the line go: argparse takes long to make what is there for all commands."""
    parser = argparse.ArgumentParser(prog=prog, allow_abbrev=False, parents=[anywhere])
    describe(parser, f"For the operators of an installation. `{prog} CATEGORY COMMAND -h` explains a command.")
    add_common(parser, lambda: whole(prog, commands))
    top = parser.add_subparsers(dest="category", metavar="CATEGORY")
    categories: dict[str, argparse.ArgumentParser] = {}
    below: dict[str, Any] = {}
    for each in commands:
        category, _, name = each.name.partition(" ")
        if category not in categories:
            categories[category] = top.add_parser(category, allow_abbrev=False, help=f"{prog} {category} -h lists them")
            below[category] = categories[category].add_subparsers(metavar="COMMAND")
        if category not in words:
            continue
        leaf = below[category].add_parser(
            name, help=each.help.partition(". ")[0], allow_abbrev=False, parents=[anywhere]
        )
        if name in words:
            describe(leaf, each.help, EXAMPLES.get(each.name, ()))
        for argument in each.arguments if name in words else ():
            leaf.add_argument(*argument.names, **argument.options)
        leaf.set_defaults(command=each)
    return parser, categories


def _spelled(words: Sequence[str], commands: Sequence[Command]) -> list[str]:
    """The words with options spelled as they are declared."""
    declared = [name for each in commands if list(words[:2]) == each.name.split() for argument in each.arguments
                for name in argument.names if name.startswith("--")]  # fmt: skip
    spellings = {name.replace("_", "-"): name for name in declared}
    spelled = []
    for word in words:
        option, equals, value = word.partition("=")
        known = spellings.get(option.replace("_", "-"), option) if option.startswith("--") else option
        spelled.append(known + equals + value)
    return spelled
