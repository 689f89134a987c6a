"""What may be done to a server in which state: every action in every state, asked over the wire."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cell_service.context import Deadline
from cell_service.db import instances, schema
from cell_service.model import shelved
from cell_service.model.lifecycle import Task, VmState
from mapping_db import moves
from tests.federation.cloud import Federation
from tests.suites.peers import WITH_AGENT

PUBLISHED = Path(__file__).parents[3] / "shared" / "api" / "states.json"
ACTIVE, STOPPED, PAUSED, SUSPENDED, ERROR = "active", "stopped", "paused", "suspended", "error"
RUNNING_OR_OFF, COPIED = {ACTIVE, STOPPED}, {ACTIVE, STOPPED, PAUSED, SUSPENDED}
FLAVOR, IMAGE = "FLAVOR", "IMAGE"

MAY: dict[str, tuple[Any, str, set[str]]] = {
    "os-start": (None, "start", {STOPPED}),
    "os-stop": (None, "stop", {ACTIVE, ERROR}),
    "reboot SOFT": ({"type": "SOFT"}, "reboot", {ACTIVE}),
    "reboot HARD": ({"type": "HARD"}, "reboot", {*COPIED, ERROR}),
    "pause": (None, "pause", {ACTIVE}),
    "unpause": (None, "unpause", {PAUSED}),
    "suspend": (None, "suspend", {ACTIVE}),
    "resume": (None, "resume", {SUSPENDED}),
    "rescue": ({}, "rescue", {*RUNNING_OR_OFF, ERROR}),
    "unrescue": (None, "unrescue", {"rescued"}),
    "changePassword": ({"adminPass": "secret"}, "changePassword", {ACTIVE}),
    "createImage": ({"name": "i"}, "createImage", COPIED),
    "createBackup": ({"name": "b", "backup_type": "daily", "rotation": 1}, "createBackup", COPIED),
    "rebuild": ({"imageRef": IMAGE}, "rebuild", {*RUNNING_OR_OFF, ERROR}),
    "resize": ({"flavorRef": FLAVOR}, "resize", RUNNING_OR_OFF),
    "migrate": (None, "migrate", RUNNING_OR_OFF),
    "confirmResize": (None, "confirmResize", {"resized"}),
    "revertResize": (None, "revertResize", {"resized"}),
    "os-migrateLive": ({"host": None, "block_migration": "auto"}, "os-migrateLive", {ACTIVE, PAUSED}),
    "shelve": (None, "shelve", COPIED),
    "shelveOffload": (None, "shelveOffload", {"shelved"}),
    "unshelve": (None, "unshelve", {"shelved", "shelved_offloaded"}),
    "restore": (None, "restore", {"soft-delete"}),
    "trigger_crash_dump": (None, "trigger_crash_dump", {ACTIVE, PAUSED, "rescued", "resized", ERROR}),
}
"""By action: body, its name in the error, the vm_states from which it may start (Compute API guide, "Server concepts",
and the API reference's preconditions)."""

OF_A_MOVE = ("confirmResize", "revertResize")
"""There is no move here that waits for them, and the answer says so. (They are done in test_moves.)"""

REBOOTABLE = {"rebooting", "rebooting_hard", "resuming", "unpausing", "suspending", "pausing"}
"""Tasks that a hard reboot may interrupt; nothing else interrupts any, but a delete."""


@pytest.fixture(scope="module")
def still(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Federation, str]]:
    """A cloud in which nobody carries anything out any more, and a server in it."""
    made = Federation(tmp_path_factory.mktemp("cloud"), cells=1, hosts=2, reclaim=3600)
    body = {"flavor": {"id": "2", "name": "larger", "vcpus": 2, "ram": 128, "disk": 2}}
    assert made.admin.post("/flavors", body).status == 200
    made.image_id = made.images.add(properties=WITH_AGENT)
    uuid = made.boot(made.user("owner", "states"))
    made.superconductor.stop(5)
    for conductor in made.conductors.values():
        conductor.stop()
    for fleet in made.fleets.values():
        fleet.stop(5)
    yield made, uuid
    made.close()


def put(cloud: Federation, uuid: str, vm_state: str, task: str | None) -> None:
    """The server is in that state, and nothing is promised to it."""
    with cloud.db.begin() as tx:
        tx.execute(moves.moves.delete())
    now = cloud.clock.now()

    def work(tx: Any) -> None:
        tx.execute(schema.operations.delete())
        known = shelved.done(instances.get(tx, uuid).system_metadata, cloud.image_id, None, now)
        columns = {"vm_state": VmState(vm_state), "task_state": Task(task) if task else None}
        instances.change(tx, uuid, now=now, system_metadata=known, **columns)

    cloud.cells.open(cloud.ids["cell1"]).db.run(work, Deadline.after(10))


def ask(cloud: Federation, uuid: str, action: str, by: Any = None) -> Any:
    content = MAY[action][0]
    if isinstance(content, dict):
        content = {name: {IMAGE: cloud.image_id, FLAVOR: "2"}.get(value, value) for name, value in content.items()}
    return (by or cloud.admin).post(f"/servers/{uuid}/action", {action.split()[0]: content}, version="2.96")


def published(name: str) -> list[str]:
    if not PUBLISHED.exists():
        pytest.skip("the published states are not there")
    found: list[str] = json.loads(PUBLISHED.read_text())[name]
    return found


@pytest.mark.parametrize("action", MAY)
def test_each_action_in_each_state(still: tuple[Federation, str], action: str) -> None:
    (cloud, uuid), (_, said, allowed) = still, MAY[action]
    wrong = []
    for state in published("vm_states"):
        if state == "deleted":
            continue
        put(cloud, uuid, state, None)
        answer = ask(cloud, uuid, action)
        if state in allowed:
            fits = answer.status in (200, 202, 204) or (action in OF_A_MOVE and answer.status == 400)
        else:
            words = f"Cannot '{said}' instance {uuid} while it is in vm_state {state}"
            fits = answer.status == 409 and answer.json["conflictingRequest"]["message"] == words
            fits = fits and cloud.show(uuid)["OS-EXT-STS:task_state"] is None
        if not fits:
            wrong.append((state, answer.status, answer.raw))
    assert not wrong


@pytest.mark.parametrize("action", MAY)
def test_each_action_during_each_task(still: tuple[Federation, str], action: str) -> None:
    (cloud, uuid), (_, said, allowed) = still, MAY[action]
    wrong, known = [], {task.value for task in Task}
    for task in published("task_states"):
        if task not in known:
            continue  # of other drivers
        put(cloud, uuid, min(allowed), task)
        answer = ask(cloud, uuid, action)
        if action == "reboot HARD" and task in REBOOTABLE:
            fits = answer.status == 202
        else:
            words = f"Cannot '{said}' instance {uuid} while it is in task_state {task}"
            fits = answer.status == 409 and answer.json["conflictingRequest"]["message"] == words
        if not fits:
            wrong.append((task, answer.status, answer.raw))
    assert not wrong


def test_a_locked_server_is_its_owners_to_unlock_only(still: tuple[Federation, str]) -> None:
    (cloud, uuid), owner = still, still[0].user("owner", "states")
    put(cloud, uuid, ACTIVE, None)
    assert cloud.act(uuid, "lock", by=owner).status == 202
    wrong = {}
    for action, (_, _, allowed) in MAY.items():
        put(cloud, uuid, min(allowed), None)
        answer = ask(cloud, uuid, action, by=owner)
        message = next(iter(answer.json.values()))["message"]
        if (answer.status, message) not in ((409, f"Instance {uuid} is locked"), (403, message)):
            wrong[action] = answer.raw
    assert owner.delete(f"/servers/{uuid}").status == 409
    put(cloud, uuid, ACTIVE, None)
    assert cloud.act(uuid, "unlock", by=owner).status == 202
    assert not wrong
