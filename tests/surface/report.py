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

_NO_BAREMETAL = "there are no bare metal nodes"
REFUSED = {
    "GET /os-baremetal-nodes/{id}": _NO_BAREMETAL,
    "POST /os-baremetal-nodes": "not done here since 2.1: 400 always",
    "DELETE /os-baremetal-nodes/{id}": "not done here since 2.1: 400 always",
    "POST /os-baremetal-nodes/{id}/action add_interface": "not done here since 2.1: 400 always",
    "POST /os-baremetal-nodes/{id}/action remove_interface": "not done here since 2.1: 400 always",
    "POST /servers/{id}/action os-getRDPConsole": "no success is published: 400 always",
    "GET /os-console-auth-tokens/{id}": "up to 2.30 only tokens of RDP consoles are told, which are no more",
}
"""Rows of which only a published refusal can be shown at some version, and why."""
USING_UP = ("forceDelete", "os-migrateLive", "evacuate", "shelve", "rebuild", "restore")
"""Actions after which a server is no longer what the next request needs."""


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
    if (row.key[0] == "DELETE" and row.key[1].startswith("/servers")) or row.key[2] in USING_UP:
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
    gone = row.data["removed"] and reply.status == row.data["removed_status"]
    if row.name not in REFUSED and not gone:
        return Outcome(row, version, reply.status, f"refused with {reply.status}: {reply.raw[:300]!r}")
    return Outcome(row, version, reply.status)


def beyond(world: World, row: Row) -> list[str]:
    """Versions just outside those of the row at which it is not refused as not there."""
    everywhere = [other.data for other in rows() if other.key == row.key]
    wrong = []
    for version in _neighbours(row):
        at = reference.parsed(version)
        if any(reference.parsed(each["min_version"]) <= at <= reference.parsed(each["max_version"])
               for each in everywhere):  # fmt: skip
            continue
        body = {row.data["action"]: None} if row.data["action"] else {}
        sent = body if row.data["method"] in ("POST", "PUT") else None
        path = row.data["path"].replace("{", "").replace("}", "")
        status = world.admin.request(row.data["method"], path, sent, version=version).status
        if status != 404:
            wrong.append(f"{version}: {status}")
    return wrong


def _neighbours(row: Row) -> list[str]:
    low, high = (reference.parsed(row.data[name]) for name in ("min_version", "max_version"))
    around = [(2, low[1] - 1), (2, high[1] + 1)]
    return [f"2.{minor}" for _, minor in around if 1 <= minor <= 104]


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


TEST = "tests/surface/test_report.py::test_a_published_route_answers_as_published"


def main() -> None:
    """Print each row and the range of its versions with the test that asks for it and what it answered at each end."""
    with tempfile.TemporaryDirectory() as directory:
        world = World(Path(directory))
        try:
            say(f"Asked by {TEST}[row].\n\n| route | versions | answers | |\n| --- | --- | --- | --- |")
            shown = 0
            for row in rows():
                found = [tried(world, row, version) for version in row.versions]
                wrong = "; ".join(each.wrong for each in found if each.wrong) or REFUSED.get(row.name, "")
                shown += all(each.status < 300 for each in found)
                statuses = ", ".join(str(each.status) for each in found)
                say(f"| {row.name} | {row.data['min_version']}–{row.data['max_version']} | {statuses} | {wrong} |")
            gone = sum(row.data["removed"] for row in rows())
            say(f"\n{len(rows())} rows: {shown} answered with success at both ends, {gone} are gone, "
                f"{len(REFUSED)} can only be refused.")  # fmt: skip
        finally:
            world.close()


if __name__ == "__main__":
    main()
