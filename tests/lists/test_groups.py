"""Server groups list those of their members that exist."""

from __future__ import annotations

import pytest

from cell_service.db import instances
from mapping_db import server_groups
from tests.lists.world import T0, Placed, World, minutes, ok, server

SERVERS = [
    Placed(server(number, created_at=minutes(number), host="h"), owner)
    for number, owner in enumerate(("cell1", "cell2", None), 1)
]
IDS = [each.server.uuid for each in SERVERS]


@pytest.fixture
def group(world: World) -> str:
    """The id of a group of these servers."""
    world.fill(SERVERS)
    body = {"server_group": {"name": "g", "policy": "soft-affinity"}}
    made = ok(world.user.post("/os-server-groups", body, version="2.96")).json["server_group"]["id"]
    with world.api.db.begin() as tx:
        server_groups.join(tx, made, IDS)
    return str(made)


def members(world: World, group: str) -> set[str]:
    """The members, which the list and the group itself agree on."""
    shown = ok(world.user.get(f"/os-server-groups/{group}", version="2.96")).json["server_group"]["members"]
    listed = ok(world.user.get("/os-server-groups", version="2.96")).json["server_groups"]
    assert [each["members"] for each in listed if each["id"] == group] == [shown]
    return set(shown)


def end(world: World, number: int) -> None:
    """A server's cell has deleted it; no super-conductor has seen that yet."""
    world.api.in_cell(f"cell{number}", lambda tx: instances.mark_deleted(tx, IDS[number - 1], T0))


def test_members_are_there_until_they_are_deleted(world: World, group: str) -> None:
    assert members(world, group) == set(IDS)
    for number, uuid in enumerate(IDS[:2], 1):
        assert world.user.delete(f"/servers/{uuid}", version="2.96").status == 204
        assert uuid in members(world, group)
        end(world, number)
        assert world.user.get(f"/servers/{uuid}", version="2.96").status == 404
        assert members(world, group) == set(IDS[number:])
    assert world.user.delete(f"/servers/{IDS[2]}", version="2.96").status == 204
    assert members(world, group) == set()


def test_a_cell_that_is_down_keeps_its_members(world: World, group: str) -> None:
    assert world.user.delete(f"/servers/{IDS[1]}", version="2.96").status == 204
    end(world, 2)
    world.api.silence("cell2")
    try:
        assert members(world, group) == set(IDS)
    finally:
        world.api.wake("cell2")
    assert members(world, group) == {IDS[0], IDS[2]}
