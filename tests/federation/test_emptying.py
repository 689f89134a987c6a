"""Hosts that are emptied: while they live, and after they died."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from api_cell.contract import SuperConductor
from api_cell.servers.moves.emptying import Emptying, EmptyingRequest, EmptyingResult
from cell_service.context import internal
from cell_service.rpc.contract import client
from tests.federation.cloud import Federation
from tests.federation.test_moves import HOST, USES, force_down, homes


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    made = Federation(tmp_path_factory.mktemp("emptying"), move_seconds=0.01, live_seconds=0.01)
    yield made
    made.close()


def empty(cloud: Federation, host: str, wanted: EmptyingRequest) -> EmptyingResult:
    cell = cloud.cells.open(cloud.ids[host.split("-")[0]])
    ctx = internal(cloud.cloud.clock, seconds=120)
    return Emptying(cloud.cloud, ctx, client(SuperConductor, cloud.bus), wanted).run(cell, host)


def boot_some(cloud: Federation, count: int) -> list[str]:
    return [cloud.boot(cell="cell1") for _ in range(count)]


def check(cloud: Federation, uuids: list[str], not_on: str) -> None:
    for uuid in uuids:
        shown = cloud.settled(uuid)
        assert shown[HOST] != not_on
        cloud.until(lambda uuid=uuid, shown=shown: homes(cloud, uuid) == [shown[HOST]])  # type: ignore[misc]
        assert cloud.allocations()[uuid] == USES


def test_a_drained_host_has_no_servers_and_each_is_what_it_was(shared: Federation) -> None:
    uuids = boot_some(shared, 6)
    assert shared.act(uuids[0], "os-stop").status == 202
    assert shared.settled(uuids[0])["status"] == "SHUTOFF"
    assert shared.act(uuids[1], "pause").status == 202
    assert shared.settled(uuids[1])["status"] == "PAUSED"
    assert shared.act(uuids[2], "suspend").status == 202
    assert shared.settled(uuids[2])["status"] == "SUSPENDED"

    result = empty(shared, "cell1-host1", EmptyingRequest(cross_cell=True))
    assert sorted(result.moved) == sorted(uuids[:2] + uuids[3:])
    assert list(result.left) == [uuids[2]]
    check(shared, result.moved, "cell1-host1")
    assert [shared.show(uuid)["status"] for uuid in uuids[:3]] == ["SHUTOFF", "PAUSED", "SUSPENDED"]
    assert {shared.show(uuid)["status"] for uuid in uuids[3:]} == {"ACTIVE"}

    shared.act(uuids[2], "resume")
    shared.settled(uuids[2])
    assert empty(shared, "cell1-host1", EmptyingRequest(live=False, to="cell2-host2", cross_cell=True)).moved == [
        uuids[2]
    ]
    assert shared.settled(uuids[2])[HOST] == "cell2-host2"
    assert empty(shared, "cell1-host1", EmptyingRequest()).moved == []


def test_a_dead_hosts_servers_are_built_anew_elsewhere(shared: Federation) -> None:
    uuids = boot_some(shared, 8)
    force_down(shared, "cell1-host1", True)
    try:
        result = empty(shared, "cell1-host1", EmptyingRequest(evacuate=True, cross_cell=True))
        assert (sorted(result.moved), result.left) == (sorted(uuids), {})
    finally:
        force_down(shared, "cell1-host1", False)
    check(shared, uuids, "cell1-host1")
    shared.until(lambda: set(shared.allocations()) <= set(all_servers(shared)))


def all_servers(cloud: Federation) -> list[str]:
    return [each["id"] for each in cloud.admin.get("/servers?all_tenants=1").json["servers"]]
