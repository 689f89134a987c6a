"""schemathesis over every route and version of the document, as administrator and as member.

Never a 5xx, never a hang, nothing of another project in an answer, and nothing changed by what is refused. A fixed
number of requests from a fixed seed; POLYCELL_FUZZ=N asks for N times as many, POLYCELL_SEED for others.
"""

from __future__ import annotations

import os
import random
from typing import Any

import pytest

from api_cell.compute.routes import ROUTES
from api_cell.edge.versions import shown
from tests.edge.client import Client, Reply
from tests.edge.reference import _plain
from tests.surface import fuzz
from tests.surface.foreign import Foreign, foreign_things
from tests.surface.report import say
from tests.surface.world import World, rows

pytestmark = pytest.mark.wide

TIMES = int(os.environ.get("POLYCELL_FUZZ", "1"))
SEED = int(os.environ.get("POLYCELL_SEED", "1"))
HANG_SECONDS = 20
PARTS = 6
RECORDED = ("/servers/{server_id}/os-interface", "/servers/{server_id}/os-volume_attachments")
"""Whoever asks waits for the host; what fails there stands among the server's actions."""
PUBLISHED = {row.key: row for row in rows()}


@pytest.mark.timeout(600 * TIMES)
@pytest.mark.parametrize("part", range(PARTS))
def test_nothing_breaks_leaks_or_changes(
    own_world: World, member_world: World, part: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """The requests take longer to generate than to answer: both callers send the same."""
    member = member_world.cloud.user("ann", "anns-project")
    runners = (
        Runner("admin", own_world, own_world.admin, foreign_things(own_world)),
        Runner("member", member_world, member, foreign_things(member_world), closed=True),
    )
    for number, route in list(enumerate(ROUTES))[part::PARTS]:
        at = fuzz.versions(route)
        for version in at if TIMES > 1 else {at[0], at[-1]}:
            for case in fuzz.cases(route, version, count=2 * TIMES, number=SEED + number):
                for runner in runners:
                    runner.ask(case)
    for runner in runners:
        with capsys.disabled():
            say(f"\nfuzz {part + 1} of {PARTS} as {runner.who}, seed {SEED}: {runner.tally}")
    wrong = [f"as {runner.who}: {what}" for runner in runners for what in runner.tally.wrong.values()]
    assert not wrong, "\n".join(wrong)


class Runner:
    """Asks, and holds answers and tables against what may be."""

    def __init__(self, who: str, world: World, client: Client, foreign: Foreign, *, closed: bool = False) -> None:
        """`closed`: nothing of another project may be in an answer."""
        self.who, self.tally = who, fuzz.Tally()
        self._world, self._client, self._foreign, self._closed = world, client, foreign, closed
        self._chance = random.Random(SEED)
        self._tables = fuzz.Tables(world.cloud)
        self._paths: dict[str, str] = {}
        self._server = ""

    def ask(self, case: fuzz.Case) -> None:
        version, body, path = shown(case.version), case.body, self._path(case)
        if case.valid:
            things = self._world.known(version) | {"max_count": 2, "min_count": 1}
            body = fuzz.with_things(body, things, self._chance)
        before, begun = self._tables.now(), self._world.cloud.clock.monotonic()
        try:
            reply = self._client.request(case.route.method, path, body, version=version)
        except ConnectionError:  # too large: answered and closed before all of it was sent
            self._client.close()
            return
        except AssertionError as misfit:  # the client holds answers against what is published
            self.tally.wrong.setdefault(f"{case.name} misfit", f"{case.name}: {str(misfit)[:600]}")
            return
        self.tally.add(case.name, reply.status)
        row = PUBLISHED.get(_key(case))
        may = row.allowed() if row is not None else {501}
        if reply.status >= 500 and not (reply.status == 501 and 501 in may):
            self._blame(case, "broken", path, body, reply)
        if self._world.cloud.clock.monotonic() - begun > HANG_SECONDS:
            self._blame(case, "slow", path, body, reply)
        if self._closed and fuzz.MARK.encode() in reply.raw and fuzz.MARK not in path + str(body):
            self._blame(case, "another project's", path, body, reply)
        if reply.status < 400 and case.route.method != "GET":
            self._clear(case, reply)
        elif reply.status >= 400 and self._tables.now() != before:
            changed = self._changed(case, path, body) and self._changed(case, path, body)
            if changed and case.route.path not in RECORDED:
                self._blame(case, f"refused, yet changed {changed}", path, body, reply)

    def _changed(self, case: fuzz.Case, path: str, body: Any) -> list[str]:
        """The tables that change when it is asked for again while nothing else is under way."""
        before = self._tables.settled()
        self._client.request(case.route.method, path, body, version=shown(case.version))
        after = self._tables.now()
        return sorted(name for name in after if after[name] != before.get(name))

    def _clear(self, case: fuzz.Case, reply: Reply) -> None:
        """What the request has used up is made anew for the next, and what it made does not pile up."""
        self._paths.clear()
        if case.route.action or case.route.method == "DELETE":
            self._world.reset()
            if self._server:  # a resize that nobody confirms would be under way for ever
                self._world.admin.delete(f"/servers/{self._server}")
            self._server = ""
        if case.route.path in ("/servers", "/os-volumes_boot"):
            for each in self._client.get("/servers").json["servers"]:
                if each["id"] != self._server:
                    self._client.delete(f"/servers/{each['id']}")
            self._world.reset()

    def _blame(self, case: fuzz.Case, what: str, path: str, body: Any, reply: Any) -> None:
        self.tally.wrong.setdefault(f"{case.name} {what}", f"{what}: {fuzz.said(case, path, body, reply)}")

    def _path(self, case: fuzz.Case) -> str:
        """One of what is there, of what is another project's, or as generated."""
        how = self._chance.random()
        row = PUBLISHED.get(_key(case))
        if "{" not in case.route.path or row is None or how < 0.2:
            return fuzz.address(case, fuzz.generated_path(case))
        if self._closed and how < 0.6:
            return fuzz.address(case, self._foreign.path(case.route.path))
        spot = f"{case.name} {shown(case.version)}"
        if spot not in self._paths:
            self._paths[spot] = self._world.path(row, shown(case.version))
        made = self._paths[spot]
        if self._closed and made.startswith("/servers/"):
            self._server = self._server or self._world.cloud.boot(self._client)
            made = "/".join(["", "servers", self._server, *made.split("/")[3:]])
        return fuzz.address(case, made)


def _key(case: fuzz.Case) -> tuple[str, str, str | None]:
    return case.route.method, _plain(case.route.path), case.route.action
