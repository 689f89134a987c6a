"""Claims: all or nothing, never more than there is, differences only."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cell_service.db.sql.engine import Database
from cell_service.errors import (
    GenerationConflict,
    InventoryExceeded,
    InventoryInUse,
    ResourceProviderInUse,
    ResourceProviderNotFound,
)
from mapping_db import schema
from mapping_db.placement import allocations, changes, inventories, providers, usages
from mapping_db.placement.allocations import Claim
from mapping_db.placement.inventories import Inventory
from tests.placement.stock import NOW, assert_sound, claim, new_uuid, provider, used


def write(db: Database, *claims: Claim) -> None:
    db.run(lambda tx: allocations.write(tx, claims, NOW))


def test_a_claim_takes_and_a_release_gives_back(db: Database) -> None:
    host, consumer = provider(db, VCPU=4, MEMORY_MB=1024), new_uuid()
    write(db, claim(consumer, {host.uuid: {"VCPU": 2, "MEMORY_MB": 512}}))
    assert used(db, host, "VCPU") == 2
    with db.connect() as tx:
        assert usages.of_project(tx, "p1") == {None: {"consumer_count": 1, "VCPU": 2, "MEMORY_MB": 512}}
    assert db.run(lambda tx: allocations.release(tx, consumer, NOW))
    assert not db.run(lambda tx: allocations.release(tx, consumer, NOW))
    assert used(db, host, "VCPU") == 0
    assert_sound(db)


def test_one_refusal_leaves_every_other_claim_undone_and_names_all_that_refused(db: Database) -> None:
    roomy, small, full = provider(db, VCPU=9), provider(db, VCPU=1), provider(db, MEMORY_MB=9)
    with pytest.raises(InventoryExceeded) as refusal:
        write(db, *(claim(new_uuid(), {host.uuid: {"VCPU": 2}}) for host in (roomy, small, full)))
    assert set(refusal.value.fields["providers"]) == {small.uuid, full.uuid}
    assert used(db, roomy, "VCPU") == 0
    assert_sound(db)


@pytest.mark.parametrize("amount", [1, 3, 10])
def test_units_are_respected(db: Database, amount: int) -> None:
    host = provider(db, VCPU=Inventory(100, min_unit=2, max_unit=8, step_size=2))
    with pytest.raises(InventoryExceeded):
        write(db, claim(new_uuid(), {host.uuid: {"VCPU": amount}}))


def test_capacity_is_what_is_not_reserved_times_the_ratio(db: Database) -> None:
    host = provider(db, VCPU=Inventory(5, reserved=1, allocation_ratio=1.5))
    write(db, claim(new_uuid(), {host.uuid: {"VCPU": 6}}))
    with pytest.raises(InventoryExceeded):
        write(db, claim(new_uuid(), {host.uuid: {"VCPU": 1}}))


def test_a_move_applies_the_difference(db: Database) -> None:
    here, there, consumer = provider(db, VCPU=4), provider(db, VCPU=4), new_uuid()
    write(db, claim(consumer, {here.uuid: {"VCPU": 3}}))
    write(db, claim(consumer, {here.uuid: {"VCPU": 4}}))
    write(db, claim(consumer, {there.uuid: {"VCPU": 2}}))
    assert (used(db, here, "VCPU"), used(db, there, "VCPU")) == (0, 2)
    assert_sound(db)


def test_over_capacity_still_allows_what_does_not_make_it_worse(db: Database) -> None:
    host, one, two = provider(db, VCPU=4), new_uuid(), new_uuid()
    write(db, claim(one, {host.uuid: {"VCPU": 2}}), claim(two, {host.uuid: {"VCPU": 2}}))
    db.run(lambda tx: inventories.put(tx, providers.get(tx, host.uuid), {"VCPU": Inventory(1)}, None, NOW))
    write(db, claim(one, {host.uuid: {"VCPU": 2}}))
    write(db, claim(one, {host.uuid: {"VCPU": 1}}))
    with pytest.raises(InventoryExceeded):
        write(db, claim(one, {host.uuid: {"VCPU": 2}}))
    assert used(db, host, "VCPU") == 3


def test_consumer_generations(db: Database) -> None:
    host, consumer = provider(db, VCPU=4), new_uuid()
    write(db, claim(consumer, {host.uuid: {"VCPU": 1}}, generation=None))
    with pytest.raises(GenerationConflict):
        write(db, claim(consumer, {host.uuid: {"VCPU": 2}}, generation=None))
    with db.connect() as tx:
        now_at = allocations.of_consumers(tx, [consumer])[consumer].generation
    write(db, claim(consumer, {host.uuid: {"VCPU": 2}}, generation=now_at))
    with pytest.raises(GenerationConflict):
        write(db, claim(consumer, {host.uuid: {"VCPU": 3}}, generation=now_at))
    with pytest.raises(GenerationConflict):
        write(db, claim(new_uuid(), {host.uuid: {"VCPU": 1}}, generation=0))


def test_what_is_in_use_cannot_go(db: Database) -> None:
    host = provider(db, VCPU=4, MEMORY_MB=4)
    write(db, claim(new_uuid(), {host.uuid: {"VCPU": 1}}))
    with db.connect() as tx:
        host = providers.get(tx, host.uuid)
    with pytest.raises(InventoryInUse):
        db.run(lambda tx: inventories.put(tx, host, {"MEMORY_MB": Inventory(4)}, host.generation, NOW))
    with pytest.raises(ResourceProviderInUse):
        db.run(lambda tx: providers.remove(tx, host, NOW))
    db.run(lambda tx: inventories.put(tx, host, {"VCPU": Inventory(1)}, host.generation, NOW))


def test_an_unknown_provider_is_named(db: Database) -> None:
    with pytest.raises(ResourceProviderNotFound):
        write(db, claim(new_uuid(), {new_uuid(): {"VCPU": 1}}))


def test_two_writers_of_one_provider_see_each_other(db: Database) -> None:
    host = provider(db, VCPU=4)
    db.run(lambda tx: inventories.put(tx, host, {"VCPU": Inventory(5)}, host.generation, NOW))
    with pytest.raises(GenerationConflict):
        db.run(lambda tx: inventories.put(tx, host, {"VCPU": Inventory(6)}, host.generation, NOW))


def test_the_feed_tells_of_every_change_and_keeps_its_newest_row(db: Database) -> None:
    host, other = provider(db, VCPU=4), provider(db, VCPU=4)
    with db.connect() as tx:
        last = changes.newest(tx)
    write(db, claim(new_uuid(), {host.uuid: {"VCPU": 1}}))
    with db.connect() as tx:
        assert [changed for _, changed in changes.since(tx, last)] == [host.id]
        assert {changed for _, changed in changes.since(tx, last, holes=[1])} == {host.id, 1}
    assert other.id != host.id
    assert db.run(lambda tx: changes.purge(tx, NOW.replace(year=2027))) > 0
    with db.connect() as tx:
        assert changes.newest(tx) > last


AMOUNTS = st.lists(st.tuples(st.integers(0, 2), st.integers(1, 4), st.booleans()), min_size=1, max_size=12)


def test_racing_threads_keep_the_books_right_on_every_database(empty_url: str) -> None:
    db = Database(empty_url)
    schema.metadata.create_all(db.engine)
    work = [[(at % 3, 1 + (at + worker) % 3, (at + worker) % 4 == 0) for at in range(20)] for worker in range(4)]
    race(db, work)
    db.dispose()


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(work=st.lists(AMOUNTS, min_size=2, max_size=4))
def test_racing_threads_never_allocate_more_than_there_is(
    db: Database, work: list[list[tuple[int, int, bool]]]
) -> None:
    race(db, work)


def race(db: Database, work: list[list[tuple[int, int, bool]]]) -> None:
    """Each thread claims, moves and releases on the same few providers; afterwards the books are right."""
    hosts = [provider(db, VCPU=5, MEMORY_MB=7) for _ in range(3)]
    started = threading.Barrier(len(work))

    def one(steps: list[tuple[int, int, bool]]) -> None:
        started.wait()
        mine: list[str] = []
        for at, amount, gives_back in steps:
            if gives_back and mine:
                db.run(lambda tx: allocations.release(tx, mine[-1], NOW))
                mine.pop()
                continue
            consumer = new_uuid()
            other = hosts[(at + 1) % 3]
            try:
                write(
                    db,
                    claim(consumer, {hosts[at].uuid: {"VCPU": amount, "MEMORY_MB": amount}}),
                    claim(new_uuid(), {other.uuid: {"MEMORY_MB": 1}}),
                )
                mine.append(consumer)
            except InventoryExceeded:
                continue

    with ThreadPoolExecutor(len(work)) as pool:
        for done in [pool.submit(one, steps) for steps in work]:
            done.result()
    assert_sound(db)
