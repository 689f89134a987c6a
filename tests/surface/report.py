"""Each published route at its lowest and highest version, asked for on a small cloud; `python -m` prints a table."""

from __future__ import annotations

import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema

from api_cell.compute.routes import ROUTES
from tests.edge import reference
from tests.surface.world import Row, World, rows


@dataclass(frozen=True)
class Outcome:
    """What came of a request. `wrong`: why it is not as published, "" when it is."""

    row: Row
    version: str
    status: int
    wrong: str = ""


def served(row: Row) -> bool:
    """Whether the table has it at all."""
    have = {(route.method, reference._plain(route.path), route.action) for route in ROUTES}
    return row.key in have


def tried(world: World, row: Row, version: str) -> Outcome:
    """Ask for it and hold the answer against what is published."""
    reply = world.ask(row, version)
    if row.key[0] == "DELETE" or row.key[2] in ("forceDelete", "os-migrateLive", "evacuate"):
        world.reset()
    if reply.status >= 500 and not (reply.status == 501 and 501 in row.allowed()):
        return Outcome(row, version, reply.status, f"answers {reply.status}: {reply.raw[:300]!r}")
    if reply.status not in row.allowed():
        return Outcome(row, version, reply.status, f"{reply.status} is not published: {reply.raw[:300]!r}")
    if reply.status < 300:
        body = reply.json if reply.raw else None
        wrong = misfit(row, version, body)
        expected = reference.expected_status(*row.key[:2], version, row.key[2])
        codes = {each["code"] for each in row.data["success"] if "when" in each}
        if reply.status != expected and reply.status not in codes:
            wrong = f"{reply.status}, not {expected}"
        return Outcome(row, version, reply.status, wrong)
    return Outcome(row, version, reply.status)


def misfit(row: Row, version: str, body: Any) -> str:
    """Why the body does not fit the published schema, "" when it does."""
    schema = row.schema("response_body", version)
    if schema is None:
        return ""
    errors = jsonschema.Draft202012Validator(schema, format_checker=reference.FORMATS).iter_errors(body)
    return next((f"{'/'.join(map(str, each.path))}: {each.message[:300]}" for each in errors), "")


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> None:
    """Print each row with what it answered."""
    with tempfile.TemporaryDirectory() as directory:
        world = World(Path(directory))
        try:
            say("| route | version | answer | by |\n| --- | --- | --- | --- |")
            for row in rows():
                for version in row.versions:
                    if not served(row):
                        say(f"| {row.name} | {version} | not served | |")
                        continue
                    found = tried(world, row, version)
                    say(f"| {row.name} | {version} | {found.status} | {found.wrong or 'as published'} |")
        finally:
            world.close()


if __name__ == "__main__":
    main()
