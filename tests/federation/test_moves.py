"""Servers that move to other hosts, within a cell and between two."""

from __future__ import annotations

from typing import Any

import pytest

from api_cell.servers import move as asking
from api_cell.superconductor.contract import SuperConductor
from cell_service.context import internal
from cell_service.db import instances
from cell_service.model.move import MoveKind, MovePlan
from cell_service.rpc.contract import client
from mapping_db import instance_mappings, moves
from tests.federation.cloud import Federation

HOST = "OS-EXT-SRV-ATTR:host"
USES = {"VCPU": 1, "MEMORY_MB": 64, "DISK_GB": 1}


def ended(cloud: Federation, uuid: str) -> list[Any]:
    """Waits until nothing is left to do for the server's moves."""

    def over() -> bool:
        with cloud.db.connect() as tx:
            return all(move.finished_at for move in every(tx, uuid))

    cloud.until(over)
    with cloud.db.connect() as tx:
        return every(tx, uuid)


def every(tx: Any, uuid: str) -> list[Any]:
    rows = tx.execute(moves.moves.select().where(moves.moves.c.instance_uuid == uuid)).all()
    return list(rows)


def homes(cloud: Federation, uuid: str) -> list[str]:
    return [host for host, guests in cloud.guests().items() if uuid in guests]


def start(cloud: Federation, uuid: str, kind: MoveKind, **plan: Any) -> None:
    """A move as the tools ask for it: to whatever cell."""
    ctx = internal(cloud.cloud.clock, seconds=20)
    cell_id = cloud.cloud.locator.find(uuid).cell_id
    assert cell_id is not None
    cell = cloud.cells.open(cell_id)
    with cell.db.connect(ctx.deadline) as tx:
        instance = instances.get(tx, uuid)
    asking.accept(
        cloud.cloud, ctx, client(SuperConductor, cloud.bus), cell, instance, kind, MovePlan(cross_cell=True, **plan)
    )


def test_a_server_migrates_and_is_confirmed(cloud: Federation) -> None:
    uuid = cloud.boot(cell="cell1")
    old = cloud.show(uuid)[HOST]

    assert cloud.act(uuid, "migrate").status == 202
    shown = cloud.settled(uuid)
    assert (shown["status"], shown.get("fault")) == ("VERIFY_RESIZE", None)
    assert shown[HOST] != old
    assert sorted(homes(cloud, uuid)) == sorted([old, shown[HOST]])
    assert cloud.allocations()[uuid] == USES

    cloud.until(lambda: cloud.act(uuid, "confirmResize").status == 204)
    cloud.until(lambda: cloud.show(uuid)["status"] == "ACTIVE")
    (move,) = ended(cloud, uuid)
    assert homes(cloud, uuid) == [shown[HOST]]
    assert move.uuid not in cloud.allocations()
    assert cloud.allocations()[uuid] == USES


def test_a_server_moves_to_another_cell_while_it_runs(cloud: Federation) -> None:
    uuid = cloud.boot(cell="cell1", name="traveller", metadata={"a": "b"}, tags=["x"])
    before = cloud.show(uuid)

    start(cloud, uuid, MoveKind.LIVE, target_host="cell2-host2")
    cloud.until(lambda: cloud.show(uuid)[HOST] == "cell2-host2")
    shown = cloud.settled(uuid)
    assert shown["status"] == "ACTIVE", shown.get("fault")
    ended(cloud, uuid)
    assert homes(cloud, uuid) == ["cell2-host2"]
    assert cloud.allocations()[uuid] == USES
    with cloud.db.connect() as tx:
        assert instance_mappings.get(tx, uuid).cell_id == cloud.ids["cell2"]
    moved = {HOST, "OS-EXT-SRV-ATTR:hypervisor_hostname", "hostId", "updated", "OS-EXT-AZ:availability_zone"}
    after = cloud.show(uuid)
    assert {k: v for k, v in after.items() if k not in moved} == {k: v for k, v in before.items() if k not in moved}
    assert cloud.act(uuid, "os-stop").status == 202
    assert cloud.settled(uuid)["status"] == "SHUTOFF"


@pytest.mark.parametrize("how", ["confirmResize", "revertResize"])
def test_a_server_migrates_between_cells(cloud: Federation, how: str) -> None:
    uuid = cloud.boot(cell="cell1")
    start(cloud, uuid, MoveKind.COLD, target_host="cell2-host1")
    cloud.until(lambda: cloud.show(uuid)["status"] == "VERIFY_RESIZE")
    assert cloud.show(uuid)[HOST] == "cell2-host1"
    cloud.until(lambda: cloud.act(uuid, how).status in (202, 204))
    home = "cell2-host1" if how == "confirmResize" else "cell1-host1"
    cloud.until(lambda: cloud.show(uuid)["status"] == "ACTIVE")
    ended(cloud, uuid)
    assert homes(cloud, uuid) == [home]
    assert cloud.show(uuid)[HOST] == home
    assert cloud.allocations()[uuid] == USES
    assert cloud.act(uuid, "reboot", {"type": "HARD"}).status == 202
    assert cloud.settled(uuid)["status"] == "ACTIVE"
