"""What must hold of every kind of database. A subclass gives the fixture `url`: an empty database."""

from __future__ import annotations

import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Column, Connection, Integer, MetaData, Table, Text, insert, inspect, select, update

import mapping_db.schema
from cell_service.db import archive, global_updates, instances
from cell_service.db import instance_bundles as bundles
from cell_service.db import schema as cell_schema
from cell_service.db import upgrades as migrate
from cell_service.db.global_updates import DeleteAccepted, Pinned, Reimaged, Renamed, StateReset
from cell_service.db.sql.engine import Database
from cell_service.db.sql.types import Json, Utc
from cell_service.errors import Invalid
from cell_service.model.instance import Flavor, Instance
from cell_service.model.operation import BuildArguments
from cell_service.model.request_spec import RequestSpec, Selection
from cell_service.model.share import ShareMapping, ShareStatus
from mapping_db import build_requests, cell_mappings, host_mappings, instance_mappings, request_specs
from mapping_db import upgrades as global_migrate
from mapping_db.build_requests import BuildRequest, ChosenBuildRequest
from mapping_db.instance_mappings import InstanceMapping

T = TypeVar("T")

NOW = datetime(2026, 3, 1, 12, 30, 15, 123457, tzinfo=UTC)
RACERS = 8

scratch = MetaData()
notes = Table(
    "notes",
    scratch,
    Column("id", Integer, primary_key=True),
    Column("at", Utc),
    Column("value", Json(Any)),
    Column("text", Text),
)

SYNC = """
import sys
from cell_service.db import upgrades as migrate
from cell_service.db.sql.engine import Database
from mapping_db import upgrades as global_migrate
schema = migrate.CELL if sys.argv[2] == "cell" else global_migrate.GLOBAL
print(migrate.sync(Database(sys.argv[1]), schema))
"""


def race(work: Callable[[int], T]) -> list[T]:
    """What each of the racers got, all of them let go at the same moment."""
    gate = threading.Barrier(RACERS)

    def run(number: int) -> T:
        gate.wait(timeout=60)
        return work(number)

    with ThreadPoolExecutor(RACERS) as pool:
        return list(pool.map(run, range(RACERS)))


def mapping(number: int = 0, **fields: Any) -> InstanceMapping:
    made = {
        "instance_uuid": str(uuid.uuid4()), "project_id": "p1", "user_id": "u1", "created_at": NOW,
        "display_name": f"n{number}", "vcpus": 1, "memory_mb": 64, **fields,
    }  # fmt: skip
    return InstanceMapping(**made)


def build_request(**fields: Any) -> BuildRequest:
    instance = Instance(
        uuid=str(uuid.uuid4()), project_id="p1", user_id="u1", display_name="näme-🐙", created_at=NOW,
        flavor=Flavor("1", "m1.tiny", 1, 64, 1),
    )  # fmt: skip
    return BuildRequest(instance.uuid, "p1", NOW, "req-1", instance, BuildArguments(), **fields)


def selection(instance_uuid: str, host: str) -> Selection:
    return Selection(instance_uuid, 1, host, host, str(uuid.uuid4()), {"rp": {"VCPU": 1}})


class DatabaseSuite:
    @pytest.fixture
    def db(self, url: str) -> Iterator[Database]:
        database = Database(url)
        yield database
        database.dispose()

    @pytest.fixture
    def top(self, db: Database) -> Database:
        """With the global schema."""
        global_migrate.sync(db)
        return db

    # -- transactions ---------------------------------------------------------------------------

    def test_a_deadlock_runs_the_whole_function_again(self, db: Database) -> None:
        with db.begin() as tx:
            notes.create(tx)
            tx.execute(insert(notes), [{"id": 1, "text": ""}, {"id": 2, "text": ""}])
        first_locks = threading.Barrier(2)
        runs: list[int] = []

        def work(tx: Connection, first: int, second: int) -> None:
            runs.append(first)
            tx.execute(update(notes).where(notes.c.id == first).values(text=notes.c.text + "x"))
            if runs.count(first) == 1 and db.dialect != "sqlite":  # on SQLite the second waits at its BEGIN
                first_locks.wait(timeout=60)
            tx.execute(update(notes).where(notes.c.id == second).values(text=notes.c.text + "x"))

        with ThreadPoolExecutor(2) as pool:
            both = [
                pool.submit(db.run, lambda tx, pair=pair: work(tx, *pair))  # type: ignore[misc]
                for pair in ((1, 2), (2, 1))
            ]
            for each in both:
                each.result(timeout=100)

        assert len(runs) == (2 if db.dialect == "sqlite" else 3)
        with db.connect() as tx:
            assert list(tx.scalars(select(notes.c.text))) == ["xx", "xx"]

    def test_a_reader_sees_what_is_committed_between_its_statements_and_nothing_else(self, db: Database) -> None:
        with db.begin() as tx:
            notes.create(tx)
        read = select(notes.c.id).order_by(notes.c.id)
        with db.connect() as reader:
            assert list(reader.scalars(read)) == []
            with db.begin() as writer:
                writer.execute(insert(notes).values(id=1))
                assert list(reader.scalars(read)) == []
            assert list(reader.scalars(read)) == [1]

    def test_a_failed_transaction_leaves_nothing(self, db: Database) -> None:
        with db.begin() as tx:
            notes.create(tx)

        def work(tx: Connection) -> float:
            tx.execute(insert(notes).values(id=1))
            return 1 / 0

        with pytest.raises(ZeroDivisionError):
            db.run(work)
        with db.connect() as tx:
            assert list(tx.scalars(select(notes.c.id))) == []

    def test_a_number_that_no_column_takes_is_invalid(self, db: Database) -> None:
        with db.begin() as tx:
            notes.create(tx)

        with pytest.raises(Invalid):
            db.run(lambda tx: tx.execute(insert(notes).values(id=2**64)))

    def test_a_lock_taken_by_a_writer_is_held_until_its_commit(self, db: Database) -> None:
        with db.begin() as tx:
            notes.create(tx)
            tx.execute(insert(notes).values(id=1, text=""))
        order: list[str] = []
        holds = threading.Event()

        def slow(tx: Connection) -> None:
            tx.execute(select(notes.c.id).with_for_update()).all()
            holds.set()
            waiting.wait(timeout=60)
            order.append("first")

        def quick(tx: Connection) -> None:
            tx.execute(update(notes).values(text="x"))
            order.append("second")

        waiting = threading.Event()
        with ThreadPoolExecutor(2) as pool:
            one = pool.submit(db.run, slow)
            assert holds.wait(timeout=60)
            other = pool.submit(db.run, quick)
            waiting.set()
            one.result(timeout=60)
            other.result(timeout=60)
        assert order == ["first", "second"]

    # -- types ----------------------------------------------------------------------------------

    def test_times_come_back_in_utc_to_the_microsecond(self, db: Database) -> None:
        with db.begin() as tx:
            notes.create(tx)
            tx.execute(insert(notes).values(id=1, at=NOW.astimezone(None)))
        with db.connect() as tx:
            found = tx.scalar(select(notes.c.at))
            assert found == NOW
            assert found is not None
            assert found.utcoffset() == timedelta(0)
            assert list(tx.scalars(select(notes.c.id).where(notes.c.at < NOW + timedelta(microseconds=1)))) == [1]

    def test_json_keeps_every_character(self, db: Database) -> None:
        value = {"🐙": ["𝔘𝔫𝔦", "\u0000", "日本", 'quote " and \\'], "n": None, "big": "x" * 200_000}
        with db.begin() as tx:
            notes.create(tx)
            tx.execute(insert(notes).values(id=1, value=value))
        with db.connect() as tx:
            assert tx.scalar(select(notes.c.value)) == value

    def test_ids_do_not_fold_case(self, top: Database) -> None:
        with top.begin() as tx:
            cell = _cell(tx)
            assert host_mappings.insert_missing(tx, cell, ["Host", "host"], NOW) == ["Host", "host"]

    # -- migrations -----------------------------------------------------------------------------

    @pytest.mark.parametrize("name", ["cell", "global"])
    def test_the_migrated_schema_is_the_schema(self, db: Database, name: str) -> None:
        wanted, tables = _schema(name)
        assert migrate.version(db) is None
        reached = migrate.sync(db, wanted)
        assert reached == migrate.newest(wanted) == migrate.version(db)
        with db.connect() as tx:
            context = MigrationContext.configure(tx, opts={"compare_type": True})
            assert compare_metadata(context, tables) == []

    @pytest.mark.parametrize("name", ["cell", "global"])
    def test_processes_may_sync_at_once_and_again(self, db: Database, url: str, name: str) -> None:
        command = [sys.executable, "-c", SYNC, url, name]
        wanted, tables = _schema(name)
        several = [
            subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(3)
        ]
        for process in several:
            output, problems = process.communicate(timeout=100)
            assert (process.returncode, output.strip(), problems) == (0, migrate.newest(wanted), "")
        migrate.sync(db, wanted)
        with db.connect() as tx:
            assert {*tables.tables, "alembic_version"} == set(inspect(tx).get_table_names())

    def test_a_sync_that_was_killed_halfway_goes_on(self, db: Database) -> None:
        tables = cell_schema.metadata.sorted_tables
        with db.begin() as tx:
            for table in tables[:3]:
                table.create(tx)
            indexed = next(table for table in tables if table.indexes)
            if indexed not in tables[:3]:
                indexed.create(tx)
            sorted(indexed.indexes, key=lambda index: str(index.name))[0].drop(tx)
        migrate.sync(db)
        with db.connect() as tx:
            assert compare_metadata(MigrationContext.configure(tx), cell_schema.metadata) == []

    def test_instances_of_the_version_before_are_read(self, db: Database) -> None:
        migrate.sync(db, version="cell_002")
        made = Instance(str(uuid.uuid4()), "p", "u", "old", Flavor("1", "f", 1, 64, 1), NOW)
        mapping = ShareMapping("m", "s", "tag", ShareStatus.INACTIVE, "here:/s", "NFS", "192.0.2.1")
        old = [column for column in cell_schema.instances.columns if column.name != "shares"]
        values = instances._columns_of(made)
        known = {column.name: values[column.name] for column in old if column.name in values}
        table = Table("instances", MetaData(), *(Column(column.name, column.type) for column in old))
        with db.begin() as tx:
            tx.execute(insert(table).values(known))
        migrate.sync(db)
        migrate.sync(db)
        with db.begin() as tx:
            assert instances.get(tx, made.uuid).shares == ()
            assert instances.change(tx, made.uuid, now=NOW, shares=(mapping,))
            assert instances.get(tx, made.uuid).shares == (mapping,)
            (bundle,) = bundles.read(tx, [made.uuid], operations=False)
            assert instances.mark_deleted(tx, made.uuid, NOW)
            assert archive.archive(tx, [made.uuid], keep=True)["instances"] == 1
            assert tx.execute(select(cell_schema.shadow_instances.c.shares)).scalar_one() == (mapping,)
            bundles.write(tx, [bundle], hidden=False)
            assert instances.get(tx, made.uuid).shares == (mapping,)

    def test_what_global_tables_have_to_learn_comes_in_order_and_goes_with_its_instance(self, db: Database) -> None:
        migrate.sync(db)
        made = Instance(str(uuid.uuid4()), "p", "u", "s", Flavor("1", "f", 1, 64, 1), NOW)
        image = Reimaged("i", {"hw_🐙": "x"}, 1, 2, "raw")
        changes = [Renamed("a"), Pinned(None), image, Renamed("b"), StateReset("u", "p"), DeleteAccepted()]
        with db.begin() as tx:
            instances.insert_new(tx, made)
            for change in changes:
                global_updates.record(tx, made.uuid, change, NOW)
            found = global_updates.of_instance(tx, made.uuid)
            assert [each.change for each in found] == changes
            assert global_updates.waiting(tx, 100) == [made.uuid]
            global_updates.remove(tx, [each.id for each in found[:4]])
            assert global_updates.of_instance(tx, made.uuid) == found[4:]
            (bundle,) = bundles.read(tx, [made.uuid], operations=False)
            bundles.remove(tx, [made.uuid])
            assert global_updates.waiting(tx, 100) == []
            for _ in range(2):
                bundles.write(tx, [bundle], hidden=True)
            assert [each.change for each in global_updates.of_instance(tx, made.uuid)] == changes[4:]

    def test_a_database_of_the_other_schema_is_refused(self, db: Database) -> None:
        migrate.sync(db)
        with pytest.raises(Invalid, match="global"):
            global_migrate.sync(db)
        with pytest.raises(Invalid):
            migrate.sync(db, version="cell_999")

    # -- each race has one winner -----------------------------------------------------------------

    def test_one_of_many_moves_wins(self, top: Database) -> None:
        one = mapping()
        with top.begin() as tx:
            cells = [_cell(tx) for _ in range(RACERS)]
            instance_mappings.insert_new(tx, [one])

        def move(number: int) -> int | None:
            try:
                return top.run(
                    lambda tx: instance_mappings.move(tx, one.instance_uuid, source=None, target=cells[number])
                ).cell_id
            except instance_mappings.InstanceAlreadyMoved:
                return None

        winners = [cell for cell in race(move) if cell is not None]
        with top.connect() as tx:
            stored = instance_mappings.get(tx, one.instance_uuid)
        assert winners == [stored.cell_id]
        assert stored.epoch == 1

    def test_one_of_many_deletes_gives_quota_back(self, top: Database) -> None:
        one = mapping()
        top.run(lambda tx: instance_mappings.insert_new(tx, [one]))
        won = race(lambda _: top.run(lambda tx: instance_mappings.queue_for_delete(tx, one.instance_uuid)))
        assert sorted(won) == [False] * (RACERS - 1) + [True]

    def test_one_of_many_takers_gets_the_lease(self, top: Database) -> None:
        request = build_request()
        top.run(lambda tx: build_requests.insert_new(tx, [request]))

        def take(number: int, now: datetime = NOW) -> list[BuildRequest]:
            return top.run(
                lambda tx: build_requests.take(
                    tx, [request.instance_uuid], owner=f"o{number}", now=now, lease_seconds=30
                )
            )

        taken = [found for some in race(take) for found in some]
        assert len(taken) == 1
        assert taken[0].attempt == 1
        with top.begin() as tx:
            assert build_requests.untaken(tx, NOW, 10) == []
            assert build_requests.untaken(tx, NOW + timedelta(seconds=31), 10) == [request.instance_uuid]
        (again,) = take(99, NOW + timedelta(seconds=31))
        assert (again.owner, again.attempt, again.instance) == ("o99", 2, request.instance)
        with top.begin() as tx:
            assert not build_requests.release(tx, request.instance_uuid, owner=taken[0].owner or "")
            assert build_requests.release(tx, request.instance_uuid, owner="o99")
            assert build_requests.untaken(tx, NOW, 10) == [request.instance_uuid]

    def test_each_of_a_batch_is_taken_by_one_of_many(self, top: Database) -> None:
        requests = [build_request() for _ in range(5)]
        top.run(lambda tx: build_requests.insert_new(tx, requests))
        uuids = [each.instance_uuid for each in requests]

        def take(number: int, now: datetime = NOW) -> list[BuildRequest]:
            wanted = [build_request().instance_uuid, *uuids[number % 5 :], *uuids[: number % 5]]
            return top.run(lambda tx: build_requests.take(tx, wanted, owner=f"o{number}", now=now, lease_seconds=30))

        taken = [each for found in race(take) for each in found]
        assert sorted(each.instance_uuid for each in taken) == sorted(uuids)
        with top.connect() as tx:
            assert build_requests.get_many(tx, uuids) == {each.instance_uuid: each for each in taken}
        again = take(7, NOW + timedelta(seconds=31))
        assert [each.instance_uuid for each in again] == [*uuids[2:], *uuids[:2]]
        assert {each.attempt for each in again} == {2}

    def test_a_batch_ends_but_for_what_is_to_be_deleted_or_was_changed(self, top: Database) -> None:
        requests = one, deleted, changed, _gone = [build_request() for _ in range(4)]
        uuids = [each.instance_uuid for each in requests]
        with top.begin() as tx:
            build_requests.insert_new(tx, [one, deleted, changed])
            build_requests.request_delete(tx, deleted.instance_uuid)
            renamed = replace(changed.instance, display_name="renamed")
            assert build_requests.change_instance(tx, changed.instance_uuid, lambda _request: renamed)
            done = build_requests.end_many(tx, requests)
            assert (done.ended, done.unwanted, done.changed) == ([uuids[0]], [uuids[1]], [uuids[2]])
            left = build_requests.get_many(tx, uuids)
            assert left.keys() == set(uuids[1:3])
            again = left[uuids[2]]
            assert (again.instance, again.revision) == (renamed, 1)
            assert build_requests.end_many(tx, [again]).ended == [uuids[2]]
            assert not build_requests.change_instance(tx, uuids[2], lambda _request: renamed)

    def test_mappings_are_placed_all_or_none(self, top: Database) -> None:
        made = [mapping() for _ in range(3)]
        uuids = [each.instance_uuid for each in made]
        with top.begin() as tx:
            cell, elsewhere = _cell(tx), _cell(tx)
            instance_mappings.insert_new(tx, made)
        top.run(lambda tx: instance_mappings.place_many(tx, uuids[:2], cell))
        with pytest.raises(instance_mappings.InstanceAlreadyMoved):
            top.run(lambda tx: instance_mappings.place_many(tx, uuids[1:], elsewhere))
        with top.begin() as tx:
            found = instance_mappings.get_many(tx, uuids)
            assert [found[uuid].cell_id for uuid in uuids] == [cell, cell, None]
            held = instance_mappings.lock_unmoved(tx, {uuids[0]: 1, uuids[1]: 0, uuids[2]: 0})
            assert set(held) == {uuids[0], uuids[2]}

    def test_one_of_many_ends_the_race_of_build_and_delete(self, top: Database) -> None:
        request = build_request()
        top.run(lambda tx: build_requests.insert_new(tx, [request]))

        def end(number: int) -> bool:
            if number % 2:
                return top.run(lambda tx: build_requests.delete(tx, request.instance_uuid, delete_requested=False))
            return top.run(lambda tx: build_requests.request_delete(tx, request.instance_uuid))

        assert sorted(race(end)) == [False] * (RACERS - 1) + [True]

    def test_a_choice_is_recorded_once_and_only_by_the_holder_of_the_lease(self, top: Database) -> None:
        request = build_request()
        unselected = request.instance_uuid
        chosen = selection(unselected, "h1")
        with top.begin() as tx:
            build_requests.insert_new(tx, [request])
            build_requests.take(tx, [unselected], owner="me", now=NOW, lease_seconds=9)
            assert not build_requests.set_selection(tx, unselected, chosen, owner="other")
            assert build_requests.set_selection(tx, unselected, chosen, owner="me")
            assert not build_requests.set_selection(tx, unselected, selection(unselected, "h2"), owner="me")
            assert not build_requests.delete(tx, unselected, unselected=True)
            found = build_requests.get(tx, unselected)
            assert isinstance(found, ChosenBuildRequest)
            assert found.selection == chosen

    # -- rows -----------------------------------------------------------------------------------

    def test_every_change_of_a_cell_is_a_new_topology(self, top: Database) -> None:
        with top.begin() as tx:
            versions = [cell_mappings.topology_version(tx)]
            made = cell_mappings.insert_new(
                tx, uuid="c1", name="", transport_url="rabbit://{username}@x/", database_connection="sqlite://", now=NOW
            )
            versions.append(cell_mappings.topology_version(tx))
            changed = cell_mappings.change(tx, "c1", now=NOW, name="cell1", disabled=True)
            versions.append(cell_mappings.topology_version(tx))
            assert cell_mappings.every(tx) == (changed,)
            cell_mappings.remove(tx, "c1")
            versions.append(cell_mappings.topology_version(tx))
            assert cell_mappings.every(tx) == ()
        assert len(set(versions)) == 4
        assert versions == sorted(versions)
        assert (made.shown, made.transport_url) == ("c1", "rabbit://{username}@x/")
        assert (changed.shown, changed.disabled) == ("cell1", True)

    def test_hosts_are_mapped_once(self, top: Database) -> None:
        with top.begin() as tx:
            one, other = _cell(tx), _cell(tx)
        race(lambda _: top.run(lambda tx: host_mappings.insert_missing(tx, one, ["h1", "h2"], NOW)))
        with top.begin() as tx:
            assert host_mappings.insert_missing(tx, other, ["h2", "h3"], NOW) == ["h3"]
            assert [(m.host, m.cell_id) for m in host_mappings.every(tx)] == [("h1", one), ("h2", one), ("h3", other)]
            assert host_mappings.counts(tx) == {one: 2, other: 1}
            host_mappings.remove(tx, "h3")
            assert host_mappings.every(tx, other) == []

    def test_pages_follow_each_other_without_gap_or_repeat(self, top: Database) -> None:
        stored = [
            mapping(n, created_at=NOW + timedelta(microseconds=n // 3), project_id=f"p{n % 2}") for n in range(20)
        ]
        with top.begin() as tx:
            instance_mappings.insert_new(tx, stored)
            instance_mappings.mark_gone(tx, [stored[4].instance_uuid])
        for project in ("p0", None):
            wanted = [m.instance_uuid for m in reversed(stored) if project in (None, m.project_id) and m != stored[4]]
            seen: list[InstanceMapping] = []
            with top.connect() as tx:
                while found := instance_mappings.page(
                    tx, project_id=project, limit=3, after=seen[-1] if seen else None
                ):
                    seen += found
            assert [m.instance_uuid for m in seen] == wanted

    def test_deletes_to_see_through_are_those_accepted_and_not_gone(self, top: Database) -> None:
        stored = [mapping(n) for n in range(4)]
        with top.begin() as tx:
            cell = _cell(tx)
            instance_mappings.insert_new(tx, stored)
            for each in stored[:3]:
                assert instance_mappings.queue_for_delete(tx, each.instance_uuid)
                instance_mappings.move(tx, each.instance_uuid, source=None, target=cell)
            instance_mappings.mark_gone(tx, [stored[0].instance_uuid])
            found = instance_mappings.doomed(tx, limit=9)
            assert [m.instance_uuid for m in found] == [m.instance_uuid for m in stored[1:3]]
            assert instance_mappings.doomed(tx, limit=9, after_id=found[0].id) == found[1:]
            assert instance_mappings.counts(tx) == {
                cell: instance_mappings.Counts(2, 1), None: instance_mappings.Counts(1, 0)
            }  # fmt: skip
            assert instance_mappings.remove(tx, [m.instance_uuid for m in stored]) == 4

    def test_a_wish_list_comes_back_as_it_was_asked(self, top: Database) -> None:
        spec = RequestSpec(
            str(uuid.uuid4()), "p1", "u1", Flavor("1", "f", 1, 2, 3), scheduler_hints={"🐙": ["x"]}, ignore_hosts=("h",)
        )
        with top.begin() as tx:
            request_specs.insert_new(tx, [spec], NOW)
            assert request_specs.get(tx, spec.instance_uuid) == spec
            assert request_specs.remove(tx, [spec.instance_uuid, "x"]) == 1
            assert request_specs.get(tx, spec.instance_uuid) is None


def _cell(tx: Connection) -> int:
    return cell_mappings.insert_new(
        tx, uuid=str(uuid.uuid4()), name="c", transport_url="none:///", database_connection="sqlite://", now=NOW
    ).id


def _schema(name: str) -> tuple[migrate.Schema, MetaData]:
    if name == "cell":
        return migrate.CELL, cell_schema.metadata
    return global_migrate.GLOBAL, mapping_db.schema.metadata
