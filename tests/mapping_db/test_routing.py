"""in_cell, and after any history of moves, deletes and lost caches: the owning cell answers, or nobody does."""

from __future__ import annotations

import shutil
import tempfile
import uuid
from pathlib import Path
from typing import Any

import pytest
from dogpile.cache import make_region
from dogpile.cache.api import CacheBackend
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    rule,
    run_state_machine_as_test,
)

from cell_service.context import ManualClock
from cell_service.db.sql.engine import Database
from cell_service.errors import DeadlineExceeded, InstanceNotFound, InstanceNotHere, InstanceNotReady
from cell_service.rpc.memory import Bus, MemoryTransport
from mapping_db import cell_mappings, instance_mappings
from mapping_db.cells.registry import Cell, Cells
from mapping_db.cloud import Cloud
from mapping_db.locating.locator import Locator
from mapping_db.locating.routing import in_cell
from mapping_db.locating.shared_cache import CacheSettings, CompareFirst, Shield, open_shared
from mapping_db.locations import Location, key, pack
from mapping_db.upgrades import GLOBAL
from tests.mapping_db.conftest import NOW, Federation, soon
from tests.real.memcached import Memcached
from tests.suites.clouds import cloud_in_memory
from tests.suites.schemas import prepare

CELLS = 3
PROCESSES = 3


class LossyMemory(CompareFirst):
    """A shared cache in memory that loses writes and deletes when told to, as a network does."""

    def __init__(self) -> None:
        super().__init__()
        self.losing = False

    def set(self, key: str, value: Any) -> None:
        if not self.losing:
            super().set(key, value)

    def delete(self, key: str) -> None:
        if not self.losing:
            self.proxied.delete(key)


class History(RuleBasedStateMachine):
    """Several processes with a locator each over one shared cache; `owner` is the truth: the cells themselves."""

    instances = Bundle("instances")

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(prefix="polycell-routing-"))
        self.db = Database(f"sqlite:///{self.directory / 'top.sqlite'}")
        prepare(self.db, GLOBAL)
        with self.db.begin() as tx:
            for number in range(CELLS):
                cell_mappings.insert_new(
                    tx, uuid=str(uuid.uuid4()), name=f"cell{number}", transport_url="none:///",
                    database_connection="sqlite://", now=NOW,
                )  # fmt: skip
        self.clock = ManualClock()
        self.cells = Cells(self.db, lambda url: MemoryTransport(Bus()), self.clock)
        self.ids = [mapping.id for mapping in self.cells.all()]
        self.open_shared()
        self.processes = [self.process() for _ in range(PROCESSES)]
        self.owner: dict[str, int | None] = {}
        self.stale: list[Location] = []

    def open_shared(self) -> None:
        self.lossy = LossyMemory()
        self.shared: CacheBackend = make_region().configure("dogpile.cache.memory", wrap=[self.lossy]).backend

    def process(self) -> Cloud:
        locator = Locator(self.db, self.shared, self.clock, size=3)
        return cloud_in_memory(self.db, self.cells, self.clock, locator)

    def teardown(self) -> None:
        self.cells.close()
        self.db.dispose()
        shutil.rmtree(self.directory)

    @rule(target=instances, process=st.integers(0, PROCESSES - 1), placed=st.booleans())
    def create(self, process: int, placed: bool) -> str:
        made = str(uuid.uuid4())
        with self.db.begin() as tx:
            mapping = instance_mappings.InstanceMapping(made, "p1", "u1", NOW, "n", 1, 64)
            instance_mappings.insert_new(tx, [mapping])
        self.owner[made] = None
        self.processes[process].locator.remember(Location(made, None, 0, "p1"))
        if placed:
            self.move(made, process, 0, remembered=True)
        return made

    @rule(
        instance=instances, process=st.integers(0, PROCESSES - 1), to=st.integers(0, CELLS - 1),
        remembered=st.booleans(),
    )  # fmt: skip
    def move(self, instance: str, process: int, to: int, remembered: bool) -> None:
        if instance not in self.owner:
            return
        with self.db.begin() as tx:
            instance_mappings.move(tx, instance, source=self.owner[instance], target=self.ids[to])
            location = instance_mappings.places(tx, [instance])[instance]
        self.owner[instance] = self.ids[to]
        self.stale.append(location)
        if remembered:
            self.processes[process].locator.remember(location)

    @rule(instance=consumes(instances), process=st.integers(0, PROCESSES - 1), forgotten=st.booleans())
    def delete(self, instance: str, process: int, forgotten: bool) -> None:
        with self.db.begin() as tx:
            instance_mappings.remove(tx, [instance])
        self.owner.pop(instance, None)
        if forgotten:
            self.processes[process].locator.forget(instance)

    @rule(process=st.integers(0, PROCESSES - 1), which=st.randoms(use_true_random=False))
    def a_late_writer_puts_back_what_it_once_read(self, process: int, which: Any) -> None:
        if self.stale:
            location = which.choice(self.stale)
            self.processes[process].locator.remember(location)

    @rule(which=st.randoms(use_true_random=False))
    def an_old_entry_reappears_in_the_shared_cache(self, which: Any) -> None:
        if self.stale:
            location = which.choice(self.stale)
            self.shared.delete(key(location.instance_uuid))
            self.shared.set(key(location.instance_uuid), pack(location))

    @rule(losing=st.booleans())
    def the_shared_cache_loses_what_it_is_told(self, losing: bool) -> None:
        self.lossy.losing = losing

    @rule()
    def the_shared_cache_restarts_empty(self) -> None:
        for instance in [*self.owner, *(location.instance_uuid for location in self.stale)]:
            self.shared.delete(key(instance))

    @rule(process=st.integers(0, PROCESSES - 1))
    def a_process_restarts(self, process: int) -> None:
        self.processes[process] = self.process()

    @rule(seconds=st.floats(0.1, 3))
    def time_goes_by(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule(instance=instances, process=st.integers(0, PROCESSES - 1))
    def ask(self, instance: str, process: int) -> None:
        self.check(instance, self.processes[process])

    @rule(process=st.integers(0, PROCESSES - 1))
    def ask_for_the_gone(self, process: int) -> None:
        for location in self.stale:
            self.check(location.instance_uuid, self.processes[process])

    @invariant()
    def a_process_that_knows_nothing_finds_everything(self) -> None:
        cloud = self.process()
        for instance in self.owner:
            self.check(instance, cloud)

    def check(self, instance: str, cloud: Cloud) -> None:
        def work(cell: Cell) -> int:
            if self.owner.get(instance) != cell.mapping.id:
                raise InstanceNotHere(instance_uuid=instance)
            return cell.mapping.id

        try:
            answer: int | None = in_cell(cloud, instance, work, soon())
        except InstanceNotReady:
            answer = None
        except InstanceNotFound:
            assert instance not in self.owner
            return
        assert instance in self.owner
        assert answer == self.owner[instance]


LIMITS = settings(
    max_examples=40, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
)  # fmt: skip


def test_any_history_leads_to_the_owner_or_to_nobody() -> None:
    run_state_machine_as_test(History, settings=LIMITS)


@pytest.mark.real
@pytest.mark.faults
def test_any_history_with_memcached_leads_to_the_owner_or_to_nobody(memcached: Memcached) -> None:
    class RealHistory(History):
        def open_shared(self) -> None:
            cache = CacheSettings(enabled=True, backend="memcached", memcache_servers=(memcached.address,))
            self.lossy = LossyMemory()
            self.shared = open_shared(cache)

        @rule()
        def memcached_is_flushed(self) -> None:
            memcached.flush()

        @rule()
        def memcached_is_killed_and_started(self) -> None:
            memcached.stop()
            self.shared.get("x")
            memcached.start()

    run_state_machine_as_test(RealHistory, settings=settings(LIMITS, max_examples=8))


# -- in_cell ----------------------------------------------------------------------------------


@pytest.fixture
def cloud(federation: Federation) -> Cloud:
    for name in ("one", "two", "three"):
        federation.add(name)
    cells = federation.cells()
    shared = make_region().configure("dogpile.cache.memory", wrap=[Shield(), CompareFirst()]).backend
    return cloud_in_memory(federation.top, cells, ManualClock(), Locator(federation.top, shared))


def placed(cloud: Cloud, cell: int | None) -> str:
    made = str(uuid.uuid4())
    with cloud.db.begin() as tx:
        instance_mappings.insert_new(tx, [instance_mappings.InstanceMapping(made, "p1", "u1", NOW, "n", 1, 64)])
        if cell is not None:
            instance_mappings.move(tx, made, source=None, target=cell)
    return made


def test_an_instance_on_the_move_is_followed(cloud: Cloud) -> None:
    instance = placed(cloud, 1)
    requested: list[int] = []

    def work(cell: Cell) -> str:
        requested.append(cell.mapping.id)
        if cell.mapping.id < 3:  # it leaves while we ask
            with cloud.db.begin() as tx:
                instance_mappings.move(tx, instance, source=cell.mapping.id, target=cell.mapping.id + 1)
            raise InstanceNotHere(instance_uuid=instance)
        return "found"

    assert in_cell(cloud, instance, work, soon()) == "found"
    assert requested == [1, 2, 3]


def test_a_cell_that_lost_it_is_asked_once(cloud: Cloud) -> None:
    instance = placed(cloud, 1)
    requested: list[int] = []

    def work(cell: Cell) -> None:
        requested.append(cell.mapping.id)
        raise InstanceNotHere(instance_uuid=instance)

    with pytest.raises(InstanceNotFound):
        in_cell(cloud, instance, work, soon())
    assert requested == [1]


def test_an_instance_in_no_cell_yet_is_for_the_caller(cloud: Cloud) -> None:
    instance = placed(cloud, None)
    with pytest.raises(InstanceNotReady):
        in_cell(cloud, instance, lambda cell: "cell", soon())
    assert in_cell(cloud, instance, lambda cell: "cell", soon(), lambda location: "request") == "request"

    def just_placed(location: Location) -> str:
        with cloud.db.begin() as tx:
            instance_mappings.move(tx, instance, source=None, target=2)
        raise InstanceNotHere(instance_uuid=instance)

    assert in_cell(cloud, instance, lambda cell: cell.mapping.name, soon(), just_placed) == "two"


def test_nothing_is_asked_after_the_deadline(cloud: Cloud) -> None:
    with pytest.raises(DeadlineExceeded):
        in_cell(cloud, placed(cloud, 1), lambda cell: None, soon().sooner(0))
