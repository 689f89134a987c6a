"""Weighers, and rankings: kept up to date, they choose what weighing all hosts anew would choose."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api_cell.scheduler import weighers
from api_cell.scheduler.config import FilterSection
from api_cell.scheduler.hosts import HostState
from api_cell.scheduler.ranking import OUT, Ranking
from api_cell.scheduler.reasons import explain
from api_cell.scheduler.request_view import GroupState
from api_cell.scheduler.requirements import Headroom
from cell_service.errors import Invalid
from mapping_db.placement.inventories import Inventory
from tests.scheduler.test_filters import HOST, in_aggregates, request

ENABLED, SOFT = weighers.enabled(FilterSection())
BY_NAME = {weigher.name: weigher for weigher in ENABLED}


@pytest.mark.parametrize(
    ("name", "score", "multiplier"),
    [
        ("RAMWeigher", 4096.0, 1.0),
        ("CPUWeigher", 14.0, 1.0),
        ("DiskWeigher", 50.0, 1.0),
        ("IoOpsWeigher", 3.0, -1.0),
        ("NumInstancesWeigher", 5.0, 0.0),
        ("BuildFailureWeigher", -2.0, 1000000.0),
        ("HypervisorVersionWeigher", 8002003.0, 1.0),
    ],
)
def test_scores_and_default_multipliers(name: str, score: float, multiplier: float) -> None:
    weigher = BY_NAME[name]
    assert weigher.score(replace(HOST, failed_builds=2)) == score
    assert weigher.multiplier_for(HOST) == multiplier


def test_a_missing_inventory_scores_nothing() -> None:
    assert BY_NAME["RAMWeigher"].score(replace(HOST, headrooms={})) == 0


def test_aggregates_override_multipliers_the_least_of_several() -> None:
    host = in_aggregates(
        {"ram_weight_multiplier": "3"}, {"ram_weight_multiplier": "-2"}, {"cpu_weight_multiplier": "x"}
    )
    assert BY_NAME["RAMWeigher"].multiplier_for(host) == -2
    assert BY_NAME["CPUWeigher"].multiplier_for(host) == 1


def test_weighers_may_be_listed_and_unknown_ones_are_refused() -> None:
    some, soft = weighers.enabled(FilterSection(weight_classes=("nova.scheduler.weights.ram.RAMWeigher", "PCIWeigher")))
    assert [weigher.name for weigher in some] == ["RAMWeigher"]
    assert soft.multiplier_for("soft-affinity") == 0
    with pytest.raises(Invalid):
        weighers.enabled(FilterSection(weight_classes=("NoSuchWeigher",)))


def a_host(number: int, free: int, *, cell: int = 1, failed: int = 0, io_ops: int = 0) -> HostState:
    headrooms = {
        "VCPU": Inventory(100),
        "MEMORY_MB": Inventory(100_000, used=100_000 - free),
        "DISK_GB": Inventory(1000),
    }
    return replace(
        HOST, key=f"k{number}", host=f"h{number}", cell_id=cell, headrooms=headrooms, failed_builds=failed,
        num_io_ops=io_ops, tie=number,
    )  # fmt: skip


def ranking_of(hosts: list[HostState], group: GroupState | None = None, seed: int = 0) -> Ranking:
    ranking = Ranking(request(), [("", Headroom())], ENABLED, SOFT)
    ranking.update([host.key for host in hosts], {host.key: host for host in hosts})
    ranking.open(group, seed)
    return ranking


def pick(ranking: Ranking) -> str | None:
    chosen = ranking.pick(random.Random(1), 1)
    return chosen.host if chosen is not None else None


def test_a_failed_build_outweighs_all_else() -> None:
    assert pick(ranking_of([a_host(1, 90_000, failed=1), a_host(2, 2_000)])) == "h2"


def test_busy_hosts_weigh_less() -> None:
    assert pick(ranking_of([a_host(1, 9_000, io_ops=5), a_host(2, 9_000)])) == "h2"


def test_ties_are_broken_by_the_seed() -> None:
    hosts = [a_host(number, 9_000) for number in range(8)]
    assert {pick(ranking_of(hosts, seed=seed)) for seed in range(8)} == {host.host for host in hosts}
    assert pick(ranking_of(hosts, seed=5)) == pick(ranking_of(list(reversed(hosts)), seed=5))


def test_no_host_is_no_choice() -> None:
    ranking = ranking_of([a_host(1, 10)])
    assert pick(ranking) is None
    assert explain(ranking.all_refusals()).endswith("1 host: 1 lacks 1024 MEMORY_MB.")


def naive(hosts: list[HostState]) -> dict[str, float]:
    """Filter all, normalise all, multiply, add."""
    able = [host for host in hosts if Headroom().reject(host, request()) is None]
    weights = {host.key: 0.0 for host in able}
    for weigher in ENABLED:
        scores = [weigher.score(host) for host in able]
        low, high = min(scores, default=0.0), max(scores, default=0.0)
        for host, score in zip(able, scores, strict=True):
            if high > low:
                weights[host.key] += weigher.multiplier_for(host) * (score - low) / (high - low)
    return weights


HOSTS = st.lists(
    st.builds(
        a_host, st.integers(0, 40), st.integers(0, 60).map(lambda n: n * 500), cell=st.integers(1, 3),
        failed=st.integers(0, 2), io_ops=st.integers(0, 4),
    ),
    max_size=60,
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(first=HOSTS, later=HOSTS, gone=st.sets(st.integers(0, 40)))
def test_an_updated_ranking_weighs_as_a_new_one(first: list[HostState], later: list[HostState], gone: set[int]) -> None:
    ranking = ranking_of(first)
    known = {host.key: host for host in [*first, *later]}
    changed = [host.key for host in later] + [f"k{number}" for number in gone]
    for number in gone:
        known.pop(f"k{number}", None)
    ranking.update(changed, known)
    now = list(known.values())
    fresh = ranking_of(now)
    assert ranking.refusals == fresh.refusals
    for chosen in (pick(ranking), pick(fresh)):
        weights = naive(now)
        assert (chosen is None) == (not weights)
    best = fresh.best(100, fresh.blocks())
    expected = naive(now)
    assert {host.key for host in best} == expected.keys()
    assert [expected[host.key] for host in best] == pytest.approx(sorted(expected.values(), reverse=True), abs=1e-6)
    by_update = ranking.best(100, ranking.blocks())
    assert {host.key for host in by_update} == expected.keys()


@settings(max_examples=40, deadline=None)
@given(hosts=HOSTS, takes=st.lists(st.integers(0, 30), max_size=25))
def test_choices_of_a_round_stay_near_the_best(hosts: list[HostState], takes: list[int]) -> None:
    """Within a round weights may be as old as the slack allows; the chosen host is never refused by a filter."""
    known = {host.key: host for host in hosts}
    ranking = ranking_of(list(known.values()))
    for _ in takes:
        chosen = ranking.pick(random.Random(0), 1)
        expected = naive(list(known.values()))
        if chosen is None:
            assert not expected
            return
        assert chosen.key in expected
        memory = chosen.headrooms["MEMORY_MB"]
        taken = replace(memory, used=memory.used + 1024)
        known[chosen.key] = replace(chosen, headrooms={**chosen.headrooms, "MEMORY_MB": taken})
        ranking.update([chosen.key], known)


def test_equal_hosts_are_filled_evenly_in_one_round() -> None:
    known = {host.key: host for host in (a_host(number, 50_000) for number in range(5))}
    ranking, counts = ranking_of(list(known.values())), dict.fromkeys(known, 0)
    for _ in range(50):
        chosen = ranking.pick(random.Random(3), 1)
        assert chosen is not None
        counts[chosen.key] += 1
        memory = chosen.headrooms["MEMORY_MB"]
        known[chosen.key] = replace(
            chosen, headrooms={**chosen.headrooms, "MEMORY_MB": replace(memory, used=memory.used + 500)}
        )
        ranking.update([chosen.key], known)
    assert set(counts.values()) == {10}


def test_others_are_the_next_best_of_the_same_cell() -> None:
    hosts = [a_host(number, 10_000 + number * 1000, cell=1 + number % 2) for number in range(600)]
    ranking = ranking_of(hosts)
    chosen = ranking.pick(random.Random(0), 1)
    assert chosen is not None
    assert chosen.host in ("h599", "h90")
    assert [host.cell_id for host in ranking.others(chosen, 3)] == [chosen.cell_id] * 3


def test_a_hard_group_shuts_hosts_out_and_says_why() -> None:
    hosts = [a_host(number, 9_000) for number in range(3)]
    ranking = ranking_of(hosts, GroupState("g", "anti-affinity", 1, {"h0": 1, "h1": 1}))
    assert pick(ranking) == "h2"
    ranking.placed("h2")
    assert pick(ranking) is None
    assert len(ranking.all_refusals()) == 3
    ranking.open(None, 0)
    assert OUT not in [weight for block in ranking.blocks() for weight in block.weights]


def test_soft_groups_attract_and_repel() -> None:
    hosts = [a_host(number, 9_000) for number in range(4)]
    near = ranking_of(hosts, GroupState("g", "soft-affinity", 1, {"h2": 1}))
    assert pick(near) == "h2"
    far = ranking_of(hosts, GroupState("g", "soft-anti-affinity", 1, {"h0": 1, "h1": 1, "h2": 2}))
    assert pick(far) == "h3"
    far.placed("h3")
    assert pick(far) in ("h0", "h1", "h3")


def test_reasons_are_counted_and_shortened() -> None:
    refusals = [("NumInstancesFilter", f"runs {n} instances, limit 1") for n in (5, 5, 5, 6, 6, 7, 8)]
    assert explain([*refusals, ("", "lacks 1 VCPU"), ("ComputeFilter", "is down")]) == (
        "There are not enough hosts available. 9 hosts: NumInstancesFilter refused 7 (3 runs 5 instances, limit 1, "
        "2 runs 6 instances, limit 1, 1 runs 7 instances, limit 1, …); ComputeFilter refused 1 (is down); "
        "1 lacks 1 VCPU."
    )
