"""A host goes to another cell while its guests run on, whoever is killed meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import Connection, select

from api_cell.superconductor.host_moves import HostMover, HostMoveRefused
from cell_service.context import Deadline, internal
from cell_service.db import host_rows, operations, schema, services
from cell_service.model.move import MoveKind
from compute_host.host_queue import FILE, HostQueues
from mapping_db import host_mappings, host_moves, instance_mappings
from tests.federation.cloud import Federation
from tests.federation.conftest import real_parts
from tests.federation.test_moves import ended, start

HOST = "cell1-host1"
MOMENT = datetime(2026, 3, 1, tzinfo=UTC)
NUMBERED = "OS-EXT-SRV-ATTR:instance_name"
"""It is made of the number of the row in its cell's database."""
POINTS = ("begun", "leaving", "announced", "frozen", "copied", "owned", "shown", "removed", "instances", "mapped",
          "notified", "switched", "arrived")  # fmt: skip


class Killed(Exception):
    """The command was killed there."""


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    made = Federation(tmp_path_factory.mktemp("hosts"))
    yield made
    made.close()


def move(cloud: Federation, target: str, *, host: str = HOST, killed_at: str | None = None) -> bool:
    def reported(what: str, count: int) -> None:
        if what == killed_at:
            raise Killed(what)

    return HostMover(cloud.cloud, host, wait_seconds=100, report=reported).move(cloud.ids[target])


def boot(cloud: Federation, **fields: Any) -> str:
    """A server on the host; schedulers need a moment to see that it may have one again."""

    def booted() -> str | bool:
        uuid = cloud.boot(availability_zone=f"nova:{HOST}", **fields)
        if cloud.show(uuid)["status"] == "ACTIVE":
            return uuid
        cloud.admin.delete(f"/servers/{uuid}")
        return False

    uuid: str = cloud.until(booted)
    return uuid


def cell_of(cloud: Federation, host: str = HOST) -> str:
    with cloud.db.connect() as tx:
        cell_id = host_mappings.get(tx, host).cell_id
    return next(name for name, known in cloud.ids.items() if known == cell_id)


def rows(cloud: Federation, cell: str, table: Any, **equal: Any) -> list[Any]:
    opened = cloud.cells.open(cloud.ids[cell])
    with opened.db.connect(Deadline.after(10)) as tx:
        return list(tx.execute(select(table).where(*(table.c[name] == value for name, value in equal.items()))))


def other(cell: str) -> str:
    return {"cell1": "cell2", "cell2": "cell1"}[cell]


def check(cloud: Federation, uuids: list[str], cell: str, host: str = HOST) -> None:
    """All of the host is in that cell, and nothing of it in the other."""
    left = other(cell)
    assert cell_of(cloud, host) == cell
    with cloud.db.connect() as tx:
        assert host_moves.get(tx, host) is None
        places = instance_mappings.places(tx, uuids)
    assert {location.cell_id for location in places.values()} == {cloud.ids[cell]}
    for table in (schema.services, schema.compute_nodes, schema.instances):
        assert rows(cloud, left, table, host=host) == []
    assert [service.leaving for service in rows(cloud, cell, schema.services, host=host)] == [False]
    for uuid in uuids:
        (row,) = rows(cloud, cell, schema.instances, uuid=uuid)
        assert not row.hidden
        for table in (schema.instance_actions, schema.operations, schema.migrations):
            assert rows(cloud, left, table, instance_uuid=uuid) == []
        assert cloud.allocations()[uuid] == {"VCPU": 1, "MEMORY_MB": 64, "DISK_GB": 1}
    assert set(cloud.guests()[host]) >= set(uuids)


def usable(cloud: Federation, uuid: str) -> None:
    for action, status in (("os-stop", "SHUTOFF"), ("os-start", "ACTIVE")):
        answer = cloud.act(uuid, action)
        assert answer.status == 202, answer.raw
        assert cloud.settled(uuid)["status"] == status


def test_a_host_moves_there_and_back_with_all_that_is_on_it(shared: Federation) -> None:
    cloud, home = shared, cell_of(shared)
    uuids = [boot(cloud, tags=["a", "b"]) for _ in range(3)]
    node = rows(cloud, home, schema.compute_nodes, host=HOST)[0].uuid
    before = [cloud.show(uuid) for uuid in uuids]
    for target in (other(home), home):
        assert move(cloud, target)
        check(cloud, uuids, target)
        for uuid, was in zip(uuids, before, strict=True):
            now = cloud.show(uuid)
            assert {name for name in was if was[name] != now[name]} <= {NUMBERED}
        assert rows(cloud, target, schema.compute_nodes, host=HOST)[0].uuid == node
        history = cloud.admin.get(f"/servers/{uuids[0]}/os-instance-actions").json["instanceActions"]
        assert [one["action"] for one in history] == ["create"]
    assert not move(cloud, home)
    usable(cloud, uuids[0])
    new = boot(cloud)
    assert cloud.show(new)["status"] == "ACTIVE"


@pytest.mark.wide
@pytest.mark.parametrize("point", POINTS)
def test_killed_anywhere_it_goes_on(shared: Federation, point: str) -> None:
    cloud, target = shared, other(cell_of(shared))
    uuids = [boot(cloud) for _ in range(2)]
    with pytest.raises(Killed):
        move(cloud, target, killed_at=point)
    for uuid in uuids:
        assert cloud.show(uuid)["status"] == "ACTIVE"
    listed = [each["id"] for each in cloud.admin.get("/servers").json["servers"]]
    assert [uuid for uuid in listed if uuid in uuids] == uuids[::-1]
    assert move(cloud, target)
    check(cloud, uuids, target)
    usable(cloud, uuids[0])


@pytest.mark.wide
@pytest.mark.parametrize("point", ["begun", "leaving", "announced", "frozen", "copied"])
def test_a_move_is_undone_before_anything_has_gone(shared: Federation, point: str) -> None:
    cloud, home = shared, cell_of(shared)
    uuid = boot(cloud)
    with pytest.raises(Killed):
        move(cloud, other(home), killed_at=point)
    HostMover(cloud.cloud, HOST).abort()
    check(cloud, [uuid], home)
    usable(cloud, uuid)


@pytest.mark.wide
@pytest.mark.parametrize("point", ["owned", "removed", "mapped"])
def test_a_move_is_not_undone_afterwards(shared: Federation, point: str) -> None:
    cloud, target = shared, other(cell_of(shared))
    uuid = boot(cloud)
    with pytest.raises(Killed):
        move(cloud, target, killed_at=point)
    with pytest.raises(HostMoveRefused):
        HostMover(cloud.cloud, HOST).abort()
    assert move(cloud, target)
    check(cloud, [uuid], target)


def test_nothing_asked_meanwhile_is_lost(shared: Federation) -> None:
    cloud, home = shared, cell_of(shared)
    uuids = [boot(cloud) for _ in range(4)]
    ended, seen = threading.Event(), []

    def ask(uuid: str, client: Any) -> None:
        wanted = {"ACTIVE": "os-stop", "SHUTOFF": "os-start"}
        while not ended.is_set():
            shown = client.get(f"/servers/{uuid}", version="2.96")
            seen.append(shown.status)
            if shown.status == 200 and shown.json["server"]["OS-EXT-STS:task_state"] is None:
                answer = client.post(f"/servers/{uuid}/action", {wanted[shown.json["server"]["status"]]: None})
                seen.append(answer.status)

    clients = [cloud.user("admin", "admin-project") for _ in uuids]
    askers = [threading.Thread(target=ask, args=pair) for pair in zip(uuids, clients, strict=True)]
    for asker in askers:
        asker.start()
    try:
        for target in (other(home), home):
            assert move(cloud, target)
    finally:
        ended.set()
        for asker in askers:
            asker.join()
    assert set(seen) <= {200, 202, 409, 503}
    for uuid in uuids:
        assert cloud.settled(uuid)["status"] in ("ACTIVE", "SHUTOFF")
    check(cloud, uuids, home)
    assert not cloud.unfinished()


@pytest.mark.parametrize("point", ["leaving", "announced"])
def test_what_was_accepted_before_goes_along(shared: Federation, point: str) -> None:
    cloud, target = shared, other(cell_of(shared))
    uuid = boot(cloud)
    with pytest.raises(Killed):
        move(cloud, target, killed_at=point)
    assert cloud.act(uuid, "os-stop").status == 202
    assert move(cloud, target)
    assert cloud.settled(uuid)["status"] == "SHUTOFF"
    check(cloud, [uuid], target)


@pytest.mark.parametrize("point", ["frozen", "copied", "owned"])
def test_in_transit_servers_are_seen_and_wait(shared: Federation, point: str) -> None:
    cloud, target = shared, other(cell_of(shared))
    kept, doomed = boot(cloud), boot(cloud)
    with pytest.raises(Killed):
        move(cloud, target, killed_at=point)
    answer = cloud.act(kept, "os-stop")
    assert answer.status == 503
    assert "retry-after" in {name.lower() for name in answer.headers}
    assert cloud.admin.delete(f"/servers/{doomed}").status == 204
    assert move(cloud, target)
    cloud.until(lambda: cloud.gone(doomed))
    assert doomed not in cloud.allocations()
    usable(cloud, kept)
    check(cloud, [kept], target)


def test_a_build_that_was_sent_to_the_old_cell_comes_after(shared: Federation) -> None:
    cloud, target = shared, other(cell_of(shared))
    uuid = cloud.post_server(availability_zone=f"nova:{HOST}").json["server"]["id"]
    assert move(cloud, target)
    assert cloud.settled(uuid)["status"] in ("ACTIVE", "ERROR")
    if cloud.show(uuid)["status"] == "ACTIVE":
        check(cloud, [uuid], target)


def test_an_agent_killed_before_it_went_over_goes_at_its_next_start(own_cloud: Federation) -> None:
    cloud = own_cloud
    uuid = boot(cloud)
    with pytest.raises(Killed):
        move(cloud, "cell2", killed_at="mapped")
    fleet = cloud.fleets["cell1"]
    fleet.stop(5)
    line = cloud.cells.open(cloud.ids["cell2"]).mapping.transport_url
    state = fleet.agents[HOST].settings.state
    configured = cloud.cells.open(cloud.ids["cell1"]).mapping.transport_url
    HostQueues(configured, cloud.bus, cloud.opened).join(state, line, "cell2")  # as far as it came
    assert (state / FILE).stat().st_mode & 0o777 == 0o600
    cloud.fleets["cell1"] = cloud.start_hosts("cell1", 2)
    assert move(cloud, "cell2")
    check(cloud, [uuid], "cell2")
    usable(cloud, uuid)
    assert cell_of(cloud, "cell1-host2") == "cell1"


def test_a_host_that_cannot_go_is_told_why(shared: Federation) -> None:
    cloud, home = shared, cell_of(shared)
    uuid = boot(cloud)
    with pytest.raises(HostMoveRefused, match="cell0"):
        move(cloud, "cell0")
    with cloud.db.begin() as tx:
        mapping = instance_mappings.get(tx, uuid)
        instance_mappings.remove(tx, [uuid])
    with pytest.raises(HostMoveRefused, match=uuid):
        move(cloud, other(home))
    with cloud.db.begin() as tx:
        instance_mappings.insert_new(tx, [mapping])
    check(cloud, [uuid], home)


@pytest.mark.real
@pytest.mark.timeout(400)
def test_a_host_moves_between_real_databases_and_queues(tmp_path_factory: pytest.TempPathFactory) -> None:
    with real_parts(tmp_path_factory.mktemp("real")) as cloud:
        uuids = [boot(cloud) for _ in range(3)]
        for target in ("cell2", "cell1"):
            assert move(cloud, target)
            check(cloud, uuids, target)
            usable(cloud, uuids[0])


def test_what_a_host_still_has_of_a_server_that_its_old_cell_saw_go_is_removed(shared: Federation) -> None:
    """It was begun there, built elsewhere, and deleted: only the old cell knows."""
    cell = cell_of(shared)
    other_host = f"{cell}-host2"
    gone = shared.boot(availability_zone=f"nova:{other_host}")
    agent = next(fleet.agents[HOST] for fleet in shared.fleets.values() if HOST in fleet.agents)
    guest = next(fleet.agents[other_host] for fleet in shared.fleets.values() if other_host in fleet.agents)
    record = guest.driver._state.get(gone)  # type: ignore[attr-defined]
    assert shared.admin.delete(f"/servers/{gone}").status == 204
    shared.until(lambda: shared.gone(gone))
    agent.driver._state.put(replace(record, made=False))  # type: ignore[attr-defined]

    move(shared, other(cell))
    shared.until(lambda: gone not in shared.guests()[HOST])
    move(shared, cell)


def test_a_server_that_chose_the_host_as_it_began_to_move_stays_and_leaves_it_no_work(shared: Federation) -> None:
    home = cell_of(shared)
    uuid = shared.boot(availability_zone=f"nova:{other(home)}-host2")
    with shared.db.begin() as tx:  # schedulers do not see it leave yet
        host_moves.begin(
            tx, HOST, source=shared.ids[home], target=shared.ids[other(home)], now=shared.cloud.clock.now()
        )
    try:
        start(shared, uuid, MoveKind.LIVE, target_host=HOST)
        (ended_move,) = ended(shared, uuid)
    finally:
        with shared.db.begin() as tx:
            host_moves.end(tx, HOST)
    assert (ended_move.target_host, ended_move.target_cell) == (None, None)
    server = shared.show(uuid)
    assert (server["status"], server["OS-EXT-SRV-ATTR:host"]) == ("ACTIVE", f"{other(home)}-host2")
    assert rows(shared, home, schema.operations, instance_uuid=uuid) == []
    assert shared.allocations()[uuid] == {"VCPU": 1, "MEMORY_MB": 64, "DISK_GB": 1}


def test_work_for_a_host_that_has_gone_over_is_not_recorded_and_what_is_left_ends(shared: Federation) -> None:
    home = cell_of(shared)
    cell = shared.cells.open(shared.ids[home])
    uuid = shared.boot(availability_zone=f"nova:{home}-host2")
    deadline, ctx = Deadline.after(10), internal(shared.cloud.clock)

    def deferred(tx: Connection) -> None:
        operations.defer_clean_up(tx, ctx, instance_uuid=uuid, host="away", now=MOMENT)

    def announced(tx: Connection) -> None:
        services.register(tx, host="away", binary=services.COMPUTE, topic="compute", version=1, now=MOMENT)

    cell.db.run(deferred, deadline)
    assert not cell.db.run(lambda tx: operations.has_leftovers(tx, uuid), deadline)
    cell.db.run(announced, deadline)
    cell.db.run(deferred, deadline)
    assert cell.db.run(lambda tx: operations.has_leftovers(tx, uuid), deadline)
    assert cell.db.run(lambda tx: host_rows.remove_empty(tx, "away", MOMENT), deadline)
    assert not cell.db.run(lambda tx: operations.has_leftovers(tx, uuid), deadline)
