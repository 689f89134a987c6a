"""Confirmation before something is destroyed: the operator types its name, or has given --yes."""

from __future__ import annotations

from tools.manage.command import Args, arg
from tools.manage.out import Out

YES = arg("--yes", flag=True, help="do not ask")
DRY_RUN = arg("--dry-run", flag=True, help="say what would happen, with counts, and change nothing")


class NotConfirmed(Exception):
    """The name was not typed, or there was no terminal to type it at."""


def confirm(args: Args, out: Out, what: str, name: str, *, as_nova: bool = False) -> None:
    """Go on only when the operator wants `what`, a sentence. `as_nova`: Nova has the command and asks nothing, so that
    without a terminal it goes on, for the scripts that run it. Raises NotConfirmed."""
    if args.yes:
        return
    if not out.can_ask:
        if as_nova:
            return
        raise NotConfirmed(f"{what} Nothing was done: give --yes where there is no terminal to ask at.")
    if out.ask(f"{what}\nType {name} to go on: ") != name:
        raise NotConfirmed("Nothing was done.")
