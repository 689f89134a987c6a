"""Servers that move to other hosts, within a cell and between two."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import pytest

from api_cell.contract import SuperConductor
from api_cell.scheduler.scheduler import Scheduler
from api_cell.servers.moves import kinds
from api_cell.servers.moves import request as asking
from api_cell.superconductor.context import SuperConductorContext, SuperConductorSettings
from api_cell.superconductor.moves import another_host, recipes, rows, runner
from api_cell.superconductor.moves.recipe import Do
from api_cell.superconductor.moves.step_context import StepContext, StepFailed
from cell_service.context import Deadline, internal
from cell_service.db import actions, instances, server_migrations
from cell_service.errors import DriverError, OperationLost, Unavailable
from cell_service.model.lifecycle import Task
from cell_service.model.migration import ENDED
from cell_service.model.move import MoveKind, MovePhase, MovePlan
from cell_service.rpc.contract import client
from compute_host.virt.simulated.driver import SimulatedDriver
from mapping_db import instance_mappings, moves, quotas
from mapping_db.moves import Move
from tests.federation import volume_books
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
        cloud.cloud, ctx, client(SuperConductor, cloud.bus), cell, instance, kinds.of(kind),
        MovePlan(cross_cell=True, **plan),
    )  # fmt: skip


def flavor(cloud: Federation, **fields: Any) -> str:
    """A new flavor's id."""
    name = uuid4().hex
    body = {"flavor": {"id": name, "name": name, "vcpus": 2, "ram": 128, "disk": 2, **fields}}
    assert cloud.admin.post("/flavors", body).status == 200
    return name


def destination(cloud: Federation, uuid: str) -> tuple[str, str]:
    """The host and the address to which the server's one migration went, as the Compute API shows it."""
    (shown,) = cloud.admin.get(f"/os-migrations?instance_uuid={uuid}", version="2.59").json["migrations"]
    return shown["dest_compute"], shown["dest_host"]


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
    assert destination(cloud, uuid) == (shown[HOST], "127.0.0.1")


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
    assert destination(cloud, uuid) == ("cell2-host2", "127.0.0.1")
    moved = {HOST, "OS-EXT-SRV-ATTR:hypervisor_hostname", "hostId", "host_status", "updated",
             "OS-EXT-AZ:availability_zone"}  # fmt: skip
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
    assert destination(cloud, uuid) == ("cell2-host1", "127.0.0.1")
    cloud.until(lambda: cloud.act(uuid, how).status in (202, 204))
    home = "cell2-host1" if how == "confirmResize" else "cell1-host1"
    cloud.until(lambda: cloud.show(uuid)["status"] == "ACTIVE")
    ended(cloud, uuid)
    assert homes(cloud, uuid) == [home]
    assert cloud.show(uuid)[HOST] == home
    assert cloud.allocations()[uuid] == USES
    assert cloud.act(uuid, "reboot", {"type": "HARD"}).status == 202
    assert cloud.settled(uuid)["status"] == "ACTIVE"


@pytest.mark.parametrize("how", ["confirmResize", "revertResize"])
def test_a_resize_gives_another_flavor_and_its_claim(cloud: Federation, how: str) -> None:
    project = uuid4().hex
    user = cloud.user("u", project)
    uuid = cloud.boot(user)
    big = flavor(cloud)
    assert cloud.act(uuid, "resize", {"flavorRef": "1"}, user).status == 400
    assert cloud.act(uuid, "confirmResize", by=user).status == 409
    assert cloud.act(uuid, "resize", {"flavorRef": big}, user).status == 202
    shown = cloud.settled(uuid, user)
    assert (shown["status"], shown["flavor"]["vcpus"]) == ("VERIFY_RESIZE", 2)
    assert cloud.allocations()[uuid] == {"VCPU": 2, "MEMORY_MB": 128, "DISK_GB": 2}
    with cloud.db.connect() as tx:
        assert quotas.usage_of(tx, project) == {"instances": 1, "cores": 2, "ram": 128, "server_groups": 0}

    assert cloud.act(uuid, how, by=user).status in (202, 204)
    shown = cloud.until(lambda: (now := cloud.show(uuid, user))["status"] == "ACTIVE" and now)
    ended(cloud, uuid)
    kept = how == "confirmResize"
    assert shown["flavor"]["vcpus"] == (2 if kept else 1)
    assert cloud.allocations()[uuid] == ({"VCPU": 2, "MEMORY_MB": 128, "DISK_GB": 2} if kept else USES)
    with cloud.db.connect() as tx:
        has = {"cores": 2, "ram": 128} if kept else {"cores": 1, "ram": 64}
        assert quotas.usage_of(tx, project) == {"instances": 1, "server_groups": 0, **has}
    assert len(homes(cloud, uuid)) == 1
    migrations = cloud.admin.get(f"/os-migrations?instance_uuid={uuid}", version="2.59").json["migrations"]
    assert [each["status"] for each in migrations] == ["confirmed" if kept else "reverted"]


def test_a_move_without_a_place_to_go_changes_nothing(cloud: Federation) -> None:
    uuid = cloud.boot()
    before = cloud.show(uuid)
    assert cloud.act(uuid, "resize", {"flavorRef": flavor(cloud, ram=10_000_000)}).status == 202
    shown = cloud.settled(uuid)
    ended(cloud, uuid)
    assert (shown["status"], shown[HOST]) == ("ACTIVE", before[HOST])
    assert homes(cloud, uuid) == [before[HOST]]
    assert cloud.allocations()[uuid] == USES
    done = cloud.admin.get(f"/servers/{uuid}/os-instance-actions").json["instanceActions"][0]
    assert (done["action"], done["message"]) == ("resize", "Error")


class Killed(BaseException):
    """The process is gone, as far as the move knows."""


STEPS = {
    MoveKind.COLD: [
        *(step.name for step in recipes.TO_DESTINATION[MoveKind.COLD].steps[1:]),
        *(step.name for step in recipes.LATER[MovePhase.WAITING].steps),
    ],
    MoveKind.LIVE: [step.name for step in recipes.TO_DESTINATION[MoveKind.LIVE].steps[1:]],
}


def change(monkeypatch: pytest.MonkeyPatch, kind: MoveKind, name: str, changed: Callable[[Do], Do]) -> None:
    """Moves of that kind do something else in the step."""
    tables: list[tuple[dict[Any, Any], Any]] = [
        (recipes.TO_DESTINATION, kind), (recipes.LATER, MovePhase.WAITING)]  # fmt: skip
    for table, key in tables:
        recipe = table[key]
        if any(step.name == name for step in recipe.steps):
            steps = tuple(
                dataclasses.replace(step, do=changed(step.do)) if step.name == name else step for step in recipe.steps
            )
            monkeypatch.setitem(table, key, dataclasses.replace(recipe, steps=steps))
            return
    raise AssertionError(f"no step {name}")


class OnHost:
    """A server whose disk is on its host, and what must hold of it besides what holds of all."""

    uses = USES

    def boot(self, cloud: Federation) -> str:
        return cloud.boot(cell="cell1")

    def check(self, cloud: Federation, uuid: str, host: str) -> None:
        assert cloud.show(uuid)["os-extended-volumes:volumes_attached"] == []

    def check_gone(self, cloud: Federation, uuid: str) -> None:
        """Nothing more than of all."""


class OnVolumes:
    uses = {"VCPU": 1, "MEMORY_MB": 64}

    def boot(self, cloud: Federation) -> str:
        return volume_books.on_volumes(cloud)

    def check(self, cloud: Federation, uuid: str, host: str) -> None:
        volume_books.check_volumes(cloud, uuid, host)

    def check_gone(self, cloud: Federation, uuid: str) -> None:
        assert volume_books.attachments(cloud, uuid) == []


MADE = pytest.mark.parametrize("made", [OnHost(), OnVolumes()], ids=["host", "volumes"])


@pytest.mark.wide
@MADE
@pytest.mark.parametrize("there", ["cell1-host2", "cell2-host1"])
@pytest.mark.parametrize(("kind", "step"), [(kind, name) for kind, names in STEPS.items() for name in names])
def test_killed_at_any_step_a_move_is_taken_over(
    cloud: Federation,
    kind: MoveKind,
    step: str,
    there: str,
    made: OnHost | OnVolumes,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The step is done, and the process dies before it has recorded that."""
    uuid = made.boot(cloud)
    struck = []

    def dying(original: Do) -> Do:
        def act(context: Any) -> bool:
            done = original(context)
            if done and context.move.instance_uuid == uuid and not struck:
                struck.append(step)
                raise Killed
            return done

        return act

    change(monkeypatch, kind, step, dying)
    start(cloud, uuid, kind, target_host=there)
    cloud.until(lambda: cloud.show(uuid)["status"] == ("ACTIVE" if kind is MoveKind.LIVE else "VERIFY_RESIZE")
                and cloud.show(uuid)[HOST] == there)  # fmt: skip
    assert struck == [step]
    if kind is MoveKind.COLD:
        cloud.until(lambda: cloud.act(uuid, "confirmResize").status == 204)
        cloud.until(lambda: cloud.show(uuid)["status"] == "ACTIVE")
    ended(cloud, uuid)
    assert homes(cloud, uuid) == [there]
    assert cloud.allocations()[uuid] == made.uses
    made.check(cloud, uuid, there)


@pytest.mark.wide
@MADE
@pytest.mark.parametrize("there", ["cell1-host2", "cell2-host1"])
@pytest.mark.parametrize("step", STEPS[MoveKind.COLD][:6])
def test_what_fails_before_the_commit_is_undone(
    cloud: Federation, step: str, there: str, made: OnHost | OnVolumes, monkeypatch: pytest.MonkeyPatch
) -> None:
    uuid = made.boot(cloud)

    def failing(original: Do) -> Do:
        def act(context: Any) -> bool:
            if context.move.instance_uuid == uuid:
                raise StepFailed("It was not to be.")
            return original(context)

        return act

    change(monkeypatch, MoveKind.COLD, step, failing)
    start(cloud, uuid, MoveKind.COLD, target_host=there)
    ended(cloud, uuid)
    shown = cloud.settled(uuid)
    assert (shown["status"], shown[HOST]) == ("ACTIVE", "cell1-host1")
    assert homes(cloud, uuid) == ["cell1-host1"]
    assert cloud.allocations()[uuid] == made.uses
    made.check(cloud, uuid, "cell1-host1")
    assert cloud.act(uuid, "os-stop").status == 202
    assert cloud.settled(uuid)["status"] == "SHUTOFF"


@pytest.mark.parametrize("there", ["cell1-host2", "cell2-host1"])
def test_a_server_that_waits_for_its_confirmation_can_be_deleted(cloud: Federation, there: str) -> None:
    uuid = cloud.boot(cell="cell1")
    start(cloud, uuid, MoveKind.COLD, target_host=there)
    cloud.until(lambda: cloud.show(uuid)["status"] == "VERIFY_RESIZE")
    assert cloud.admin.delete(f"/servers/{uuid}").status == 204
    cloud.until(lambda: cloud.gone(uuid))
    (move,) = ended(cloud, uuid)
    assert homes(cloud, uuid) == []
    cloud.until(lambda: uuid not in cloud.allocations())
    assert move.uuid not in cloud.allocations()


@pytest.mark.parametrize("there", ["cell1-host2", "cell2-host1"])
def test_a_delete_just_before_the_move_rests_ends_it(
    cloud: Federation, there: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    uuid = cloud.boot(cell="cell1")
    deleter = cloud.user("admin", "admin")

    def deleting(original: Do) -> Do:
        def act(context: Any) -> bool:
            done = original(context)
            if done and context.move.instance_uuid == uuid:
                assert deleter.delete(f"/servers/{uuid}").status == 204
            return done

        return act

    change(monkeypatch, MoveKind.COLD, "run", deleting)
    start(cloud, uuid, MoveKind.COLD, target_host=there)
    cloud.until(lambda: cloud.gone(uuid))
    (move,) = ended(cloud, uuid)
    assert homes(cloud, uuid) == []
    cloud.until(lambda: uuid not in cloud.allocations())
    assert move.uuid not in cloud.allocations()


@pytest.mark.wide
@MADE
@pytest.mark.parametrize("there", ["cell1-host2", "cell2-host1"])
@pytest.mark.parametrize("step", STEPS[MoveKind.COLD])
def test_a_delete_overtakes_a_move(
    cloud: Federation, step: str, there: str, made: OnHost | OnVolumes, monkeypatch: pytest.MonkeyPatch
) -> None:
    uuid = made.boot(cloud)
    deleter = cloud.user("admin", "admin")

    def deleting(original: Do) -> Do:
        def act(context: Any) -> bool:
            if context.move.instance_uuid == uuid and context.plan.awaited is None:
                assert deleter.delete(f"/servers/{uuid}").status in (204, 404)
            return original(context)

        return act

    change(monkeypatch, MoveKind.COLD, step, deleting)
    start(cloud, uuid, MoveKind.COLD, target_host=there)
    cloud.until(lambda: cloud.gone(uuid))
    (move,) = ended(cloud, uuid)
    cloud.until(lambda: homes(cloud, uuid) == [])
    cloud.until(lambda: uuid not in cloud.allocations())
    assert move.uuid not in cloud.allocations()
    assert set(migration_statuses(cloud, uuid)) <= {"error", "confirmed"}
    cloud.until(lambda: not cloud.unfinished())
    made.check_gone(cloud, uuid)


def test_a_delete_that_is_through_before_a_host_is_chosen_leaves_no_claim(
    cloud: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    uuid = cloud.boot(cell="cell1")
    deleter = cloud.user("admin", "admin")

    def deleting(original: Do) -> Do:
        def act(context: Any) -> bool:
            if context.move.instance_uuid == uuid:
                assert deleter.delete(f"/servers/{uuid}").status in (204, 404)
                cloud.until(lambda: uuid not in cloud.allocations())
            return original(context)

        return act

    change(monkeypatch, MoveKind.COLD, "choose", deleting)
    start(cloud, uuid, MoveKind.COLD)
    cloud.until(lambda: cloud.gone(uuid))
    (move,) = ended(cloud, uuid)
    assert {uuid, move.uuid}.isdisjoint(cloud.allocations())


def migration_statuses(cloud: Federation, uuid: str) -> list[str]:
    """As all cells together have them."""
    found = []
    for name in cloud.names[1:]:
        with cloud.cells.open(cloud.ids[name]).db.connect(Deadline.after(10)) as tx:
            found += [each.status for each in server_migrations.of_instance(tx, uuid)]
    return found


def test_a_move_whose_cell_was_silent_from_the_start_leaves_no_task(
    cloud: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The API has begun it in the cell and died; the cell says nothing until the move is given up."""
    uuid = cloud.boot(cell="cell1")

    def unanswered(original: Do) -> Do:
        def act(context: Any) -> bool:
            done = original(context)
            if context.move.instance_uuid == uuid:
                raise Unavailable(reason="The cell does not answer.")
            return done

        return act

    change(monkeypatch, MoveKind.COLD, kinds.BEGIN, unanswered)
    monkeypatch.setattr(runner, "PATIENCE", 1)
    with monkeypatch.context() as dying:
        dying.setattr("mapping_db.moves.rest", lambda *_, **__: None)  # nobody hears that it has begun
        dying.setattr(asking, "LEASE_SECONDS", 0.1)
        start(cloud, uuid, MoveKind.COLD)
    ended(cloud, uuid)
    shown = cloud.settled(uuid)
    assert (shown["status"], shown["OS-EXT-STS:task_state"]) == ("ACTIVE", None)


@pytest.mark.parametrize("kind", [MoveKind.LIVE, MoveKind.COLD], ids=str)
def test_a_move_that_is_undone_is_not_begun_late(
    cloud: Federation, monkeypatch: pytest.MonkeyPatch, kind: MoveKind
) -> None:
    """The API has recorded it, and is frozen before it begins it in the cell; meanwhile it is given up."""
    uuid = cloud.boot(cell="cell1")
    host_stays, thaw, frozen = asking._demand_host_stays, threading.Event(), threading.Event()

    def freeze(cloud: Any, move: Move) -> None:
        if move.instance_uuid == uuid:
            frozen.set()
            assert thaw.wait(100)
        host_stays(cloud, move)

    def unanswered(original: Do) -> Do:
        def act(context: Any) -> bool:
            if context.move.instance_uuid == uuid:
                raise Unavailable(reason="The cell does not answer.")
            return original(context)

        return act

    change(monkeypatch, kind, kinds.BEGIN, unanswered)
    monkeypatch.setattr(runner, "PATIENCE", 1)
    monkeypatch.setattr(asking, "_demand_host_stays", freeze)
    monkeypatch.setattr(asking, "LEASE_SECONDS", 0.1)
    with ThreadPoolExecutor(1) as pool:
        client = pool.submit(start, cloud, uuid, kind)
        assert frozen.wait(100)
        ended(cloud, uuid)
        thaw.set()
        client.result(100)
    shown = cloud.show(uuid)
    assert (shown["status"], shown["OS-EXT-STS:task_state"]) == ("ACTIVE", None)
    (status,) = migration_statuses(cloud, uuid)
    assert status in ENDED
    with cloud.cells.open(cloud.ids["cell1"]).db.connect(Deadline.after(10)) as tx:
        (action,) = [each for each in actions.list_of(tx, uuid) if each.action != "create"]
    assert action.message == actions.ERROR


@pytest.mark.parametrize("deleted", [False, True], ids=["alive", "deleted"])
def test_the_move_that_goes_on_waits_until_the_cell_knows_of_it(
    cloud: Federation, monkeypatch: pytest.MonkeyPatch, deleted: bool
) -> None:
    """What is copied to another cell, and what a delete ends, are the migrations as they are then."""
    uuid = cloud.boot(cell="cell1")
    show_successor = another_host.show_successor
    refused: list[str] = []
    receive = SimulatedDriver.receive
    seen: list[tuple[str, ...]] = []

    def failing(driver: SimulatedDriver, spec: Any, migrate_data: Any) -> None:
        if spec.instance.uuid == uuid and not refused:
            refused.append(spec.instance.host)
            raise DriverError(reason="No.")
        receive(driver, spec, migrate_data)

    def show_next(context: Any) -> bool:
        if context.move.instance_uuid == uuid and len(seen) < 3:
            with cloud.db.connect() as tx:
                (successor,) = [moves.get(tx, row.uuid) for row in every(tx, uuid) if row.uuid != context.move.uuid]
            assert successor is not None
            seen.append(successor.plan.done)
            raise Unavailable(reason="Nobody answers.")
        if context.move.instance_uuid == uuid and deleted:
            assert cloud.admin.delete(f"/servers/{uuid}").status in (204, 404)
        return show_successor(context)

    monkeypatch.setattr(another_host, "show_successor", show_next)
    monkeypatch.setattr(SimulatedDriver, "receive", failing)
    start(cloud, uuid, MoveKind.LIVE)
    assert len(ended(cloud, uuid)) == 2
    assert seen == [("begin", "leave")] * 3
    assert set(migration_statuses(cloud, uuid)) == ({"error"} if deleted else {"error", "completed"})


@pytest.mark.parametrize("kind", [MoveKind.COLD, MoveKind.LIVE])
def test_a_host_that_cannot_take_the_server_is_passed_over(
    cloud: Federation, kind: MoveKind, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first host that is chosen fails: whichever it is, the next one is in the other cell, or in its own."""
    uuid = cloud.boot(cell="cell1")
    refused = []
    receive = SimulatedDriver.receive

    def failing(driver: SimulatedDriver, spec: Any, migrate_data: Any) -> None:
        if spec.instance.uuid == uuid and not refused:
            refused.append(spec.instance.host)
            raise DriverError(reason="No.")
        receive(driver, spec, migrate_data)

    monkeypatch.setattr(SimulatedDriver, "receive", failing)
    start(cloud, uuid, kind)
    cloud.until(lambda: cloud.show(uuid)["status"] == ("ACTIVE" if kind is MoveKind.LIVE else "VERIFY_RESIZE")
                and cloud.show(uuid)[HOST] != "cell1-host1")  # fmt: skip
    if kind is MoveKind.COLD:
        cloud.until(lambda: cloud.act(uuid, "confirmResize").status == 204)
        cloud.until(lambda: cloud.show(uuid)["status"] == "ACTIVE")
    first, second = ended(cloud, uuid)
    assert first.target_host in refused
    assert second.target_host == cloud.show(uuid)[HOST] != first.target_host
    assert homes(cloud, uuid) == [second.target_host]
    assert cloud.allocations()[uuid] == USES
    assert {first.uuid, second.uuid}.isdisjoint(cloud.allocations())
    assert migration_statuses(cloud, uuid)[-1] in ("confirmed", "completed")


def test_who_comes_late_does_not_touch_the_next_move(cloud: Federation) -> None:
    """A super-conductor that was frozen goes on with a move that others have ended."""
    uuid = cloud.boot(cell="cell1")
    start(cloud, uuid, MoveKind.LIVE, target_host="cell1-host2")
    ended(cloud, uuid)
    with cloud.db.connect() as tx:
        row = tx.execute(moves.moves.select().where(moves.moves.c.instance_uuid == uuid)).one()
        old = moves.get(tx, row.uuid)
    assert old is not None
    start(cloud, uuid, MoveKind.COLD, target_host="cell1-host1")
    deps = SuperConductorContext(cloud.cloud, Scheduler(cloud.cloud), SuperConductorSettings(), "late")
    for late in (
        rows.hand_over_here,
        rows.hand_back_here,
        lambda context: rows.show(context, context.source, Task.MIGRATING, "running"),
    ):
        with pytest.raises(OperationLost):
            late(StepContext(deps, old))
    cloud.until(lambda: cloud.show(uuid)["status"] == "VERIFY_RESIZE")
    assert cloud.show(uuid)[HOST] == "cell1-host1"
    cloud.until(lambda: cloud.act(uuid, "revertResize").status == 202)
    ended(cloud, uuid)
    assert homes(cloud, uuid) == ["cell1-host2"]


def force_down(cloud: Federation, host: str, down: bool) -> None:
    body = {"host": host, "binary": "nova-compute", "forced_down": down}
    answer = cloud.admin.put("/os-services/force-down", body, version="2.11")
    assert answer.status == 200, answer.raw


@pytest.mark.parametrize("there", ["cell1-host2", "cell2-host1"])
def test_a_server_leaves_a_dead_host_which_clears_it_when_it_is_back(cloud: Federation, there: str) -> None:
    uuid = cloud.boot(cell="cell1")
    assert cloud.act(uuid, "evacuate", {}).status == 400  # its host is up
    force_down(cloud, "cell1-host1", True)
    try:
        assert cloud.act(uuid, "evacuate", {"host": there}).status == 200
        cloud.until(lambda: cloud.show(uuid)[HOST] == there)
        shown = cloud.settled(uuid)
        assert (shown["status"], shown.get("fault")) == ("ACTIVE", None)
        assert there in homes(cloud, uuid)
        assert len(cloud.allocations()) >= 2  # the dead host's room is not free yet
    finally:
        force_down(cloud, "cell1-host1", False)
    (move,) = ended(cloud, uuid)
    assert homes(cloud, uuid) == [there]
    assert move.uuid not in cloud.allocations()
    assert cloud.allocations()[uuid] == USES
    assert cloud.act(uuid, "reboot", {"type": "HARD"}).status == 202
    assert cloud.settled(uuid)["status"] == "ACTIVE"


def test_the_evacuation_of_a_stopped_server_leaves_it_stopped(cloud: Federation) -> None:
    uuid = cloud.boot(cell="cell1")
    assert cloud.act(uuid, "os-stop").status == 202
    assert cloud.settled(uuid)["status"] == "SHUTOFF"
    force_down(cloud, "cell1-host1", True)
    try:
        assert cloud.act(uuid, "evacuate", {"host": "cell1-host2"}).status == 200
        cloud.until(lambda: cloud.show(uuid)[HOST] == "cell1-host2")
        assert cloud.settled(uuid)["status"] == "SHUTOFF"
    finally:
        force_down(cloud, "cell1-host1", False)
    ended(cloud, uuid)
    assert homes(cloud, uuid) == ["cell1-host2"]


def test_no_evacuation_begins_before_the_cell_shows_the_end_of_an_earlier_move(cloud: Federation) -> None:
    """It would take the records of the earlier one along into another cell, where they would say for good that it is
    under way."""
    uuid = cloud.boot(cell="cell1")
    with cloud.db.connect() as tx:
        mapping = instance_mappings.get(tx, uuid)
    assert mapping.cell_id is not None
    now, cell = cloud.clock.now(), cloud.cells.open(mapping.cell_id)
    released = Move(str(uuid4()), uuid, MoveKind.LIVE, MovePhase.UNDOING, "req", "u", mapping.project_id, now,
                    mapping.cell_id, "cell1-host1", owner="another", lease_until=moves.BLOCKED)  # fmt: skip
    released = dataclasses.replace(released, id=cloud.db.run(lambda tx: moves.insert_new(tx, released)))
    cell.db.run(lambda tx: server_migrations.store(tx, asking.migration_of(released, "queued")), Deadline.after(60))
    force_down(cloud, "cell1-host1", True)
    try:
        refused = cloud.act(uuid, "evacuate", {"host": "cell1-host2"})
        assert (refused.status, "migrating" in refused.raw.decode()) == (409, True)
        assert cloud.show(uuid)["OS-EXT-STS:task_state"] is None
        cell.db.run(lambda tx: server_migrations.change(tx, released.uuid, now, status="error"), Deadline.after(60))
        assert cloud.act(uuid, "evacuate", {"host": "cell1-host2"}).status == 200
        cloud.until(lambda: cloud.show(uuid)[HOST] == "cell1-host2")
        cloud.settled(uuid)
    finally:
        force_down(cloud, "cell1-host1", False)
        cloud.db.run(lambda tx: moves.withdraw(tx, released.uuid, "another"))
    ended(cloud, uuid)


def test_a_resize_confirms_itself_when_nobody_does(own_cloud: Federation) -> None:
    uuid = own_cloud.boot(cell="cell1")
    runner = own_cloud.superconductor._runner
    start(own_cloud, uuid, MoveKind.COLD)
    own_cloud.until(lambda: own_cloud.show(uuid)["status"] == "VERIFY_RESIZE")
    runner.confirm_late()  # no window is configured
    assert own_cloud.show(uuid)["status"] == "VERIFY_RESIZE"
    runner._deps = dataclasses.replace(
        runner._deps, settings=dataclasses.replace(runner._deps.settings, resize_confirm_seconds=1)
    )

    def confirmed() -> bool:
        runner.confirm_late()
        return bool(own_cloud.show(uuid)["status"] == "ACTIVE")

    own_cloud.until(confirmed)
    ended(own_cloud, uuid)
    assert homes(own_cloud, uuid) == [own_cloud.show(uuid)[HOST]]


def test_a_server_that_leaves_its_cell_is_still_removed_from_the_dead_host_it_left_before(cloud: Federation) -> None:
    uuid = cloud.boot(cell="cell1")
    force_down(cloud, "cell1-host1", True)
    try:
        assert cloud.act(uuid, "evacuate", {"host": "cell1-host2"}).status == 200
        cloud.until(lambda: cloud.show(uuid)[HOST] == "cell1-host2")
        assert cloud.settled(uuid)["status"] == "ACTIVE"
        cloud.until(lambda: cloud.act(uuid, "os-migrateLive", live("cell2-host2")).status == 202)
        cloud.until(lambda: cloud.show(uuid)[HOST] == "cell2-host2")
        assert cloud.settled(uuid)["status"] == "ACTIVE"
        assert "cell1-host1" in homes(cloud, uuid)
    finally:
        force_down(cloud, "cell1-host1", False)
    ended(cloud, uuid)
    assert homes(cloud, uuid) == ["cell2-host2"]
    cloud.until(lambda: cloud.allocations()[uuid] == USES)


def live(host: str) -> dict[str, Any]:
    return {"host": host, "block_migration": "auto"}


def test_a_server_can_move_again_as_soon_as_it_has_no_task(cloud: Federation) -> None:
    """Also to the one host that has still to remove something of the move before."""
    uuid = cloud.boot(cell="cell1")

    def at_rest(status: str) -> bool:
        shown = cloud.show(uuid)
        return (shown["status"], shown["OS-EXT-STS:task_state"]) == (status, None)

    for _ in range(2):
        assert cloud.act(uuid, "migrate").status == 202
        cloud.until(lambda: at_rest("VERIFY_RESIZE"))
        assert cloud.act(uuid, "revertResize").status == 202
        cloud.until(lambda: at_rest("ACTIVE"))
    assert cloud.act(uuid, "os-migrateLive", {"host": "cell1-host2", "block_migration": "auto"}).status == 202
    cloud.until(lambda: at_rest("ACTIVE"))
    assert cloud.act(uuid, "migrate").status == 202
    cloud.until(lambda: at_rest("VERIFY_RESIZE"))
    assert cloud.act(uuid, "confirmResize").status == 204
    cloud.until(lambda: at_rest("ACTIVE"))
    with cloud.db.connect() as tx:
        made = [moves.get(tx, row.uuid) for row in ended(cloud, uuid)]
    assert [move.plan.fault for move in made if move is not None] == [""] * 4
    assert homes(cloud, uuid) == [cloud.show(uuid)[HOST]]
