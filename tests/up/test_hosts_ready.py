"""A cloud is READY when its hosts can get servers."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from cell_service.context import SYSTEM_CLOCK, Deadline, ManualClock
from cell_service.db import services
from mapping_db.placement import inventories, providers
from mapping_db.placement.inventories import Inventory
from tests.scheduler.federation import Federation
from tools.up import waiting
from tools.up.plan import Options, plan_of
from tools.up.waiting import ready_hosts


@pytest.fixture
def federation(tmp_path: Path) -> Iterator[Federation]:
    made = Federation(lambda name: f"sqlite:///{tmp_path / name}.db", ManualClock(SYSTEM_CLOCK.now()))
    yield made
    made.close()


def ready(federation: Federation) -> int:
    return len(ready_hosts(federation.db, federation.databases.values()))


def test_hosts_that_are_late_are_named_with_their_log(
    federation: Federation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    federation.cell("cell1", 1)
    monkeypatch.setattr(waiting, "SAY_SECONDS", 0.0)
    database = tuple(f"{name}={federation.new_url(there)}" for name, there in (("api", "global"), ("cell1", "cell1")))
    plan = plan_of(Options(tmp_path, cells=1, hosts_per_cell=8, database=database))
    ended = threading.Event()
    said: list[str] = []

    def say(line: str) -> None:
        said.append(line)
        if "missing" in line:
            ended.set()

    waiting.until_hosts_are_ready(plan, say, Deadline.after(3600), ended)
    assert said[0] == "waiting for 8 hosts"
    assert "cell1-host6 and 2 more; their log is " in said[1]
    assert said[1].endswith("logs/polycell.log")


def test_hosts_of_all_cells_count(federation: Federation) -> None:
    federation.cell("a", 2)
    federation.cell("b", 1)
    assert ready(federation) == 3


def test_a_host_counts_when_it_is_mapped(federation: Federation) -> None:
    federation.host(federation.cell("a"), "new", mapped=False)
    assert ready(federation) == 0


def test_a_host_counts_when_it_has_told_placement_what_it_has(federation: Federation) -> None:
    key = federation.host(federation.cell("a"), "new")

    def have(stock: dict[str, Inventory]) -> None:
        with federation.db.begin() as tx:
            provider = providers.get(tx, key)
            inventories.put(tx, provider, stock, provider.generation, federation.clock.now())

    have({})
    assert ready(federation) == 0
    have({"VCPU": Inventory(8)})
    assert ready(federation) == 1


def test_a_host_that_is_down_does_not_count(federation: Federation) -> None:
    cell = federation.cell("a", 1)
    with federation.databases[cell].begin() as tx:
        (service,) = services.list_all(tx, binary=services.COMPUTE)
        services.change(tx, service.uuid, now=federation.clock.now(), forced_down=True)
    assert ready(federation) == 0
