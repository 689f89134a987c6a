"""For random providers and requests, the hosts that the scheduler's snapshot accepts are those for which
`GET /allocation_candidates` has a candidate, and what it takes of each is one of these candidates."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, select

from api_cell.scheduler import fitting, requirements
from api_cell.scheduler.config import SchedulerSection
from api_cell.scheduler.hosts import HostState
from api_cell.scheduler.request_view import RequestView, request_view
from api_cell.scheduler.scheduler import Scheduler
from cell_service.model.request_groups import RequestGroups
from mapping_db import schema
from mapping_db.placement import aggregates, allocations, inventories, providers, resource_classes, traits
from mapping_db.placement.allocations import Claim
from mapping_db.placement.inventories import Inventory
from mapping_db.placement.sharing import SHARES
from tests.placement.caller import Placement
from tests.scheduler.federation import SMALL, Federation, new_uuid
from tests.scheduler.test_select import scheduler_of

CLASSES = ("VCPU", "CUSTOM_X")
TRAITS = ("CUSTOM_A", "CUSTOM_B")
GROUPS = ("11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222")
HOSTS = 2
USUAL = 40
EXAMPLES = int(os.environ.get("POLYCELL_EXAMPLES", USUAL))
"""The usual ones are the same at each run; any other number of them is drawn by chance."""

INVENTORIES = st.builds(
    lambda total, reserved, least, most, step, ratio, used: (
        Inventory(total, min(reserved, total), least, most, step, ratio),
        used,
    ),
    st.integers(2, 6), st.sampled_from((0, 0, 1)), st.sampled_from((1, 1, 1, 1, 2)), st.integers(2, 6),
    st.sampled_from((1, 1, 1, 1, 2)), st.sampled_from((1.0, 1.0, 2.0, 0.5)), st.sampled_from((0, 0, 0, 3)),
)  # fmt: skip


@dataclass(frozen=True)
class Plan:
    """A provider. `above`: the number of an earlier one, or None for a root."""

    above: int | None
    stock: dict[str, tuple[Inventory, int]]
    has: frozenset[str]
    inside: frozenset[str]


@st.composite
def plans(draw: st.DrawFn) -> list[Plan]:
    """The first are the hosts' own; then those below them, or by themselves."""
    made = []
    for number in range(HOSTS + draw(st.integers(1, 5))):
        above = None if number < HOSTS else draw(st.sampled_from((None, *range(number))))
        shares = number >= HOSTS and draw(st.integers(0, 2)) == 0
        has = draw(st.frozensets(st.sampled_from(TRAITS))) | ({SHARES} if shares else set())
        made.append(
            Plan(
                above,
                draw(st.dictionaries(st.sampled_from(CLASSES), INVENTORIES, min_size=1)),
                has,
                draw(st.frozensets(st.sampled_from(GROUPS))),
            )
        )
    return made


AMOUNTS = st.dictionaries(st.sampled_from(CLASSES), st.sampled_from((1, 1, 1, 2, 3)), min_size=1, max_size=2)
MARKS = st.dictionaries(st.sampled_from(TRAITS), st.sampled_from(("required", "forbidden")), max_size=1)


@st.composite
def extra_specs(draw: st.DrawFn) -> dict[str, str]:
    """A flavor's request groups. With `same_subtree` one of them may have traits alone."""
    found: dict[str, str] = {"resources:VCPU": "0", "resources:MEMORY_MB": "0", "resources:DISK_GB": "0"}
    for suffix in draw(st.lists(st.sampled_from(("", "1", "_b", "C")), min_size=1, max_size=3, unique=True)):
        found |= {f"resources{suffix}:{name}": str(amount) for name, amount in draw(AMOUNTS).items()}
        found |= {f"trait{suffix}:{name}": value for name, value in draw(MARKS).items()}
    policy = draw(st.sampled_from((None, "none", "isolate")))
    if policy is not None:
        found["group_policy"] = policy
    named = {key[9:].partition(":")[0] for key in found if key.startswith("resources") and key[9] != ":"}
    if named and draw(st.booleans()):
        if draw(st.booleans()):
            found |= {"trait_bare:CUSTOM_A": draw(st.sampled_from(("required", "forbidden")))}
            named.add("_bare")
        some = draw(st.sets(st.sampled_from(sorted(named)), min_size=1))
        found["same_subtree"] = ",".join(sorted(some | named & {"_bare"}))
    return found


class World:
    """Hosts in a database that is filled again for each example."""

    def __init__(self, federation: Federation) -> None:
        self.federation, self.api = federation, Placement(federation.db)
        cell, self.names = federation.cell("a"), count()
        self.hosts = [federation.host(cell, f"h{number}") for number in range(HOSTS)]
        self.uuids: list[str] = []

        def classes(tx: Connection) -> None:
            for name in CLASSES[1:]:
                resource_classes.add(tx, name)
            for name in TRAITS:
                traits.add(tx, name)

        federation.db.run(classes)

    def fill(self, planned: list[Plan]) -> None:
        """Make the providers be these; the hosts' own stay, with what they have now."""
        now, gone = self.federation.clock.now(), self.uuids[HOSTS:]
        self.uuids = [*self.hosts, *(new_uuid() for _ in planned[HOSTS:])]

        def work(tx: Connection) -> None:
            for consumer in tx.execute(select(schema.consumers.c.uuid)).scalars().all():
                allocations.release(tx, consumer, now)
            for uuid in reversed(gone):
                providers.remove(tx, providers.get(tx, uuid), now)
            for uuid, plan in zip(self.uuids, planned, strict=True):
                if uuid not in self.hosts:
                    parent = None if plan.above is None else self.uuids[plan.above]
                    providers.add(tx, uuid, f"p{next(self.names)}", now, parent_uuid=parent)
                here = providers.get(tx, uuid)
                inventories.put(tx, here, {name: one for name, (one, _) in plan.stock.items()}, None, now)
                traits.put(tx, here, plan.has, None, now)
                aggregates.put(tx, here, plan.inside, None, now)
                for name, (one, used) in plan.stock.items():
                    amount = min(used, one.capacity, one.max_unit) // one.step_size * one.step_size
                    if amount >= one.min_unit:
                        allocations.write(tx, [Claim(new_uuid(), {uuid: {name: amount}}, "p", "u")], now)

        self.federation.db.run(work)

    def serving(self, planned: list[Plan]) -> dict[str, set[str]]:
        """By host, the uuids of the providers that may serve it: worked out from the plan alone."""

        def root(number: int) -> int:
            above = planned[number].above
            return number if above is None else root(above)

        found = {}
        for host in range(HOSTS):
            tree = [number for number in range(len(planned)) if root(number) == host]
            inside = frozenset().union(*(planned[number].inside for number in tree))
            shared = [number for number, plan in enumerate(planned) if SHARES in plan.has and plan.inside & inside]
            found[self.hosts[host]] = {self.uuids[number] for number in (*tree, *shared)}
        return found


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with tempfile.TemporaryDirectory() as directory:
        federation = Federation(lambda name: f"sqlite:///{Path(directory) / name}.db")
        yield World(federation)
        federation.close()


def query(groups: RequestGroups) -> str:
    """The request as a client of placement would write it."""
    parts = []
    for suffix, group in {"": groups.unnumbered, **groups.numbered}.items():
        if group.resources:
            parts.append(f"resources{suffix}=" + ",".join(f"{name}:{n}" for name, n in group.resources.items()))
        marks = [*sorted(group.required), *(f"!{name}" for name in sorted(group.forbidden))]
        if marks and (suffix or group.resources):
            parts.append(f"required{suffix}={','.join(marks)}")
    if groups.numbered:
        parts.append(f"group_policy={'isolate' if groups.isolate else 'none'}")
    parts += [f"same_subtree={','.join(sorted(each))}" for each in groups.same_subtree]
    return "&".join(parts)


def accepted(host: HostState, view: RequestView) -> bool:
    return all(check.reject(host, view) is None for check in (requirements.Traits(), requirements.Headroom()))


def hosts_of(scheduler: Scheduler, world: World) -> dict[str, HostState]:
    scheduler.refresh(world.federation.ctx)
    return dict(scheduler.snapshot.hosts)


def frozen(where: dict[str, dict[str, int]]) -> Any:
    return frozenset((uuid, name, amount) for uuid, amounts in where.items() for name, amount in amounts.items())


@pytest.mark.timeout(120 + EXAMPLES)
@settings(
    max_examples=EXAMPLES,
    derandomize=EXAMPLES == USUAL,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(before=plans(), planned=plans(), wanted=st.lists(extra_specs(), min_size=10, max_size=10))
def test_the_snapshot_and_the_api_agree(
    world: World, before: list[Plan], planned: list[Plan], wanted: list[dict[str, str]]
) -> None:
    following = scheduler_of(world.federation)
    world.fill(before)
    hosts_of(following, world)
    world.fill(planned)
    fresh = hosts_of(scheduler_of(world.federation), world)
    assert hosts_of(following, world) == fresh
    serving = world.serving(planned)
    for extra in wanted:
        spec = world.federation.spec(flavor=replace(SMALL, extra_specs=extra))
        view = request_view(spec, SchedulerSection())
        text = query(view.groups)
        answer = world.api.get(f"/allocation_candidates?{text}")
        ways = [
            {uuid: part["resources"] for uuid, part in each["allocations"].items()}
            for each in answer["allocation_requests"]
        ]
        served_by = [  # also by those that give nothing
            {uuid for uuids in each["mappings"].values() for uuid in uuids} for each in answer["allocation_requests"]
        ]
        expected = {host for host in world.hosts if any(uuids <= serving[host] for uuids in served_by)}
        assert {key for key, state in fresh.items() if accepted(state, view)} == expected, text
        for host in expected:
            assert frozen(fitting.allocations_of(fresh[host], view)) in {frozen(each) for each in ways}, text
