"""What must hold of `operations` on every kind of database. A subclass gives the fixture `url`: an empty database."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import Connection, select, update

from cell_service.context import internal
from cell_service.db import actions, claims, compute_nodes, instances, operations, services, stages
from cell_service.db.schema import metadata
from cell_service.db.schema import operations as operation_table
from cell_service.db.sql.engine import Database, PoolLimits
from cell_service.errors import ActionNotFound, ComputeNodeTaken, OperationLost, ServiceNotFound
from cell_service.model.host import NodeReport
from cell_service.model.instance import Flavor, Instance
from cell_service.model.lifecycle import Task, VmState
from cell_service.model.operation import BUILD_PASSWORD, BuildArguments, ClaimedOperation, Phase, StoredOperation
from cell_service.operations.builds import BUILD
from cell_service.operations.declaration import Operation
from cell_service.operations.deletes import DELETE
from cell_service.operations.power import START, STOP
from cell_service.operations.rescue import RESCUE

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
SOON, LATE = NOW + timedelta(seconds=30), NOW + timedelta(seconds=90)
LEASE = 60.0
RACERS = 6


def at_once(work: Callable[[int], object]) -> list[object]:
    """What each racer got, all let go at the same moment."""
    gate = threading.Barrier(RACERS)

    def run(number: int) -> object:
        gate.wait(timeout=60)
        return work(number)

    with ThreadPoolExecutor(RACERS) as pool:
        return list(pool.map(run, range(RACERS)))


def building() -> Instance:
    return Instance(
        str(uuid4()), "p", "u", "s", Flavor("1", "tiny", 1, 64, 1), NOW,
        vm_state=VmState.BUILDING, task_state=Task.SCHEDULING, host="h1",
    )  # fmt: skip


class OperationsSuite:
    @pytest.fixture
    def db(self, url: str) -> Iterator[Database]:
        database = Database(url, PoolLimits(size=RACERS))
        metadata.create_all(database.engine)
        yield database
        database.dispose()

    def add(
        self, db: Database, kind: Operation[Any, Any] = BUILD, *, uuid: str = "", host: str | None = "h1"
    ) -> StoredOperation:
        def work(tx: Connection) -> StoredOperation | None:
            build = BuildArguments(admin_password="secret") if kind is BUILD else None
            instance = replace(building(), **({"uuid": uuid} if uuid else {}))
            instances.insert_new(tx, instance)
            new = operations.new_operation(
                kind, internal(), instance.uuid, host, NOW, build=build, sealer=db.sealer_in(tx),
                deadline=NOW + timedelta(hours=1),
            )  # fmt: skip
            key = operations.insert(tx, new)
            return operations.get(tx, key)

        added = db.run(work)
        assert added is not None
        return added

    def claim(
        self, db: Database, host: str | None = "h1", *, now: datetime = NOW, owner: str = "h1", **more: object
    ) -> list[ClaimedOperation]:
        limit = int(more.pop("limit", 10))  # type: ignore[call-overload]
        return db.run(lambda tx: claims.claim(tx, host, owner=owner, now=now, lease_seconds=LEASE, limit=limit, **more))

    def test_each_operation_is_claimed_by_one_of_many(self, db: Database) -> None:
        added = {self.add(db).id for _ in range(12)}
        taken = at_once(lambda number: [one.id for one in self.claim(db, owner=f"racer{number}")])
        flat = [key for each in taken for key in each]  # type: ignore[attr-defined]
        assert sorted(flat) == sorted(set(flat))
        while rest := self.claim(db, owner="last", holding=flat):
            flat += [one.id for one in rest]
        assert set(flat) == added

    def test_one_of_many_ends_an_operation(self, db: Database) -> None:
        self.add(db)
        (held,) = self.claim(db)

        def end(_number: int) -> bool:
            try:
                db.run(lambda tx: operations.finish(tx, held.operation, Phase.DONE, SOON))
            except OperationLost:
                return False
            return True

        assert at_once(end).count(True) == 1

    def test_a_delete_and_an_end_exclude_each_other(self, db: Database) -> None:
        for _ in range(5):
            uuid = self.add(db).instance_uuid
            (held,) = self.claim(db)

            def act(number: int, uuid: str = uuid, held: StoredOperation = held) -> str:
                if number % 2:
                    return "superseded" if db.run(lambda tx: operations.supersede(tx, uuid, SOON)) else ""
                try:
                    db.run(lambda tx: operations.finish(tx, held.operation, Phase.DONE, SOON))
                except OperationLost:
                    return ""
                return "done"

            assert len([one for one in at_once(act) if one]) == 1

    def test_a_held_operation_is_nobody_elses_until_its_lease_is_over(self, db: Database) -> None:
        self.add(db)
        (held,) = self.claim(db)
        assert self.claim(db, owner="other", now=SOON) == []
        (taken,) = self.claim(db, owner="other", now=LATE)
        assert taken.fence > held.fence
        assert taken.operation.attempt == 2
        assert not db.run(lambda tx: operations.renew(tx, held.id, held.fence, now=LATE, lease_seconds=LEASE))
        with pytest.raises(OperationLost):
            db.run(lambda tx: operations.finish(tx, held.operation, Phase.DONE, LATE))

    def test_a_renewed_lease_holds(self, db: Database) -> None:
        self.add(db)
        (held,) = self.claim(db)
        assert db.run(lambda tx: operations.renew(tx, held.id, held.fence, now=SOON, lease_seconds=LEASE))
        assert self.claim(db, owner="other", now=NOW + timedelta(seconds=80)) == []

    def test_the_same_owner_gets_what_it_holds_unless_it_knows(self, db: Database) -> None:
        self.add(db)
        (held,) = self.claim(db)
        assert self.claim(db, holding=(held.id,)) == []
        (again,) = self.claim(db)
        assert (again.id, again.fence) == (held.id, held.fence + 1)

    def test_of_an_instance_only_the_oldest_is_taken(self, db: Database) -> None:
        first = self.add(db, STOP)
        second = self.add(db, START, uuid=first.instance_uuid)
        (held,) = self.claim(db)
        assert held.id == first.id
        assert self.claim(db, holding=(held.id,)) == []
        db.run(lambda tx: operations.finish(tx, held.operation, Phase.DONE, SOON))
        assert [one.id for one in self.claim(db)] == [second.id]

    def test_builds_come_last_and_only_so_many(self, db: Database) -> None:
        builds = [self.add(db).id for _ in range(3)]
        delete = self.add(db, DELETE)
        assert [one.id for one in self.claim(db, limit=3, builds=1)] == [delete.id, builds[0]]
        assert [one.id for one in self.claim(db, limit=1, owner="other")] == [builds[1]]

    def test_conductors_have_what_has_no_host_and_what_moves(self, db: Database) -> None:
        self.add(db)
        (held,) = self.claim(db)
        db.run(lambda tx: operations.to_moving(tx, held.id, held.fence, BuildArguments(), {"final": False}))
        alone = self.add(db, DELETE, host=None)
        taken = {one.id: one.operation.phase for one in self.claim(db, None, owner="conductor")}
        assert taken == {held.id: Phase.MOVING, alone.id: Phase.RUNNING}
        assert self.claim(db, "h1", now=LATE) == []

    def test_a_moved_build_is_open_for_its_next_host_alone(self, db: Database) -> None:
        self.add(db)
        (held,) = self.claim(db)
        db.run(lambda tx: operations.to_moving(tx, held.id, held.fence, BuildArguments(), {}))
        (moving,) = self.claim(db, None, owner="conductor")
        db.run(lambda tx: operations.reopen_on(tx, moving.id, moving.fence, "h2", BuildArguments(hosts_tried=("h1",))))
        with pytest.raises(OperationLost):
            db.run(lambda tx: operations.reopen_on(tx, moving.id, moving.fence, "h3", BuildArguments()))
        assert self.claim(db, "h1") == []
        (there,) = self.claim(db, "h2", owner="h2")
        assert there.build == BuildArguments(hosts_tried=("h1",))

    def test_what_is_postponed_waits_and_comes_again(self, db: Database) -> None:
        self.add(db, DELETE)
        (held,) = self.claim(db)
        assert db.run(lambda tx: operations.postpone(tx, held.id, held.fence, SOON))
        assert self.claim(db) == []
        with db.connect() as tx:
            assert operations.open_for(tx, "h1", NOW) == 0
            assert operations.open_for(tx, "h1", LATE) == 1
        assert len(self.claim(db, now=LATE)) == 1

    def test_secrets_of_a_build_go_with_its_end(self, db: Database) -> None:
        done, superseded = self.add(db), self.add(db)
        for held in self.claim(db):
            if held.id == done.id:
                db.run(lambda tx, one=held: operations.finish(tx, one.operation, Phase.DONE, SOON))
        db.run(lambda tx: operations.supersede(tx, superseded.instance_uuid, SOON))
        with db.connect() as tx:
            assert [getattr(operations.get(tx, one.id), "build", "") for one in (done, superseded)] == [None, None]
            assert tx.scalars(select(operation_table.c.sealed)).all() == [None, None]

    def test_a_secret_is_sealed_while_it_waits_and_opened_for_who_claims_it(self, db: Database) -> None:
        self.add(db)
        with db.connect() as tx:
            assert "secret" not in str(tx.execute(select(operation_table)).all())
            (sealed,) = tx.scalars(select(operation_table.c.sealed))
        (held,) = self.claim(db)
        assert held.sealed == sealed
        assert json.loads(db.sealer().open(sealed)) == {BUILD_PASSWORD: "secret"}

    def test_what_an_earlier_version_stored_in_clear_goes_with_the_end(self, db: Database) -> None:
        ended, superseded = self.add(db, RESCUE), self.add(db, RESCUE)
        for one in (ended, superseded):
            clear = (
                update(operation_table)
                .where(operation_table.c.id == one.id)
                .values(arguments={"admin_password": "secret", "stable": True})
            )
            db.run(lambda tx, clear=clear: tx.execute(clear))
        for held in self.claim(db):
            assert RESCUE.read(held.operation.arguments).admin_password == "secret"
            if held.id == ended.id:
                db.run(lambda tx, one=held: operations.finish(tx, one.operation, Phase.DONE, SOON))
        db.run(lambda tx: operations.supersede(tx, superseded.instance_uuid, SOON))
        with db.connect() as tx:
            found = [operations.get(tx, one.id) for one in (ended, superseded)]
        assert [one.arguments for one in found if one is not None] == [{"stable": True}] * 2

    def test_overdue_are_all_but_deletes_and_moving_builds(self, db: Database) -> None:
        stop = self.add(db, STOP)
        self.add(db, DELETE)
        with db.connect() as tx:
            assert operations.overdue(tx, LATE) == []
            assert [one.id for one in operations.overdue(tx, NOW + timedelta(hours=2))] == [stop.id]

    def test_purge_removes_what_was_finished_long_ago(self, db: Database) -> None:
        old, unfinished = self.add(db), self.add(db)
        db.run(lambda tx: operations.supersede(tx, old.instance_uuid, NOW))
        assert db.run(lambda tx: operations.purge(tx, LATE)) == 1
        with db.connect() as tx:
            assert operations.get(tx, old.id) is None
            assert operations.get(tx, unfinished.id) is not None

    def test_an_operation_is_read_with_its_instance_and_its_action(self, db: Database) -> None:
        instance, ctx = building(), internal()
        later = replace(ctx, request_id="req-later")

        def work(tx: Connection) -> tuple[int, int]:
            instances.insert_new(tx, instance)
            actions.record_new(tx, [(ctx, instance.uuid, "create", NOW)])
            actions.start(tx, later, instance.uuid, "stop", NOW)
            keys = [
                operations.insert(tx, operations.new_operation(STOP, asking, uuid, "h1", NOW, deadline=LATE))
                for asking, uuid in ((ctx, instance.uuid), (later, str(uuid4())))
            ]
            return keys[0], keys[1]

        first, stranger = db.run(work)
        with db.connect() as tx:
            found = claims.with_instances(tx, [first, stranger, stranger + 1])
            assert found.keys() == {first}
            assert found[first].operation == operations.get(tx, first)
            assert found[first].instance == instances.get(tx, instance.uuid)
            assert found[first].action_id == actions.get(tx, instance.uuid, ctx.request_id).id

    def test_progress_goes_forward_for_whoever_holds_the_operation(self, db: Database) -> None:
        instance = building()
        db.run(lambda tx: instances.insert_new(tx, instance))
        self.add(db, uuid=instance.uuid)
        (held,) = self.claim(db)

        def reach(fence: int, task: Task) -> Task | None:
            db.run_alone(lambda tx: stages.reach(tx, held.id, fence, task, SOON))
            with db.connect() as tx:
                return instances.get(tx, instance.uuid).task_state

        db.run(lambda tx: stages.begin(tx, [held], SOON))
        assert reach(held.fence - 1, Task.SPAWNING) is Task.NETWORKING
        assert reach(held.fence, Task.IMAGE_UPLOADING) is Task.NETWORKING
        assert reach(held.fence, Task.SPAWNING) is Task.SPAWNING
        assert reach(held.fence, Task.NETWORKING) is Task.SPAWNING
        db.run(lambda tx: stages.begin(tx, [held], SOON))
        assert reach(held.fence, Task.NETWORKING) is Task.SPAWNING

    def test_steps_of_several_actions_begin_together_and_anew(self, db: Database) -> None:
        uuid, asked = str(uuid4()), [internal() for _ in range(2)]
        for ctx in asked:
            db.run(lambda tx, c=ctx: actions.start(tx, c, uuid, "create", NOW))
        with db.begin() as tx:
            keys = [actions.get(tx, uuid, ctx.request_id).id for ctx in asked]
            actions.start_events(tx, [(keys[0], "build", "h1")], NOW)
            actions.finish_event(tx, uuid, asked[0].request_id, "build", "h1", NOW, result=actions.ERROR, details="no")
            actions.start_events(
                tx, [(keys[0], "build", "h1"), (keys[1], "build", "h1"), (keys[1], "plan", None)], SOON
            )
            actions.start_events(tx, [(keys[1], "plan", None)], LATE)
            (first,) = actions.events_of(tx, keys[0])
            assert (first.start_time, first.finish_time, first.result, first.details) == (SOON, None, None, None)
            steps = {(one.event, one.host): one.start_time for one in actions.events_of(tx, keys[1])}
            assert steps == {("build", "h1"): SOON, ("plan", None): LATE}
            actions.end(tx, keys[1], "made", "h1", LATE)
            ends = {one.event: (one.finish_time, one.result) for one in actions.events_of(tx, keys[1])}
            assert ends["made"] == (LATE, "Success")
            assert actions.get(tx, uuid, asked[1].request_id).finish_time == LATE

    # -- actions, services, nodes ----------------------------------------------------------------------

    def test_an_action_is_recorded_once(self, db: Database) -> None:
        ctx, uuid = internal(), str(uuid4())
        at_once(lambda _number: db.run(lambda tx: actions.start(tx, ctx, uuid, "create", NOW)))
        with db.connect() as tx:
            assert [one.action for one in actions.list_of(tx, uuid)] == ["create"]
        at_once(lambda _number: db.run(lambda tx: actions.start_event(tx, uuid, ctx.request_id, "build", "h1", NOW)))
        db.run(lambda tx: actions.finish_event(tx, uuid, ctx.request_id, "build", "h1", SOON, result="Error"))
        with db.connect() as tx:
            (event,) = actions.events_of(tx, actions.get(tx, uuid, ctx.request_id).id)
            assert (event.result, event.finish_time) == ("Error", SOON)
            with pytest.raises(ActionNotFound):
                actions.get(tx, uuid, "req-unknown")

    def test_actions_page_newest_first(self, db: Database) -> None:
        uuid, requests = str(uuid4()), [internal() for _ in range(3)]
        for number, ctx in enumerate(requests):
            db.run(lambda tx, c=ctx, n=number: actions.start(tx, c, uuid, "stop", NOW + timedelta(seconds=n)))
        ids = [ctx.request_id for ctx in reversed(requests)]
        with db.connect() as tx:
            assert [one.request_id for one in actions.list_of(tx, uuid)] == ids
            assert [one.request_id for one in actions.list_of(tx, uuid, limit=1, marker=ids[0])] == [ids[1]]
            since = actions.list_of(tx, uuid, changes_since=NOW + timedelta(seconds=2))
            assert [one.request_id for one in since] == ids[:1]

    def test_a_service_registers_once_and_keeps_what_operators_set(self, db: Database) -> None:
        def register(tx: Connection) -> object:
            return services.register(tx, host="h1", binary=services.COMPUTE, topic="compute.h1", version=1, now=NOW)

        assert len({one.uuid for one in at_once(lambda _number: db.run(register))}) == 1  # type: ignore[attr-defined]
        with db.connect() as tx:
            (service,) = services.list_all(tx)
        db.run(lambda tx: services.change(tx, service.uuid, now=NOW, disabled=True, disabled_reason="repair"))
        db.run(register)
        assert db.run(lambda tx: services.heartbeat(tx, "h1", services.COMPUTE, SOON))
        with db.connect() as tx:
            seen = services.by_uuid(tx, service.uuid)
            assert (seen.disabled, seen.disabled_reason, seen.last_seen_up) == (True, "repair", SOON)
            assert seen.is_up(LATE, 60)
            assert not seen.is_up(LATE, 59)
        db.run(lambda tx: services.remove(tx, service.uuid))
        assert not db.run(lambda tx: services.heartbeat(tx, "h1", services.COMPUTE, LATE))
        with db.connect() as tx, pytest.raises(ServiceNotFound):
            services.by_uuid(tx, service.uuid)

    def test_a_node_belongs_to_one_host_and_one_uuid(self, db: Database) -> None:
        def report(host: str, node: NodeReport) -> None:
            def work(tx: Connection) -> None:
                service = services.register(
                    tx, host=host, binary=services.COMPUTE, topic=f"compute.{host}", version=1, now=NOW
                )
                compute_nodes.report(tx, service.id, host, node, NOW)

            db.run(work)

        first = NodeReport("h1", str(uuid4()), "QEMU", 1, "127.0.0.1", 4, 4096, 10)
        at_once(lambda _number: report("h1", first))
        with pytest.raises(ComputeNodeTaken):
            report("h2", first)
        with pytest.raises(ComputeNodeTaken):
            report("h1", NodeReport("h1", str(uuid4()), "QEMU", 1, "127.0.0.1", 4, 4096, 10))
        with db.connect() as tx:
            assert [node.uuid for node in (one.report for one in compute_nodes.unmapped(tx))] == [first.uuid]
        assert db.run(lambda tx: compute_nodes.set_mapped(tx, [first.uuid])) == 1
        with db.connect() as tx:
            assert compute_nodes.unmapped(tx) == []
            assert compute_nodes.by_uuid(tx, first.uuid).host == "h1"
