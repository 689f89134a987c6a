"""`polycell-status`: whether databases, cells, hosts and placement are as this software needs them."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from mapping_db.cloud import Cloud
from tools.manage import checks
from tools.manage.checks import Level, Result
from tools.manage.command import Args, command
from tools.manage.main import run
from tools.manage.out import Out, Shape
from tools.manage.tables import Column, box

_TITLE = "Upgrade Check Results"


@command("upgrade check")
def upgrade_check(cloud: Cloud, args: Args, out: Out) -> int:
    """Check databases, cells, hosts and placement. 0 all is well; 1 at least one warning; 2 at least one failure, stop
    the upgrade; 255 unexpected."""
    results = checks.every(cloud, args.settings)
    if out.shape == Shape():
        out.say(shown(results))
    else:
        rows = [(each.check, each.level.name.capitalize(), each.details) for each in results]
        out.table(("Check", Column("Result", state=True), "Details"), rows)
    return max((each.level for each in results), default=Level.SUCCESS)


def shown(results: Sequence[Result]) -> str:
    """The results in nova-status's form: one box, three lines a check."""
    texts = [
        (f"Check: {each.check}", f"Result: {each.level.name.capitalize()}", f"Details: {each.details}")
        for each in results
    ]
    lines = box((_TITLE,), [(line,) for three in texts for line in three]).splitlines()
    rule, head, body = lines[0], lines[:3], lines[3:-1]
    for end in range(0, len(body), 3):
        head += [*body[end : end + 3], rule]
    return "\n".join(head)


STATUS_COMMANDS = (upgrade_check,)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the checks. Their exit code."""
    return run("polycell-status", STATUS_COMMANDS, sys.argv[1:] if argv is None else argv)


if __name__ == "__main__":
    sys.exit(main())
