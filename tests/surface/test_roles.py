"""Every published route, asked for by callers of every kind: who is refused is what the published rules say."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.edge.client import Client
from tests.surface.roles import answers, callers, decisions
from tests.surface.world import Row, World, rows

pytestmark = pytest.mark.wide

RULED = [row for row in rows() if not row.data["removed"]]
OWN_THINGS = ("/os-keypairs", "/os-networks/{id}", "/os-tenant-networks/{id}")
"""What is asked for there is the caller's own, or shared with all."""

OF_PEERS = ("/images",)
"""Whose they are is the business of another service, which refuses others."""


@pytest.fixture(scope="module")
def clients(world: World) -> Iterator[dict[str, Client]]:
    with callers(world) as made:
        yield made


@pytest.mark.parametrize("row", RULED, ids=lambda row: row.name)
def test_who_is_refused(world: World, clients: dict[str, Client], row: Row) -> None:
    wrong = []
    for who, status in answers(world, clients, row).items():
        said = decisions(row, who)
        assert status < 500 or status == 501, (who, status)
        refused = status == 403 or (status == 404 and (who == "stranger" or "-" in who))
        own = row.data["path"].startswith(OWN_THINGS) or (who == "stranger" and "{" not in row.data["path"])
        if said == {False} and not refused and not own:
            wrong.append(f"{who} is not refused: {status}")
        if said <= {True} and status == 403 and not row.data["path"].startswith(OF_PEERS):
            wrong.append(f"{who} is refused")
    assert not wrong


def test_nobody_comes_in_without_a_token(world: World) -> None:
    answers = {row.name: world.admin.request(row.data["method"], row.data["path"].replace("{", "").replace("}", ""),
                                             None, token=None).status for row in rows()}  # fmt: skip
    assert set(answers.values()) <= {401}
