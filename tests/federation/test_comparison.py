"""Super-conductors compare allocations with the instances of all cells, and metrics say what differs."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families as parsed

from api_cell.scheduler.scheduler import Scheduler
from api_cell.superconductor import comparing
from api_cell.superconductor.context import SuperConductorContext, SuperConductorSettings
from cell_service.errors import CellUnavailable
from mapping_db.placement import allocations, comparisons, drift
from mapping_db.placement.drift import DriftKind
from tests.federation.cloud import Federation


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    made = Federation(tmp_path_factory.mktemp("compared"))
    yield made
    made.close()


def compare(cloud: Federation) -> Any:
    settings = SuperConductorSettings(compare_seconds=1e-9)
    deps = SuperConductorContext(cloud.cloud, Scheduler(cloud.cloud), settings, "comparing")
    return comparing.compare(deps, threading.Event())


def shown(cloud: Federation) -> dict[str, float]:
    """The metric, by kind."""
    reply = cloud.admin.get("/metrics", whole=True)
    samples = [sample for family in parsed(reply.raw.decode()) for sample in family.samples]
    return {
        sample.labels.get("kind", "not compared"): sample.value
        for sample in samples
        if sample.name in ("polycell_placement_drift", "polycell_placement_cells_not_compared")
    }


def test_a_cloud_that_works_has_no_drift(cloud: Federation) -> None:
    uuids = [cloud.boot() for _ in range(4)]
    found = []
    for uuid, action in zip(uuids, ("migrate", "os-stop", "shelve", "createImage"), strict=True):
        assert cloud.act(uuid, action, {"name": "i"} if action == "createImage" else None).status == 202
        found.append(compare(cloud))
    assert [each.found for each in found] == [{}] * 4
    assert shown(cloud) == {"missing": 0, "elsewhere": 0, "amounts": 0, "orphan": 0, "not compared": 0}
    for uuid in uuids:
        cloud.settled(uuid)


def test_what_differs_is_counted_until_it_is_mended(cloud: Federation) -> None:
    uuid, now = cloud.boot(), cloud.clock.now()
    with cloud.db.connect() as tx:
        before = allocations.of_consumer(tx, uuid)
    assert before is not None
    cloud.db.run(lambda tx: allocations.release(tx, uuid, now))
    made = compare(cloud)
    assert (made.found, made.missed) == ({DriftKind.MISSING: 1}, [])
    assert shown(cloud)["missing"] == 1
    again = allocations.Claim(uuid, before.allocations, before.project_id, before.user_id, "INSTANCE")
    cloud.db.run(lambda tx: allocations.write(tx, [again], now))
    assert compare(cloud).found == {}
    assert shown(cloud)["missing"] == 0


def test_what_changed_meanwhile_is_not_drift(cloud: Federation) -> None:
    uuid = cloud.boot()
    cell = cloud.cells.open(cloud.cloud.locator.find(uuid).cell_id or 0)
    with cloud.db.connect() as tx:
        held = allocations.of_consumer(tx, uuid)
    assert held is not None
    cloud.db.run(lambda tx: allocations.release(tx, uuid, cloud.clock.now()))

    waited: list[float] = []

    class Between:
        """The clock of the cloud; the allocation comes back while the second look is waited for."""

        now, monotonic = staticmethod(cloud.clock.now), staticmethod(cloud.clock.monotonic)

        def wait(self, event: threading.Event, seconds: float) -> bool:
            waited.append(seconds)
            again = allocations.Claim(uuid, held.allocations, held.project_id, held.user_id, "INSTANCE")
            cloud.db.run(lambda tx: allocations.write(tx, [again], cloud.clock.now()))
            return False

    assert list(drift.of_cell(replace(cloud.cloud, clock=Between()), cell, 5, lambda count: None)) == []
    assert waited == [drift.SECOND_LOOK_SECONDS], "the first look found it"


def test_one_that_was_begun_just_now_is_not_begun_again(cloud: Federation) -> None:
    compare(cloud)
    settings = SuperConductorSettings(compare_seconds=3600)
    deps = SuperConductorContext(cloud.cloud, Scheduler(cloud.cloud), settings, "second")
    with cloud.db.connect() as tx:
        before = comparisons.newest(tx)
    assert comparing.compare(deps, threading.Event()) is None
    with cloud.db.connect() as tx:
        assert comparisons.newest(tx) == before


def test_of_a_cell_that_does_not_answer_nothing_is_said(cloud: Federation, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = cloud.cells.open(cloud.ids["cell1"])
    uuid = cloud.boot(availability_zone="nova:cell1-host1")

    def lost(*_: Any, **__: Any) -> Any:
        raise CellUnavailable(cell="cell1", reason="gone")

    monkeypatch.setattr(opened.db, "connect", lost)
    made = compare(cloud)
    assert (made.found, made.missed) == ({}, ["cell1"])
    assert shown(cloud)["not compared"] == 1
    assert uuid in cloud.allocations()
