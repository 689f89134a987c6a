"""What servers ask of hosts is counted from what stands, and exactly from then on."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from uuid import uuid4

import pytest
from sqlalchemy import Connection

from cell_service.db.sql.engine import Database
from cell_service.errors import OverQuota
from cell_service.model.instance import Flavor
from cell_service.model.move import MoveKind, MovePhase, MovePlan
from cell_service.model.request_spec import RequestSpec
from mapping_db import class_usage, instance_mappings, moves, quotas, request_specs
from mapping_db.instance_mappings import InstanceMapping
from mapping_db.moves import Move
from mapping_db.schema import metadata
from tests.mapping_db.conftest import NOW

SMALL = Flavor("1", "small", 1, 64, 2, ephemeral_gib=1, extra_specs={"resources:CUSTOM_GPU": "2"})
PINNED = Flavor("2", "pinned", 3, 32, 1, extra_specs={"hw:cpu_policy": "dedicated"})
CUSTOM = "class:CUSTOM_GPU"
BASE = {"instances": 1, "cores": 1, "ram": 64}


@pytest.fixture
def db(empty_url: str) -> Iterator[Database]:
    made = Database(empty_url)
    metadata.create_all(made.engine)
    yield made
    made.dispose()


def stand(tx: Connection, flavor: Flavor = SMALL, *, volume_backed: bool = False, spec: bool = True) -> str:
    """A server that is promised, and counted nowhere."""
    uuid = str(uuid4())
    instance_mappings.insert_new(
        tx, [InstanceMapping(uuid, "p", "u", NOW, "s", vcpus=flavor.vcpus, memory_mb=flavor.memory_mib)]
    )
    if spec:
        request_specs.insert_new(tx, [RequestSpec(uuid, "p", "u", flavor, volume_backed=volume_backed)], NOW)
    return uuid


def promise(tx: Connection, limits: dict[str, int], flavor: Flavor = SMALL) -> str:
    uuid = stand(tx, flavor)
    classes = class_usage.of_flavor(flavor, volume_backed=False)
    class_usage.reserve(tx, "p", "u", BASE, classes, limits, {uuid: {}})
    return uuid


def leave(tx: Connection, uuid: str) -> None:
    assert instance_mappings.queue_for_delete(tx, uuid)
    mapping, spec = class_usage.leaving(tx, uuid)
    used = class_usage.of_server(mapping, spec, moves.active_of(tx, uuid))
    quotas.release(tx, "p", "u", {**BASE, **used})


def resize(tx: Connection, uuid: str, old: Flavor, new: Flavor) -> None:
    moves.insert_new(tx, Move(str(uuid4()), uuid, MoveKind.RESIZE, MovePhase.GOING, "req", "u", "p", NOW, 1, "h",
                              MovePlan(old_flavor=old, new_flavor=new), active=uuid))  # fmt: skip


NAMES = ["class:VCPU", "class:PCPU", "class:MEMORY_MB", "class:DISK_GB", CUSTOM]


def used(db: Database) -> list[int]:
    with db.connect() as tx:
        found = class_usage.used_by(tx, "p", NAMES)
    return [found[name] for name in NAMES]


def test_what_stands_is_known_before_anybody_counts(db: Database) -> None:
    with db.begin() as tx:
        stand(tx)
        stand(tx, volume_backed=True)
        stand(tx, PINNED)
        stand(tx, spec=False)
        resize(tx, stand(tx), SMALL, PINNED)
        instance_mappings.queue_for_delete(tx, stand(tx))
    #       VCPU           PCPU   memory        disk           custom
    sums = [1 + 1 + 1 + 1, 3 + 3, 64 * 4 + 32, 3 + 1 + 1 + 3, 2 * 3]
    assert used(db) == sums
    with db.begin() as tx:
        promise(tx, {})
    assert used(db) == [sums[0] + 1, sums[1], sums[2] + 64, sums[3] + 3, sums[4] + 2]


def test_who_leaves_takes_along_what_was_counted(db: Database) -> None:
    with db.begin() as tx:
        before, plain, growing = stand(tx), stand(tx, spec=False), stand(tx)
        resize(tx, growing, SMALL, PINNED)
    with db.begin() as tx:
        counted = promise(tx, {CUSTOM: 100})
    for uuid in (before, counted, plain, growing):
        with db.begin() as tx:
            leave(tx, uuid)
    assert used(db) == [0, 0, 0, 0, 0]


def test_a_class_that_is_asked_for_later_is_counted_then(db: Database) -> None:
    with db.begin() as tx:
        promise(tx, {}, PINNED)
    with db.begin() as tx:
        stand(tx)  # promised where nobody limits classes, so that only rows that are there are changed
        quotas.reserve(tx, "p", "u", BASE, {}, also=class_usage.of_flavor(SMALL, volume_backed=False))
    with db.begin() as tx:
        promise(tx, {})
    assert used(db) == [2, 3, 160, 7, 4]


def test_too_much_of_a_class_is_refused_and_changes_nothing(db: Database) -> None:
    with db.begin() as tx:
        stand(tx)
        promise(tx, {CUSTOM: 4})
    with pytest.raises(OverQuota, match="class:CUSTOM_GPU: Requested 2, but already used 4 of 5"), db.begin() as tx:
        promise(tx, {CUSTOM: 5})
    assert used(db)[-1] == 4


def test_names_longer_than_the_column_stay_apart(db: Database) -> None:
    one, other = (replace(SMALL, extra_specs={f"resources:CUSTOM_{'A' * 200}{end}": "1"}) for end in "XY")
    with db.begin() as tx:
        promise(tx, {}, one)
        promise(tx, {}, other)
        names = [
            next(iter(set(class_usage.of_flavor(each, volume_backed=False)) - set(NAMES))) for each in (one, other)
        ]
        assert class_usage.used_by(tx, "p", names) == dict.fromkeys(names, 1)


@pytest.mark.parametrize("leaving", [0, 4])
def test_many_at_once_neither_exceed_a_limit_nor_lose_count(db: Database, leaving: int) -> None:
    """The first of them begins to count, while servers that stood before leave."""
    with db.begin() as tx:
        stood = [stand(tx) for _ in range(4)]

    def ask(work: object) -> bool:
        try:
            db.run(work)  # type: ignore[arg-type]
        except OverQuota:
            return False
        return True

    works: list[object] = [partial(promise, limits={CUSTOM: 14}) for _ in range(8)]
    for number, uuid in enumerate(stood[:leaving]):
        works.insert(2 * number, partial(leave, uuid=uuid))
    with ThreadPoolExecutor(6) as pool:
        done = list(pool.map(ask, works))
    made = sum(done) - leaving
    assert used(db)[-1] == 2 * (made + 4 - leaving) <= 14
    assert 3 <= made <= 3 + leaving
    with db.begin() as tx:
        for mapping in instance_mappings.living_of(tx, "p"):
            leave(tx, mapping.instance_uuid)
    assert used(db) == [0, 0, 0, 0, 0]
