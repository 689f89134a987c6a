"""Every published route, asked for by callers of every kind: who is refused is what the published rules say."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from api_cell.app import ApiServer, make_compute_app
from tests.edge.client import Client
from tests.surface.roles import ROLES, RoleAuth, verdicts
from tests.surface.world import Row, World, rows

pytestmark = pytest.mark.wide

RULED = [row for row in rows() if not row.data["removed"]]
OWN_THINGS = ("/os-keypairs",)
"""What is asked for there is the caller's own."""


@pytest.fixture(scope="module")
def callers(world: World) -> Iterator[dict[str, Client]]:
    server = ApiServer(make_compute_app(world.cloud.cloud, world.cloud.services, world.cloud.settings, RoleAuth()))
    server.start()
    made = {who: Client(server.port, token=who) for who in ROLES}
    yield made
    for client in made.values():
        client.close()
    server.drain(2)


@pytest.mark.parametrize("row", RULED, ids=lambda row: row.name)
def test_who_is_refused(world: World, callers: dict[str, Client], row: Row) -> None:
    version = row.versions[-1]
    wrong = []
    for who, client in callers.items():
        said = verdicts(row, who)
        reply = world.ask(row, version, by=client)
        assert reply.status < 500 or reply.status == 501, (who, reply.raw)
        if row.data["method"] == "DELETE" or row.key[2] in ("forceDelete", "os-migrateLive", "evacuate"):
            world.reset()
        refused = reply.status == 403 or (reply.status == 404 and who == "stranger")
        own = row.data["path"].startswith(OWN_THINGS) or (who == "stranger" and "{" not in row.data["path"])
        if said == {False} and not refused and not own:
            wrong.append(f"{who} is not refused: {reply.status} {reply.raw[:200]!r}")
        if said <= {True} and reply.status == 403:
            wrong.append(f"{who} is refused: {reply.raw[:200]!r}")
    assert not wrong


def test_nobody_comes_in_without_a_token(world: World) -> None:
    answers = {row.name: world.admin.request(row.data["method"], row.data["path"].replace("{", "").replace("}", ""),
                                             None, token=None).status for row in rows()}  # fmt: skip
    assert set(answers.values()) <= {401}
