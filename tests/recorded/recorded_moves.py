"""A move of each kind before each of its steps."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from api_cell.superconductor.contract import SuperConductor
from recorded_standstill import (
    DEAD,
    FAR,
    HERE,
    NEAR,
    PASSWORD,
    Case,
    failing,
    halted,
    on_hosts,
    refused,
    stops,
    unanswered,
)

import mapping_db.moves as move_rows
from api_cell.servers import move as asking
from api_cell.superconductor.moves import phases
from cell_service.context import SYSTEM_CLOCK, internal
from cell_service.db import instances
from cell_service.model.instance import Flavor
from cell_service.model.move import MoveKind, MovePhase, MovePlan
from cell_service.rpc.contract import client
from tests.federation.cloud import Federation


def names(kind: MoveKind) -> list[str]:
    return [step.__name__ for step in phases.GOING[kind].steps]


def later(phase: MovePhase) -> list[str]:
    return [step.__name__ for step in phases.LATER[phase].steps]


def move_cases() -> list[Case]:
    """What stands where. `stop`: phase and step; `then`: what ends the move; `errand`: its host has claimed that."""
    found: list[Case] = []
    for there in (NEAR, FAR):
        for kind in MoveKind:
            host = DEAD if kind is MoveKind.EVACUATE else HERE
            end = {"status": "VERIFY_RESIZE" if kind in (MoveKind.COLD, MoveKind.RESIZE) else "ACTIVE", "host": there}
            one = {"kind": kind.value, "there": there, "from": host, "end": end}
            for step in names(kind):
                if kind is not MoveKind.RESIZE or step in ("choose", "arrive", "commit", "run", "settle"):
                    found.append({**one, "stop": ["going", step]})
            for errand in ("move_out", "move_in", "move_run"):
                if errand != "move_out" or kind not in (MoveKind.EVACUATE, MoveKind.UNSHELVE):
                    found.append({**one, "errand": errand})
        cold = {"kind": MoveKind.COLD.value, "there": there, "from": HERE}
        moved, stayed = {"status": "ACTIVE", "host": there}, {"status": "ACTIVE", "host": HERE}
        found.append({**cold, "rests": True, "end": {"status": "VERIFY_RESIZE", "host": there}})
        for kind in (MoveKind.COLD, MoveKind.RESIZE):
            one = {**cold, "kind": kind.value}
            found += [{**one, "then": "confirmResize", "stop": ["confirming", step], "end": moved}
                      for step in later(MovePhase.CONFIRMING)]  # fmt: skip
            found += [{**one, "then": "revertResize", "stop": ["reverting", step], "end": stayed}
                      for step in later(MovePhase.REVERTING)]  # fmt: skip
        for step in later(MovePhase.UNDOING):
            found.append({**cold, "fails": "seal", "stop": ["undoing", step], "end": stayed})
            found.append(
                {**cold, "kind": "live-migration", "fails": "arrive", "stop": ["undoing", step], "end": stayed}
            )
        found.append({**cold, "fails": "choose", "stop": ["undoing", "give_back"], "end": stayed})
        for step in later(MovePhase.TIDYING):
            found.append({**cold, "then": "confirmResize", "stop": ["tidying", step], "end": moved})
            found.append({**cold, "then": "revertResize", "stop": ["tidying", step], "end": stayed})
            found.append({**cold, "then": "forceDelete", "stop": ["tidying", step], "end": None})
        found.append({**cold, "kind": "live-migration", "deleted": "arrive", "stop": ["tidying", "clear_source"],
                      "end": None})  # fmt: skip
        found.append({**cold, "kind": "evacuation", "from": DEAD, "waits": True, "end": moved})
    for step in later(MovePhase.LEAVING):
        found.append({"kind": "live-migration", "there": None, "from": HERE, "refused": True, "stop": ["leaving", step],
                      "end": {"status": "ACTIVE", "not_host": HERE}})  # fmt: skip
    for died in ("before", "after"):
        found.append({"kind": "migration", "there": NEAR, "from": HERE, "unanswered": died, "stop": ["going", "begin"],
                      "end": {"status": "VERIFY_RESIZE", "host": NEAR}})  # fmt: skip
    # the API itself records that it has begun, so that only those stand before `begin`
    return [case for case in found if case.get("stop") != ["going", "begin"] or "unanswered" in case]


def start(cloud: Federation, case: Case) -> None:
    """As the tools ask for it: to whatever cell."""
    uuid, kind = case["uuid"], MoveKind(case["kind"])
    ctx = internal(SYSTEM_CLOCK, seconds=30)
    cell_id = cloud.cloud.locator.find(uuid).cell_id
    assert cell_id is not None
    cell = cloud.cells.open(cell_id)
    with cell.db.connect(ctx.deadline) as tx:
        instance = instances.get(tx, uuid)
    plan = MovePlan(cross_cell=True, target_host=case["there"])
    if kind is MoveKind.RESIZE:
        plan = replace(plan, new_flavor=Flavor("2", "larger", 2, 128, 2))
    elif kind is MoveKind.EVACUATE:
        plan = replace(plan, admin_password=PASSWORD)
    elif kind is MoveKind.UNSHELVE:
        plan = replace(plan, image=instance.system_metadata["shelved_image_id"])
    began = asking.begin_in
    if case.get("unanswered"):
        unanswered.add(uuid)
    if case.get("unanswered") == "before":
        asking.begin_in = lambda *_: None  # type: ignore[assignment, return-value]
    try:
        asking.accept(cloud.cloud, ctx, client(SuperConductor, cloud.bus), cell, instance, kind, plan)
    finally:
        asking.begin_in = began


def rows_of(cloud: Federation, uuid: str) -> list[Any]:
    with cloud.db.connect() as tx:
        return list(tx.execute(move_rows.moves.select().where(move_rows.moves.c.instance_uuid == uuid)).all())


def stands(cloud: Federation, uuid: str) -> bool:
    return any(row.uuid in halted for row in rows_of(cloud, uuid))


def make_moves(cloud: Federation) -> list[Case]:
    cases = move_cases()
    for case in cases:
        answer = cloud.post_server(name="move", availability_zone=f"nova:{case['from']}")
        assert answer.status == 202, answer.raw
        case["uuid"] = answer.json["server"]["id"]
    for case in cases:
        cloud.settled(case["uuid"])
    for action, status in (("shelve", "SHELVED"), ("shelveOffload", "SHELVED_OFFLOADED")):
        shelved = [case["uuid"] for case in cases if case["kind"] == "unshelve"]
        for uuid in shelved:
            assert cloud.act(uuid, action).status == 202
        for uuid in shelved:
            assert cloud.settled(uuid)["status"] == status
    body = {"host": DEAD, "binary": "nova-compute", "forced_down": True}
    assert cloud.admin.put("/os-services/force-down", body, version="2.11").status == 200
    for case in cases:
        uuid = case["uuid"]
        if "stop" in case and "then" not in case and "deleted" not in case:
            stops[uuid] = (case["stop"][0], case["stop"][1])
        if "deleted" in case:
            stops[uuid] = ("going", case["deleted"])
        if "fails" in case:
            failing[uuid] = case["fails"]
        if "errand" in case:
            on_hosts.add((uuid, case["errand"]))
        if case.get("refused"):
            refused.add(uuid)
        start(cloud, case)
    for case in cases:
        uuid = case["uuid"]
        if "then" in case or case.get("rests"):
            cloud.until(lambda uuid=uuid: rows_of(cloud, uuid)[0].phase == "waiting", 120)
        if "then" in case:
            stops[uuid] = (case["stop"][0], case["stop"][1])
            assert cloud.act(uuid, case["then"]).status in (202, 204)
        if case.get("waits"):
            cloud.until(lambda uuid=uuid: cloud.show(uuid)["status"] == "ACTIVE"
                        and rows_of(cloud, uuid)[0].phase == "tidying", 120)  # fmt: skip
        if "deleted" in case:
            cloud.until(lambda uuid=uuid: stands(cloud, uuid), 60)
            stops[uuid] = (case["stop"][0], case["stop"][1])
            assert cloud.act(uuid, "forceDelete").status in (202, 204)
            halted.difference_update(row.uuid for row in rows_of(cloud, uuid))
            halted.discard(uuid)
    for case in cases:
        if "stop" in case:
            cloud.until(lambda case=case: stands(cloud, case["uuid"]), 120)
        elif "errand" in case:
            wanted = f"{case['errand']} running {case['uuid']}"
            cloud.until(lambda wanted=wanted: any(each.startswith(wanted) for each in cloud.unfinished()), 120)
    return cases
