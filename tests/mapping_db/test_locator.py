from __future__ import annotations

import threading
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from dogpile.cache import make_region
from dogpile.cache.api import CacheBackend
from sqlalchemy import event

from cell_service import config
from cell_service.context import ManualClock
from cell_service.db.sql.engine import Database
from cell_service.errors import DatabaseUnavailable, InstanceNotFound, Invalid
from mapping_db import instance_mappings
from mapping_db.locating.locator import UNKNOWN_SECONDS, Locator
from mapping_db.locating.shared_cache import CacheSettings, CompareFirst, Shield, open_shared
from mapping_db.locations import Location, key, pack, unpack
from tests.mapping_db.conftest import NOW, Federation
from tests.real.databases import wait_until
from tests.real.memcached import Memcached


class Queries:
    """Counts the statements that reach a database."""

    def __init__(self, db: Database) -> None:
        self.count = 0
        event.listen(db.engine, "before_cursor_execute", self._seen)

    def _seen(self, *_: Any) -> None:
        self.count += 1


def in_process() -> CacheBackend:
    """A shared cache in this process's memory."""
    return make_region().configure("dogpile.cache.memory", wrap=[CompareFirst()]).backend


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def db(federation: Federation) -> Database:
    for name in ("one", "two"):
        federation.add(name)
    return federation.top


@pytest.fixture
def queries(db: Database) -> Queries:
    return Queries(db)


def stored(db: Database, cell: int | None = 1) -> Location:
    """An instance that has just been mapped."""
    mapping = instance_mappings.InstanceMapping(str(uuid.uuid4()), "p1", "u1", NOW, "n", 1, 64)
    with db.begin() as tx:
        instance_mappings.insert_new(tx, [mapping])
        if cell is not None:
            instance_mappings.move(tx, mapping.instance_uuid, source=None, target=cell)
        return instance_mappings.places(tx, [mapping.instance_uuid])[mapping.instance_uuid]


def moved(db: Database, location: Location, target: int) -> Location:
    with db.begin() as tx:
        instance_mappings.move(tx, location.instance_uuid, source=location.cell_id, target=target)
        return instance_mappings.places(tx, [location.instance_uuid])[location.instance_uuid]


def test_a_location_is_read_once(db: Database, queries: Queries) -> None:
    location, locator = stored(db), Locator(db)
    before = queries.count
    assert [locator.find(location.instance_uuid) for _ in range(3)] == [location] * 3
    assert queries.count == before + 1


def test_another_process_finds_it_in_the_shared_cache(db: Database, queries: Queries) -> None:
    location, shared = stored(db), in_process()
    Locator(db, shared).find(location.instance_uuid)
    before = queries.count
    assert Locator(db, shared).find(location.instance_uuid) == location
    assert Locator(db, shared).find_many([location.instance_uuid]) == {location.instance_uuid: location}
    assert queries.count == before


@pytest.mark.parametrize("name", ["my-server", "", "x" * 36, "../etc", f"{uuid.UUID(int=7)}0", "é" * 36])
def test_what_is_no_uuid_is_not_found_without_a_query(db: Database, queries: Queries, name: str) -> None:
    before = queries.count
    for fresh in (False, True):
        with pytest.raises(InstanceNotFound):
            Locator(db).find(name, fresh=fresh)
    assert Locator(db).find_many([name]) == {}
    assert queries.count == before


def test_an_unknown_uuid_is_asked_for_once_in_a_while(db: Database, queries: Queries, clock: ManualClock) -> None:
    locator, unknown = Locator(db, clock=clock), str(uuid.uuid4())
    before = queries.count
    for _ in range(3):
        with pytest.raises(InstanceNotFound):
            locator.find(unknown)
    assert queries.count == before + 1
    clock.advance(UNKNOWN_SECONDS + 0.1)
    with pytest.raises(InstanceNotFound):
        locator.find(unknown)
    assert queries.count == before + 2


@pytest.mark.parametrize("cell", [None, 1])
def test_who_creates_it_finds_it_at_once(db: Database, clock: ManualClock, cell: int | None) -> None:
    locator = Locator(db, clock=clock)
    location = stored(db, cell)
    with db.begin() as tx:
        row = instance_mappings.get(tx, location.instance_uuid)
        instance_mappings.remove(tx, [location.instance_uuid])
    with pytest.raises(InstanceNotFound):
        locator.find(location.instance_uuid)
    with db.begin() as tx:
        instance_mappings.insert_new(tx, [row])
    locator.remember(location)
    assert locator.find(location.instance_uuid) == location


def test_an_instance_in_no_cell_yet_is_never_cached(db: Database) -> None:
    location, shared = stored(db, None), in_process()
    locators = [Locator(db, shared), Locator(db, shared)]
    assert [locator.find(location.instance_uuid).cell_id for locator in locators] == [None, None]
    moved(db, location, 2)
    assert [locator.find(location.instance_uuid).cell_id for locator in locators] == [2, 2]


def test_older_never_replaces_newer(db: Database) -> None:
    old, shared = stored(db), in_process()
    locator = Locator(db, shared)
    new = moved(db, old, 2)
    locator.remember(new)
    locator.remember(old)
    assert locator.find(old.instance_uuid) == new
    assert Locator(db, shared).find(old.instance_uuid) == new


def test_a_fresh_look_corrects_every_cache(db: Database) -> None:
    old, shared = stored(db), in_process()
    mine, other = Locator(db, shared), Locator(db, shared)
    assert mine.find(old.instance_uuid) == other.find(old.instance_uuid) == old
    new = moved(db, old, 2)
    assert mine.find(old.instance_uuid) == old, "only a hint"
    assert mine.find(old.instance_uuid, fresh=True) == new
    assert mine.find(old.instance_uuid) == new
    assert Locator(db, shared).find(old.instance_uuid) == new


def test_a_database_restored_to_an_earlier_state_is_believed(db: Database) -> None:
    location, shared = stored(db), in_process()
    locator = Locator(db, shared)
    locator.remember(replace(location, epoch=9, cell_id=2))
    assert locator.find(location.instance_uuid, fresh=True) == location
    assert locator.find(location.instance_uuid) == location
    assert Locator(db, shared).find(location.instance_uuid) == location


def test_a_deleted_mapping_leaves_the_caches_with_a_fresh_look(db: Database) -> None:
    location, shared = stored(db), in_process()
    locator = Locator(db, shared)
    locator.find(location.instance_uuid)
    with db.begin() as tx:
        instance_mappings.remove(tx, [location.instance_uuid])
    with pytest.raises(InstanceNotFound):
        locator.find(location.instance_uuid, fresh=True)
    for each in (locator, Locator(db, shared)):
        with pytest.raises(InstanceNotFound):
            each.find(location.instance_uuid)


def test_many_are_found_in_one_query(db: Database, queries: Queries) -> None:
    locations = [stored(db) for _ in range(5)]
    shared = in_process()
    locator = Locator(db, shared)
    locator.find(locations[0].instance_uuid)
    Locator(db, shared).find(locations[1].instance_uuid)
    before = queries.count
    wanted = [location.instance_uuid for location in locations]
    for _ in range(2):
        assert locator.find_many([*wanted, str(uuid.uuid4())[:-1], *wanted]) == dict(
            zip(wanted, locations, strict=True)
        )
    assert queries.count == before + 1


def test_those_who_ask_at_once_ask_once(federation: Federation) -> None:
    federation.add("one")
    location = stored(federation.top)
    entered, go_on = threading.Semaphore(0), threading.Event()

    class Slow(Database):
        def connect(self) -> Any:
            entered.release()
            assert go_on.wait(60)
            return super().connect()

    slow = Slow(str(federation.top.url))
    locator = Locator(slow)
    with ThreadPoolExecutor(6) as pool:
        found = [pool.submit(locator.find, location.instance_uuid) for _ in range(6)]
        assert entered.acquire(timeout=60)
        go_on.set()
        assert [each.result(timeout=60) for each in found] == [location] * 6
    assert not entered.acquire(blocking=False)
    slow.dispose()


def test_cached_locations_serve_while_the_database_is_down(federation: Federation, tmp_path: Path) -> None:
    federation.add("one")
    known, unknown = stored(federation.top), stored(federation.top)
    down = Database(f"sqlite:///{tmp_path}")  # a directory
    locator = Locator(down)
    locator.remember(known)
    assert locator.find(known.instance_uuid) == known
    for _ in range(2):
        with pytest.raises(DatabaseUnavailable):
            locator.find(unknown.instance_uuid)
    with pytest.raises(DatabaseUnavailable):
        locator.find(known.instance_uuid, fresh=True)
    assert locator.find(known.instance_uuid) == known


def test_the_least_recently_used_is_dropped_first(db: Database, queries: Queries) -> None:
    locations = [stored(db) for _ in range(4)]
    locator = Locator(db, size=3)
    for location in locations[:3]:
        locator.find(location.instance_uuid)
    locator.find(locations[0].instance_uuid)
    locator.find(locations[3].instance_uuid)
    before = queries.count
    for location in (locations[0], locations[2], locations[3]):
        locator.find(location.instance_uuid)
    assert queries.count == before
    locator.find(locations[1].instance_uuid)
    assert queries.count == before + 1


@pytest.mark.parametrize("project", ["", "p" * 255, "프로젝트"])
def test_packed_locations_come_back(project: str) -> None:
    location = Location(str(uuid.uuid4()), 2**31 - 1, 2**32 - 1, project)
    assert unpack(location.instance_uuid, pack(location)) == location
    assert unpack(location.instance_uuid, b"junk") is None
    assert unpack(location.instance_uuid, b"\x00" * 8 + b"\xff") is None


# -- settings ---------------------------------------------------------------------------------


def test_settings_are_read_under_oslo_caches_names(tmp_path: Path) -> None:
    path = tmp_path / "nova.conf"
    path.write_text(
        "[cache]\nenabled = true\nbackend = oslo_cache.memcache_pool\nmemcache_servers = a:1,inet6:[::1]:2\n"
    )
    settings = config.read(config.load([str(path)]), CacheSettings)
    assert settings.memcache_servers == ("a:1", "inet6:[::1]:2")
    assert open_shared(settings) is not None
    assert open_shared(replace(settings, enabled=False)) is None
    assert open_shared(CacheSettings(enabled=True, backend="memory")) is None
    with pytest.raises(Invalid):
        open_shared(replace(settings, backend="redis"))
    with pytest.raises(Invalid):
        open_shared(replace(settings, memcache_servers=("nothing",)))


# -- a cache that fails -----------------------------------------------------------------------


class Broken(CompareFirst):
    """A cache that can be broken, and counts how often it was tried then."""

    def __init__(self) -> None:
        super().__init__()
        self.broken, self.tried = False, 0

    def get(self, key: str) -> Any:
        if self.broken:
            self.tried += 1
            raise OSError("timed out")
        return self.proxied.get(key)


def test_a_cache_that_is_down_costs_one_try_and_comes_back_by_itself(db: Database) -> None:
    clock, broken = ManualClock(), Broken()
    shared = make_region().configure("dogpile.cache.memory", wrap=[Shield(clock), broken]).backend
    locations = [stored(db) for _ in range(5)]
    broken.broken = True
    for location in locations:
        assert Locator(db, shared).find(location.instance_uuid) == location
    assert broken.tried == 1
    clock.advance(1)
    wait_until(lambda: broken.tried == 2, "nobody looks whether it is back")
    broken.broken = False
    clock.advance(2)
    wait_until(lambda: not shared.down, "it stays down")
    Locator(db, shared).find(locations[0].instance_uuid)
    assert shared.get(key(locations[0].instance_uuid)) == pack(locations[0])


# -- memcached --------------------------------------------------------------------------------


def in_memcached(memcached: Memcached, seconds: float) -> CacheBackend:
    """The shared cache in `memcached`, which is treated as down when it does not answer within `seconds`."""
    settings = CacheSettings(
        enabled=True, backend="memcached", memcache_servers=(memcached.address,), memcache_socket_timeout=seconds
    )  # fmt: skip
    return open_shared(settings)


@pytest.mark.real
def test_memcached_keeps_the_newest_whoever_races(memcached: Memcached) -> None:
    real = in_memcached(memcached, seconds=60)
    one = Location(str(uuid.uuid4()), 1, 0, "p1")
    gate = threading.Barrier(8)

    def put(first: int) -> None:
        gate.wait(60)
        for epoch in range(first, 200, 8):
            real.set(key(one.instance_uuid), pack(replace(one, epoch=epoch)))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(put, range(8)))
    left = real.get(key(one.instance_uuid))
    assert left == pack(replace(one, epoch=199))
    real.set(key(one.instance_uuid), pack(replace(one, epoch=200)))
    real.set_multi({key(one.instance_uuid): pack(one)})
    assert real.get(key(one.instance_uuid)) == pack(replace(one, epoch=200))


@pytest.mark.real
@pytest.mark.faults
@pytest.mark.parametrize("fault", ["stop", "freeze"])
def test_memcached_may_go_away_and_come_back(db: Database, memcached: Memcached, fault: str) -> None:
    location, real = stored(db), in_memcached(memcached, seconds=0.05)
    Locator(db, real).find(location.instance_uuid)
    ways: dict[str, tuple[Callable[[], None], Callable[[], None]]] = {
        "stop": (memcached.stop, memcached.start),
        "freeze": (memcached.freeze, memcached.thaw),
    }
    break_it, mend_it = ways[fault]
    break_it()
    for _ in range(20):
        assert Locator(db, real).find(location.instance_uuid) == location
    assert real.down
    mend_it()

    def is_kept() -> bool:
        assert Locator(db, real).find(location.instance_uuid) == location
        return bool(real.get(key(location.instance_uuid)) == pack(location))

    wait_until(is_kept, "it stays down")
