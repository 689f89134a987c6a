"""Makes the recording of work in flight that `test_recorded` finishes: databases of a federation that stands still.

It runs the code of the version that is recorded, not this one:

    git worktree add /tmp/old VERSION && PYTHONPATH=/tmp/old python tests/recorded/make.py tests/recorded/VERSION.xz

(with an environment that has the dependencies of that version). Each case is a server on which one piece of work stands
still: a move before one of its steps, an operation that is open or claimed, a build request at one of its stages.
The recording says, too, what each is to become. Written for commit bda67a9; another version needs other names.
"""

from __future__ import annotations

import base64
import functools
import json
import lzma
import os
import sqlite3
import sys
import tempfile
import threading
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from api_cell.superconductor.contract import SuperConductor
from api_cell.superconductor.means import SuperConductorSettings
from api_cell.superconductor.moves.turn import Failed

import compute_host.agent as agent_module
import mapping_db.moves as move_rows
from api_cell.scheduler.scheduler import Scheduler
from api_cell.servers import move as asking
from api_cell.superconductor import placing
from api_cell.superconductor.moves import phases
from api_cell.superconductor.service import SuperConductorService
from cell_service import wire
from cell_service.conductor import builds
from cell_service.context import SYSTEM_CLOCK, internal
from cell_service.db import instances
from cell_service.errors import DriverError
from cell_service.model.instance import Flavor
from cell_service.model.move import MoveKind, MovePhase, MovePlan
from cell_service.rpc.contract import client
from compute_host.config import HostSettings
from compute_host.virt.simulated.driver import SimulatedDriver
from mapping_db import flavors
from tests.federation.cloud import Federation
from tests.federation.test_volume_snapshots import set_state, snapshot, take
from tests.federation.test_volumes import attach as attach_volume
from tests.federation.test_volumes import status as volume_status
from tests.federation.test_volumes import volume

PASSWORD = "cl3ar-Pa55word"
NEAR, FAR, HERE, DEAD = "cell1-host2", "cell2-host1", "cell1-host1", "cell1-host3"
Case = dict[str, Any]


class Stopped(BaseException):
    """The process is gone, as far as the work knows."""


class Recorder(Federation):
    """A federation whose work stops where `stops`, `on_hosts` and `halted` say."""

    def start_superconductor(self) -> SuperConductorService:
        settings = SuperConductorSettings(look_seconds=0.2, discover_seconds=0.2, lease_seconds=15,
                                          reclaim_seconds=self.reclaim_seconds)  # fmt: skip
        made = SuperConductorService(self.cloud, Scheduler(self.cloud), settings)
        made.start()
        return made

    def host(self, name: str) -> HostSettings:
        return replace(super().host(name), max_concurrent_verbs=1000, max_concurrent_builds=1000)


stops: dict[str, tuple[str, str]] = {}
"""Instance → phase and step before which its move stands still."""
failing: dict[str, str] = {}
"""Instance → the step that fails."""
on_hosts: set[tuple[str, str]] = set()
"""Instance and kind of the operation that its host claims and does not do."""
unanswered: set[str] = set()
"""Instances whose moves are begun by an API that dies."""
halted: set[str] = set()
"""Moves, and build requests by stage and name, that stand still."""
refused: set[str] = set()
"""Instances that their first destination refuses."""
closed = threading.Event()
"""No host claims anything any more."""


def stopping(step: Any) -> Any:
    @functools.wraps(step)
    def act(turn: Any) -> bool:
        uuid, name = turn.move.instance_uuid, step.__name__
        if stops.get(uuid) == (turn.move.phase.value, name):
            halted.add(turn.move.uuid)
            raise Stopped
        if turn.move.phase is MovePhase.GOING and failing.get(uuid) == name:
            raise Failed("It was not to be.")
        return bool(step(turn))

    return act


def wrap() -> None:
    """The code stops where it is told to."""
    tables: list[Any] = [phases.GOING, phases.LATER]
    for table in tables:
        for key, phase in list(table.items()):
            table[key] = replace(phase, steps=tuple(stopping(step) for step in phase.steps))
    take_move, rest, perform, take_work = move_rows.take, move_rows.rest, agent_module.perform, agent_module.Agent._take
    receive, spawn = SimulatedDriver.receive, SimulatedDriver.spawn
    choose, hand_over, point = placing._choose, placing._hand_over, placing._point

    def taken(tx: Any, uuid: str, **how: Any) -> Any:
        return None if uuid in halted else take_move(tx, uuid, **how)

    def rested(tx: Any, move: Any, now: Any, **how: Any) -> None:
        if move.instance_uuid not in unanswered or not (move.owner or "").startswith("api:"):
            rest(tx, move, now, **how)

    def performed(hands: Any, job: Any) -> Any:
        work = job.work
        if (work.instance.uuid, work.operation.kind.value) in on_hosts or work.instance.display_name in on_hosts:
            raise Stopped
        if work.instance.display_name == "build-running":
            raise Stopped
        return perform(hands, job)

    def worked(agent: Any) -> None:
        if not closed.is_set():
            take_work(agent)

    def received(driver: Any, spec: Any, luggage: Any) -> None:
        if spec.instance.uuid in refused:
            refused.discard(spec.instance.uuid)
            raise DriverError(reason="No.")
        receive(driver, spec, luggage)

    def spawned(driver: Any, spec: Any) -> None:
        if spec.instance.display_name == "build-moving":
            raise DriverError(reason="No.")
        spawn(driver, spec)

    def chosen(means: Any, requests: Any) -> Any:
        left = kept("build-taken", requests)
        return choose(means, left) if left else []

    def handed_over(means: Any, cell: Any, requests: Any) -> None:
        left = kept("build-chosen", requests)
        if left:
            hand_over(means, cell, left)

    def kept(stage: str, requests: Any) -> list[Any]:
        for each in requests:
            if each.instance.display_name.startswith(stage):
                halted.add(each.instance.display_name)
        return [each for each in requests if not each.instance.display_name.startswith(stage)]

    def advanced(means: Any, operation: Any) -> None:
        halted.add("build-moving")
        raise Stopped

    move_rows.take, move_rows.rest, agent_module.perform = taken, rested, performed
    agent_module.Agent._take = worked  # type: ignore[method-assign]
    SimulatedDriver.receive, SimulatedDriver.spawn = received, spawned  # type: ignore[method-assign]
    placing._choose = chosen
    placing._hand_over = handed_over
    placing._point = lambda tx, cell_id, requests: point(tx, cell_id, kept("build-stored", requests))
    builds.advance = advanced


# -- moves ------------------------------------------------------------------------------------------


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


# -- operations -------------------------------------------------------------------------------------


def acts(*actions: tuple[str, Any]) -> Callable[[Federation, str], dict[str, str]]:
    """The server has gone through these."""

    def prepare(cloud: Federation, uuid: str) -> dict[str, str]:
        for name, content in actions:
            assert cloud.act(uuid, name, content).status in (200, 202)
            cloud.settled(uuid)
        return {}

    return prepare


def with_volume(cloud: Federation, uuid: str) -> dict[str, str]:
    found = with_free_volume(cloud, uuid)
    assert attach_volume(cloud, uuid, found["volume"]).status == 200
    cloud.until(lambda: volume_status(cloud, found["volume"]) == "in-use")
    return found


def with_free_volume(cloud: Federation, uuid: str) -> dict[str, str]:
    return {"volume": volume(cloud)}


def with_interface(cloud: Federation, uuid: str) -> dict[str, str]:
    answer = cloud.admin.post(f"/servers/{uuid}/os-interface", {"interfaceAttachment": {}}, version="2.96")
    assert answer.status == 200, answer.raw
    return {"port": answer.json["interfaceAttachment"]["port_id"]}


def soft_deleted(cloud: Federation, uuid: str) -> dict[str, str]:
    assert cloud.admin.delete(f"/servers/{uuid}").status == 204
    cloud.until(lambda: cloud.show(uuid)["status"] == "SOFT_DELETED")
    return {}


def with_share(cloud: Federation, uuid: str) -> dict[str, str]:
    acts(("os-stop", None))(cloud, uuid)
    return {"share": cloud.shared(uuid)}


def with_free_share(cloud: Federation, uuid: str) -> dict[str, str]:
    acts(("os-stop", None))(cloud, uuid)
    return {"share": cloud.share()}


def action(name: str, content: Any = None) -> Callable[[Federation, str, dict[str, str]], None]:
    def act(cloud: Federation, uuid: str, made: dict[str, str]) -> None:
        answer = cloud.user("admin", "admin-project").post(f"/servers/{uuid}/action", {name: content}, version="2.96")
        assert answer.status in (200, 202, 204), answer.raw

    return act


def request(
    method: str, path: str, content: Callable[[dict[str, str]], Any] = lambda _: None, version: str = "2.97"
) -> Callable[[Federation, str, dict[str, str]], None]:
    def act(cloud: Federation, uuid: str, made: dict[str, str]) -> None:
        by = cloud.user("admin", "admin-project")
        where, body = path.format(uuid=uuid, **made), content(made)
        answer = (
            by.delete(where, version=version)
            if method == "delete"
            else getattr(by, method)(where, body, version=version)
        )
        assert answer.status in (200, 201, 202, 204), answer.raw

    return act


def swap(cloud: Federation, uuid: str, made: dict[str, str]) -> None:
    body = {"volumeAttachment": {"volumeId": volume(cloud)}}
    path = f"/servers/{uuid}/os-volume_attachments/{made['volume']}"
    assert cloud.user("admin", "admin-project").put(path, body, version="2.1").status == 202


def extend(cloud: Federation, uuid: str, made: dict[str, str]) -> None:
    event = {"events": [{"name": "volume-extended", "server_uuid": uuid, "tag": made["volume"]}]}
    assert cloud.user("admin", "admin-project").post("/os-server-external-events", event, version="2.51").status == 200


def snap(cloud: Federation, uuid: str, made: dict[str, str]) -> None:
    assert take(cloud, made["volume"], snapshot(cloud, made["volume"], "creating")).status in (200, 202)


def with_snapshot(cloud: Federation, uuid: str) -> dict[str, str]:
    made = with_volume(cloud, uuid)
    made["snapshot"] = snapshot(cloud, made["volume"], "creating")
    assert take(cloud, made["volume"], made["snapshot"]).status in (200, 202)
    cloud.until(lambda: not any(uuid in each for each in cloud.unfinished()))
    return made


def unsnap(cloud: Federation, uuid: str, made: dict[str, str]) -> None:
    set_state(cloud, made["snapshot"], "deleting")
    info = json.dumps({"volume_id": made["volume"]})
    answer = cloud.user("admin", "admin-project").delete(
        f"/os-assisted-volume-snapshots/{made['snapshot']}?delete_info={info.replace(' ', '')}", version="2.96"
    )
    assert answer.status == 204, answer.raw


SERVER, VOLUMES = "/servers/{uuid}", "/servers/{uuid}/os-volume_attachments"
NOTHING: Callable[[Federation, str], dict[str, str]] = acts()
OPERATIONS: dict[str, tuple[Any, Any, str | None]] = {
    "start": (acts(("os-stop", None)), action("os-start"), "ACTIVE"),
    "stop": (NOTHING, action("os-stop"), "SHUTOFF"),
    "reboot_soft": (NOTHING, action("reboot", {"type": "SOFT"}), "ACTIVE"),
    "reboot_hard": (NOTHING, action("reboot", {"type": "HARD"}), "ACTIVE"),
    "pause": (NOTHING, action("pause"), "PAUSED"),
    "unpause": (acts(("pause", None)), action("unpause"), "ACTIVE"),
    "suspend": (NOTHING, action("suspend"), "SUSPENDED"),
    "resume": (acts(("suspend", None)), action("resume"), "ACTIVE"),
    "rebuild": (NOTHING, action("rebuild", {"imageRef": "IMAGE", "adminPass": PASSWORD}), "ACTIVE"),
    "shelve": (NOTHING, action("shelve"), "SHELVED"),
    "shelveOffload": (acts(("shelve", None)), action("shelveOffload"), "SHELVED_OFFLOADED"),
    "unshelve": (acts(("shelve", None)), action("unshelve"), "ACTIVE"),
    "rescue": (NOTHING, action("rescue", {"adminPass": PASSWORD}), "RESCUE"),
    "unrescue": (acts(("rescue", {})), action("unrescue"), "ACTIVE"),
    "createImage": (NOTHING, action("createImage", {"name": "copy"}), "ACTIVE"),
    "createBackup": (NOTHING, action("createBackup", {"name": "b", "backup_type": "d", "rotation": 1}), "ACTIVE"),
    "soft-delete": (NOTHING, request("delete", SERVER), "SOFT_DELETED"),
    "restore": (soft_deleted, action("restore"), "ACTIVE"),
    "changePassword": (NOTHING, action("changePassword", {"adminPass": PASSWORD}), "ACTIVE"),
    "trigger_crash_dump": (NOTHING, action("trigger_crash_dump"), "ACTIVE"),
    "attach_interface": (NOTHING, request("post", SERVER + "/os-interface", lambda _: {"interfaceAttachment": {}}),
                         "ACTIVE"),
    "detach_interface": (with_interface, request("delete", SERVER + "/os-interface/{port}"), "ACTIVE"),
    "delete": (NOTHING, action("forceDelete"), None),
    "attach_volume": (with_free_volume,
                      request("post", VOLUMES, lambda made: {"volumeAttachment": {"volumeId": made["volume"]}}),
                      "ACTIVE"),
    "detach_volume": (with_volume, request("delete", VOLUMES + "/{volume}"), "ACTIVE"),
    "swap_volume": (with_volume, swap, "ACTIVE"),
    "extend_volume": (with_volume, extend, "ACTIVE"),
    "volume_snapshot_create": (with_volume, snap, "ACTIVE"),
    "volume_snapshot_delete": (with_snapshot, unsnap, "ACTIVE"),
    "attach_share": (with_free_share,
                     request("post", SERVER + "/shares", lambda made: {"share": {"share_id": made["share"]}}),
                     "SHUTOFF"),
    "detach_share": (with_share, request("delete", SERVER + "/shares/{share}"), "SHUTOFF"),
}  # fmt: skip


def make_operations(cloud: Federation, phase: str) -> list[Case]:
    """One of each kind that its host has claimed ("running"), or will find ("open": `closed` is set)."""
    cases, prepared = [], []
    for kind, (_, _, status) in OPERATIONS.items():
        answer = cloud.post_server(name=kind, availability_zone=f"nova:{FAR if phase == 'open' else HERE}",
                                   **({"networks": "auto"} if "interface" in kind else {}))  # fmt: skip
        assert answer.status == 202, answer.raw
        cases.append({"operation": kind, "phase": phase, "uuid": answer.json["server"]["id"],
                      "end": None if status is None else {"status": status}})  # fmt: skip
    for case in cases:
        cloud.settled(case["uuid"])
    for case in cases:
        prepared.append(OPERATIONS[case["operation"]][0](cloud, case["uuid"]))
    if phase == "open":
        closed.set()
    for case, made in zip(cases, prepared, strict=True):
        on_hosts.add((case["uuid"], case["operation"]))
        act = OPERATIONS[case["operation"]][1]
        threading.Thread(target=act, args=(cloud, case["uuid"], made), daemon=True).start()
        wanted = f"{case['operation']} {phase} {case['uuid']}"
        cloud.until(lambda wanted=wanted: any(each.startswith(wanted) for each in cloud.unfinished()))
    return cases


# -- builds -----------------------------------------------------------------------------------------


def make_builds(cloud: Federation) -> list[Case]:
    """A build request at each of its stages, and a build at each of its own. `adminPass` stands in all of them."""
    stages = ("taken", "chosen", "chosen-unwanted", "chosen-nowhere", "stored", "stored-unwanted", "running", "moving")
    found: list[Case] = []
    for stage in stages:
        end: Case | None = {"status": "ERROR" if stage == "chosen-nowhere" else "ACTIVE"}
        name = f"build-{stage}"
        if stage == "stored" or stage == "stored-unwanted":
            on_hosts.add(name)  # type: ignore[arg-type]
        fields = {"flavorRef": "3"} if stage == "chosen-nowhere" else {}
        answer = cloud.post_server(name=name, adminPass=PASSWORD, **fields)
        assert answer.status == 202, answer.raw
        uuid = answer.json["server"]["id"]
        if stage == "running":
            cloud.until(lambda uuid=uuid: any(each.startswith(f"create running {uuid}") for each in cloud.unfinished()))
        else:
            cloud.until(lambda name=name: name in halted)
        if stage == "moving":
            end = {"status": "ACTIVE"}
        if stage.endswith("unwanted"):
            assert cloud.admin.delete(f"/servers/{uuid}").status == 204
            end = None
        found.append({"build": stage, "uuid": uuid, "end": end})
    return found


def make_open_builds(cloud: Federation) -> list[Case]:
    """A build that no host has claimed, and a request that no super-conductor has taken."""
    found = []
    opened = cloud.post_server(name="build-open", adminPass=PASSWORD).json["server"]["id"]
    cloud.until(lambda: any(each.startswith(f"create open {opened}") for each in cloud.unfinished()))
    found.append({"build": "open", "uuid": opened, "end": {"status": "ACTIVE"}})
    cloud.superconductor.stop(5)
    waiting = cloud.post_server(name="build-untaken", adminPass=PASSWORD).json["server"]["id"]
    found.append({"build": "untaken", "uuid": waiting, "end": {"status": "ACTIVE"}})
    return found


# -- the recording ----------------------------------------------------------------------------------


def dump(cloud: Federation, directory: Path, target: Path, cases: list[Case]) -> None:
    """One file: the databases as text, what the hosts remember, the images, and the sizes of the volumes' files."""
    files: dict[str, str] = {}
    volumes: dict[str, int] = {}
    for path in sorted(directory.rglob("*")):
        name = path.relative_to(directory).as_posix()
        if path.suffix in (".db", ".sqlite"):
            with closing(sqlite3.connect(path)) as database:
                files[name] = "\n".join(database.iterdump())
        elif path.suffix == ".json":
            files[name] = path.read_text()
        elif path.is_file() and name.startswith("volume/volumes/"):
            volumes[name] = path.stat().st_size
    images = [[wire.to_plain(image), base64.b64encode(cloud.images.contents.get(image.id, b"")).decode()]
              for image in cloud.images.records.values()]  # fmt: skip
    recording = {
        "recorded_at": SYSTEM_CLOCK.now().strftime("%Y-%m-%d %H:%M:%S"), "password": PASSWORD,
        "image_id": cloud.image_id,
        "cells": cloud._uuids, "cases": cases, "files": files, "volumes": volumes, "images": images,
    }  # fmt: skip
    text = json.dumps(recording).replace(str(directory), "@DIRECTORY@")
    target.write_bytes(lzma.compress(text.encode(), preset=9))


def main(target: Path) -> None:
    directory = Path(tempfile.mkdtemp())
    wrap()
    cloud = Recorder(directory, hosts=3, reclaim=3600, offload_seconds=-1, vcpus=4096, move_seconds=0, live_seconds=0)
    for flavor in (Flavor("2", "larger", 2, 128, 2), Flavor("3", "too large", 4097, 64, 1)):
        cloud.db.run(lambda tx, flavor=flavor: flavors.insert_flavor(tx, flavor, SYSTEM_CLOCK.now()))
    cases = make_moves(cloud)
    OPERATIONS["rebuild"] = (OPERATIONS["rebuild"][0], action("rebuild", {"imageRef": cloud.image_id,
                             "adminPass": PASSWORD}), "ACTIVE")  # fmt: skip
    cases += make_operations(cloud, "running")
    cases += make_builds(cloud)
    cases += make_operations(cloud, "open")
    cases += make_open_builds(cloud)
    dump(cloud, directory, target, cases)
    sys.stdout.write(f"{len(cases)} cases in {target}\n")
    sys.stdout.flush()
    os._exit(0)  # threads stand still


if __name__ == "__main__":
    main(Path(sys.argv[1]))
