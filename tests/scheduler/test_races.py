"""Several schedulers at once on the same hosts: never too much on one, and no group's policy broken."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection

from api_cell.scheduler.choosing import Outcome
from api_cell.scheduler.scheduler import Scheduler
from cell_service.errors import NoValidHost
from cell_service.model.request_spec import RequestSpec, Selection
from mapping_db import server_groups
from mapping_db.placement import allocations
from tests.placement.stock import assert_sound
from tests.scheduler.federation import Federation, new_uuid

WORKERS = 3


@pytest.fixture
def anywhere(empty_url: str, tmp_path: Path) -> Iterator[Federation]:
    """The global database on each kind of server in turn."""
    made = Federation(lambda name: empty_url if name == "global" else f"sqlite:///{tmp_path / name}.db")
    yield made
    made.close()


def compete(federation: Federation, requests: list[list[RequestSpec]]) -> list[Outcome]:
    """Each request by a scheduler of its own, all at the same time."""
    schedulers = [Scheduler(federation.cloud) for _ in requests]
    for scheduler in schedulers:
        scheduler.refresh(federation.ctx)
    started = threading.Barrier(len(requests))

    def one(scheduler: Scheduler, specs: list[RequestSpec]) -> list[Outcome]:
        started.wait()
        return scheduler.select(federation.ctx, specs)

    with ThreadPoolExecutor(len(requests)) as pool:
        futures = [pool.submit(one, *pair) for pair in zip(schedulers, requests, strict=True)]
        return [outcome for future in futures for outcome in future.result()]


def group_of(federation: Federation, policy: str, limit: int = 1) -> str:
    with federation.db.begin() as tx:
        rules = {"max_server_per_host": limit}
        return server_groups.add(
            tx, uuid=new_uuid(), project_id="p1", user_id="u1", name="g", policy=policy, rules=rules,
            now=federation.clock.now(),
        ).uuid  # fmt: skip


def assert_settled(federation: Federation, outcomes: list[Outcome], hosts: int, headroom: int) -> None:
    """All room is used before anybody is refused, none twice, and what was answered is what is claimed."""
    placed = [outcome for outcome in outcomes if isinstance(outcome, Selection)]
    assert len(placed) == min(len(outcomes), hosts * headroom)
    assert max(Counter(selection.host for selection in placed).values(), default=0) <= headroom
    with federation.db.connect() as tx:
        claimed = allocations.of_consumers(tx, [selection.instance_uuid for selection in placed])
    assert {uuid: one.allocations for uuid, one in claimed.items()} == {
        selection.instance_uuid: selection.allocations for selection in placed
    }
    assert_sound(federation.db)


def test_racing_schedulers_use_every_place_once(anywhere: Federation) -> None:
    anywhere.cell("a", 4, vcpus=3)
    anywhere.cell("b", 2, vcpus=3)
    requests = [[anywhere.spec() for _ in range(8)] for _ in range(WORKERS)]
    assert_settled(anywhere, compete(anywhere, requests), hosts=6, headroom=3)


def test_racing_members_of_a_group_stay_apart(anywhere: Federation) -> None:
    anywhere.cell("a", 7)
    group = group_of(anywhere, "anti-affinity")
    requests = [[anywhere.spec(group_uuid=group) for _ in range(3)] for _ in range(WORKERS)]
    outcomes = compete(anywhere, requests)
    hosts = [outcome.host for outcome in outcomes if isinstance(outcome, Selection)]
    assert len(hosts) == len(set(hosts)) == 7
    assert sum(isinstance(outcome, NoValidHost) for outcome in outcomes) == 2
    with anywhere.db.connect() as tx:
        assert sorted(str(host) for host in server_groups.get(tx, group).members.values()) == sorted(hosts)


def test_racing_members_of_a_group_stay_together(anywhere: Federation) -> None:
    anywhere.cell("a", 4)
    group = group_of(anywhere, "affinity")
    outcomes = compete(anywhere, [[anywhere.spec(group_uuid=group) for _ in range(2)] for _ in range(WORKERS)])
    assert len({outcome.host for outcome in outcomes if isinstance(outcome, Selection)}) == 1
    assert sum(isinstance(outcome, Selection) for outcome in outcomes) == 6


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    requests=st.lists(st.lists(st.sampled_from([None, "apart", "two"]), min_size=1, max_size=6), min_size=2, max_size=3)
)
def test_whatever_races_capacity_and_policies_hold(tmp_path: Path, requests: list[list[str | None]]) -> None:
    place = tmp_path / new_uuid()
    place.mkdir()
    federation = Federation(lambda name: f"sqlite:///{place / name}.db")
    try:
        federation.cell("a", 3, vcpus=2)
        federation.cell("b", 1, vcpus=3)
        groups = {"apart": group_of(federation, "anti-affinity"), "two": group_of(federation, "anti-affinity", 2)}
        specs = [
            [federation.spec(group_uuid=groups[name] if name else None) for name in request] for request in requests
        ]
        compete(federation, specs)
        assert_sound(federation.db)
        with federation.db.connect() as tx:
            for name, limit in (("apart", 1), ("two", 2)):
                hosts = [host for host in server_groups.get(tx, groups[name]).members.values() if host]
                assert max(Counter(hosts).values(), default=0) <= limit
    finally:
        federation.close()


def test_two_that_build_the_same_instance_claim_once(anywhere: Federation) -> None:
    """`record` is the compare-and-set: the loser's claim is not made."""
    anywhere.cell("a", 4)
    spec, winners = anywhere.spec(), []

    def record(tx: Connection, selection: Selection) -> bool:
        made = tx.exec_driver_sql(
            "UPDATE topology SET version = version + 1 WHERE id = 1 AND version = " + str(before)
        ).rowcount
        return bool(made)

    with anywhere.db.connect() as tx:
        before = tx.exec_driver_sql("SELECT version FROM topology").scalar()
    schedulers = [Scheduler(anywhere.cloud) for _ in range(2)]
    started = threading.Barrier(2)

    def one(scheduler: Scheduler) -> list[Outcome]:
        started.wait()
        return scheduler.select(anywhere.ctx, [spec], record)

    with ThreadPoolExecutor(2) as pool:
        winners = [outcome for outcomes in pool.map(one, schedulers) for outcome in outcomes]
    assert sorted(type(outcome).__name__ for outcome in winners) == ["NoneType", "Selection"]
    assert_sound(anywhere.db)
