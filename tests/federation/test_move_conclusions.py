"""Confirming and reverting are answered at once; what a version does not know stops a move; passwords wait sealed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import update

from api_cell.servers.moves import kinds
from api_cell.superconductor import placing
from api_cell.superconductor.moves.recipe import Do
from cell_service.model.move import MoveKind, MovePhase
from cell_service.model.operation import BuildArguments
from compute_host.virt.simulated.driver import SimulatedDriver
from mapping_db import build_requests, moves, schema
from mapping_db.moves import Move
from tests.federation.cloud import Federation
from tests.federation.passwords import found_in
from tests.federation.test_moves import HOST, change, ended, force_down, start

PASSWORD = "S3cret-w0rd"


@pytest.fixture(scope="module")
def waiting(shared_cloud: Federation) -> str:
    """A server that waits to be confirmed."""
    with shared_cloud.running():
        uuid = shared_cloud.boot(cell="cell1")
        start(shared_cloud, uuid, MoveKind.COLD, target_host="cell1-host2")
        shared_cloud.until(lambda: move_of(shared_cloud, uuid).is_parked)
    return uuid


@pytest.fixture
def turned(cloud: Federation, waiting: str) -> Iterator[Any]:
    """Turns the waiting server's move to another phase, in which no super-conductor has it."""

    def turn(phase: MovePhase) -> None:
        values = {"phase": phase.value, "not_before": moves.BLOCKED}
        with cloud.db.begin() as tx:
            tx.execute(update(schema.moves).where(schema.moves.c.instance_uuid == waiting).values(values))

    yield turn
    values = {"phase": MovePhase.WAITING.value, "not_before": None}
    with cloud.db.begin() as tx:
        tx.execute(update(schema.moves).where(schema.moves.c.instance_uuid == waiting).values(values))


def move_of(cloud: Federation, uuid: str) -> Move:
    with cloud.db.connect() as tx:
        move = moves.active_of(tx, uuid)
    assert move is not None
    return move


def sealed(cloud: Federation, uuid: str) -> str | None:
    """The sealed password of the move, or of the instance that waits for its cell."""
    with cloud.db.connect() as tx:
        found = moves.get(tx, uuid) or build_requests.get(tx, uuid)
        return None if found is None else found.sealed


@pytest.mark.parametrize("action", ["confirmResize", "revertResize"])
def test_a_move_that_is_about_to_wait_is_busy(cloud: Federation, waiting: str, turned: Any, action: str) -> None:
    turned(MovePhase.GOING)
    answer = cloud.act(waiting, action)
    assert (answer.status, answer.headers["Retry-After"]) == (503, "1")


@pytest.mark.parametrize("phase", [MovePhase.CONFIRMING, MovePhase.REVERTING])
@pytest.mark.parametrize("action", ["confirmResize", "revertResize"])
def test_what_is_concluded_already_is_a_conflict(
    cloud: Federation, waiting: str, turned: Any, phase: MovePhase, action: str
) -> None:
    turned(phase)
    assert cloud.act(waiting, action).status == 409


@pytest.mark.parametrize("action", ["confirmResize", "revertResize"])
def test_who_sees_a_server_resized_can_conclude_it(
    cloud: Federation, monkeypatch: pytest.MonkeyPatch, action: str
) -> None:
    """At the very moment at which the cell shows it, before the super-conductor has recorded that."""
    uuid = cloud.boot(cell="cell1")
    by, answers = cloud.user("admin", "admin-project"), []

    def concluding(original: Do) -> Do:
        def act(context: Any) -> bool:
            done = original(context)
            if context.move.instance_uuid == uuid and not answers:
                assert cloud.show(uuid, by)["status"] == "VERIFY_RESIZE"
                answers.append(cloud.act(uuid, action, by=by).status)
            return done

        return act

    change(monkeypatch, MoveKind.COLD, "settle", concluding)
    start(cloud, uuid, MoveKind.COLD, target_host="cell2-host1")
    cloud.until(lambda: answers)
    assert answers == [204 if action == "confirmResize" else 202]
    ended(cloud, uuid)
    shown = cloud.settled(uuid)
    assert (shown["status"], shown[HOST]) == ("ACTIVE", "cell2-host1" if action == "confirmResize" else "cell1-host1")


def test_a_super_conductor_that_dies_before_the_cell_shows_it_is_followed(
    cloud: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    uuid = cloud.boot(cell="cell1")
    seen: list[MovePhase] = []

    class Killed(BaseException):
        """The process is gone, as far as the move knows."""

    def dying(original: Do) -> Do:
        def act(context: Any) -> bool:
            if context.move.instance_uuid == uuid and not seen:
                seen.append(move_of(cloud, uuid).phase)
                raise Killed
            return original(context)

        return act

    change(monkeypatch, MoveKind.COLD, "settle", dying)
    start(cloud, uuid, MoveKind.COLD, target_host="cell1-host2")
    cloud.until(lambda: move_of(cloud, uuid).is_parked)
    assert seen == [MovePhase.WAITING]
    assert cloud.show(uuid)["status"] == "VERIFY_RESIZE"
    assert cloud.act(uuid, "confirmResize").status == 204
    ended(cloud, uuid)


def test_a_move_with_a_step_that_is_not_known_is_left_alone(cloud: Federation) -> None:
    uuid = cloud.boot(cell="cell1")
    start(cloud, uuid, MoveKind.COLD, target_host="cell1-host2")
    cloud.until(lambda: move_of(cloud, uuid).is_parked)
    move = move_of(cloud, uuid)

    def record(done: tuple[str, ...]) -> None:
        values = {"plan": replace(move.plan, done=done, event_action=kinds.CONFIRM), "not_before": None}
        with cloud.db.begin() as tx:
            tx.execute(update(schema.moves).where(schema.moves.c.uuid == move.uuid).values(values))

    record((*move.plan.done, "teleport"))
    assert cloud.act(uuid, "confirmResize").status == 204
    left = cloud.until(lambda: (now := move_of(cloud, uuid)).not_before and now)
    assert left.phase is MovePhase.CONFIRMING
    assert (left.not_before - cloud.clock.now()).total_seconds() > 60
    record(move.plan.done)
    ended(cloud, uuid)


@pytest.mark.parametrize("there", ["cell1-host2", "cell2-host1"])
def test_the_password_of_an_evacuation_is_sealed_until_its_host_has_it(
    cloud: Federation, there: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    uuid = cloud.boot(cell="cell1")
    assert found_in(cloud, PASSWORD) == []
    receive, given, before, after = SimulatedDriver.receive, [], [], []

    def received(driver: SimulatedDriver, spec: Any, migrate_data: Any) -> None:
        if spec.instance.uuid == uuid:
            given.append(spec.admin_password)
        receive(driver, spec, migrate_data)

    def watched(original: Do) -> Do:
        def act(context: Any) -> bool:
            if context.move.instance_uuid == uuid and context.plan.awaited is None:
                before.append((found_in(cloud, PASSWORD), sealed(cloud, context.move.uuid) is not None))
            done = original(context)
            if context.move.instance_uuid == uuid and done:
                after.append((found_in(cloud, PASSWORD), sealed(cloud, context.move.uuid)))
            return done

        return act

    monkeypatch.setattr(SimulatedDriver, "receive", received)
    change(monkeypatch, MoveKind.EVACUATE, "arrive", watched)
    force_down(cloud, "cell1-host1", True)
    try:
        assert cloud.act(uuid, "evacuate", {"host": there, "adminPass": PASSWORD}).status == 200
        cloud.until(lambda: cloud.show(uuid)[HOST] == there)
        assert found_in(cloud, PASSWORD) == []
    finally:
        force_down(cloud, "cell1-host1", False)
    ended(cloud, uuid)
    assert given == [PASSWORD]
    assert [each for each in before if each != ([], True)] == []  # it may be tried twice
    assert [each for each in after if each != ([], None)] == []
    assert before
    assert after


def test_the_password_of_a_move_that_fails_goes_with_it(cloud: Federation, monkeypatch: pytest.MonkeyPatch) -> None:
    uuid = cloud.boot(cell="cell1")
    seen: list[bool] = []

    def failing(original: Do) -> Do:
        def act(context: Any) -> bool:
            if context.move.instance_uuid == uuid:
                seen.append(sealed(cloud, context.move.uuid) is not None)
                raise ValueError
            return original(context)

        return act

    change(monkeypatch, MoveKind.EVACUATE, "choose", failing)
    force_down(cloud, "cell1-host1", True)
    try:
        assert cloud.act(uuid, "evacuate", {"adminPass": PASSWORD}).status == 200
        (move,) = ended(cloud, uuid)
    finally:
        force_down(cloud, "cell1-host1", False)
    assert seen == [True]
    assert sealed(cloud, move.uuid) is None


@pytest.mark.parametrize("stored", ["sealed", "in clear by an earlier version"])
def test_the_password_of_a_new_server_is_sealed_until_its_cell_has_it(
    own_cloud: Federation, monkeypatch: pytest.MonkeyPatch, stored: str
) -> None:
    cloud, seen, given = own_cloud, [], []
    insert_new, hand_over, spawn = build_requests.insert_new, placing._hand_over, SimulatedDriver.spawn

    def recorded(tx: Any, requests: Any) -> None:
        build = BuildArguments(networks=(), admin_password=PASSWORD if stored != "sealed" else "")
        changes = {"build": build} if stored == "sealed" else {"build": build, "sealed": None}
        insert_new(tx, [replace(request, **changes) for request in requests])

    def handed_over(deps: Any, cell: Any, requests: Any) -> None:
        seen.extend((found_in(cloud, PASSWORD), sealed(cloud, each.instance_uuid) is not None) for each in requests)
        hand_over(deps, cell, requests)

    def spawned(driver: SimulatedDriver, spec: Any) -> None:
        given.append(spec.admin_password)
        spawn(driver, spec)

    monkeypatch.setattr(build_requests, "insert_new", recorded)
    monkeypatch.setattr(placing, "_hand_over", handed_over)
    monkeypatch.setattr(SimulatedDriver, "spawn", spawned)
    uuid = cloud.boot(adminPass=PASSWORD)
    assert seen == [([], True)]
    assert given == [PASSWORD]
    assert found_in(cloud, PASSWORD) == []
    assert sealed(cloud, uuid) is None
