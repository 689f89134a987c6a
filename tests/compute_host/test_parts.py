"""The smaller parts of a compute host: settings, timers, the backlog, the image cache."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from cell_service.config import load
from cell_service.context import ManualClock, internal
from cell_service.errors import ImageUnacceptable, Invalid, OperationLost, QueueUnavailable
from cell_service.model.instance import Flavor, Instance
from cell_service.model.operation import ClaimedOperation, Phase, StoredOperation
from cell_service.operations.builds import BUILD
from cell_service.operations.declaration import Operation
from cell_service.operations.deletes import DELETE
from cell_service.operations.power import STOP
from compute_host.backlog import Backlog
from compute_host.config import settings_from
from compute_host.image_cache import ImageCache
from compute_host.timers import Repeated, Timers
from tests.suites.peers import MemoryImages
from tests.suites.steps import StepPool

FLAVOR = Flavor(flavorid="1", name="small", vcpus=1, memory_mib=64, root_gib=1)


# -- settings ----------------------------------------------------------------------------------------


def test_settings_are_read_under_novas_names(tmp_path: Path) -> None:
    file = tmp_path / "nova.conf"
    file.write_text(
        "[DEFAULT]\nhost = h7\nstate_path = /srv/nova\ncompute_driver = simulated.SimulatedDriver\n"
        "max_concurrent_builds = 3\ncpu_allocation_ratio = 16.0\nreserved_host_disk_mb = 1025\n"
        "[simulated]\nvcpus = 12\nboot_seconds = 1.5\n"
    )
    settings = settings_from(load([str(file)]))
    assert (settings.host, settings.state) == ("h7", Path("/srv/nova/instances"))
    assert (settings.max_concurrent_builds, settings.ratios.cpu, settings.ratios.ram) == (3, 16.0, 1.0)
    assert settings.reserved.disk_gib == 2
    assert (settings.simulated.vcpus, settings.simulated.boot_seconds) == (12, 1.5)


def test_a_setting_that_makes_no_sense_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "nova.conf"
    file.write_text("[simulated]\nvcpus = many\n")
    with pytest.raises(Invalid, match="vcpus"):
        settings_from(load([str(file)]))


# -- timers ------------------------------------------------------------------------------------------


def test_what_fails_is_tried_again_soon_and_what_went_well_at_its_time() -> None:
    clock, pool = ManualClock(), StepPool()
    timers = Timers(clock, threaded=False)
    runs: list[float] = []

    def step() -> None:
        runs.append(clock.monotonic())
        if len(runs) < 3:
            raise QueueUnavailable(reason="not yet")

    repeated = Repeated("test", timers, pool, step, 60)
    repeated.start(0)
    for _ in range(200):
        timers.fire()
        pool.run()
        clock.advance(1)
    assert runs[2] < 10
    assert 45 < runs[3] - runs[2] <= 61
    repeated.stop()
    count = len(runs)
    clock.advance(1000)
    timers.fire()
    pool.run()
    assert len(runs) == count


def test_triggering_what_runs_has_it_run_once_more() -> None:
    clock, pool = ManualClock(), StepPool()
    runs: list[int] = []

    def step() -> None:
        runs.append(1)
        if len(runs) == 1:
            repeated.trigger()
            repeated.trigger()

    repeated = Repeated("test", Timers(clock, threaded=False), pool, step, None)
    repeated.trigger()
    repeated.trigger()
    pool.run()
    assert len(runs) == 2


# -- the backlog -------------------------------------------------------------------------------------


def work(number: int, kind: Operation[Any, Any], uuid: str) -> ClaimedOperation:
    now = ManualClock().now()
    operation = StoredOperation(
        id=number, instance_uuid=uuid, kind=kind.name, phase=Phase.RUNNING, host="h1", request_id="req-1", user_id="u",
        project_id="p", created_at=now, deadline=now + timedelta(hours=1), fence=1,
    )  # fmt: skip
    return ClaimedOperation(operation, Instance(uuid, "p", "u", "server", FLAVOR, now))


def backlog(builds: int = 2, verbs: int = 2) -> tuple[Backlog, list[ClaimedOperation]]:
    begun: list[ClaimedOperation] = []
    return Backlog(ManualClock(), builds, verbs, begun.append), begun


def test_of_an_instance_one_operation_runs_at_a_time_and_the_older_is_lost() -> None:
    log, begun = backlog()
    log.add([work(1, BUILD, "a")])
    log.add([work(2, DELETE, "a")])
    assert [each.id for each in begun] == [1]
    with pytest.raises(OperationLost):
        log.check(begun[0])
    log.end(begun[0])
    assert [each.id for each in begun] == [1, 2]


def test_builds_and_other_work_have_their_own_limits() -> None:
    log, begun = backlog()
    log.add([work(number, BUILD, f"b{number}") for number in range(1, 5)])
    log.add([work(number, STOP, f"v{number}") for number in range(11, 15)])
    assert [each.id for each in begun] == [1, 2, 11, 12]
    assert log.capacity() == (0, 4)
    log.end(begun[0])
    assert begun[-1].id == 3


def test_a_reserved_instance_waits_and_a_held_one_cannot_be_reserved() -> None:
    log, begun = backlog()
    assert log.reserve("a")
    log.add([work(1, STOP, "a")])
    assert begun == []
    assert not log.reserve("a")
    log.release("a")
    assert [each.id for each in begun] == [1]


def test_a_closed_backlog_begins_nothing() -> None:
    log, begun = backlog()
    log.close()
    log.add([work(1, STOP, "a")])
    assert begun == []
    assert log.wait_idle(0)


# -- images ------------------------------------------------------------------------------------------


def test_many_builds_at_once_fetch_an_image_once(tmp_path: Path) -> None:
    images = MemoryImages()
    image_id = images.add(b"x" * 1000)
    cache = ImageCache(images, tmp_path / "cache")
    gate = threading.Barrier(6)

    def build(_number: int) -> bytes:
        gate.wait(timeout=30)
        with cache.image(internal(), image_id, FLAVOR) as (_record, path):
            return path.read_bytes()

    with ThreadPoolExecutor(6) as pool:
        assert set(pool.map(build, range(6))) == {b"x" * 1000}
    assert images.downloads == [image_id]


def test_a_changed_image_is_fetched_anew_and_a_cut_off_file_is_replaced(tmp_path: Path) -> None:
    images = MemoryImages()
    image_id = images.add(b"first")
    cache = ImageCache(images, tmp_path / "cache")
    with cache.image(internal(), image_id, FLAVOR) as (_record, path):
        path.write_bytes(b"fi")
    with cache.image(internal(), image_id, FLAVOR) as (_record, path):
        assert path.read_bytes() == b"first"
    other = images.add(b"second")
    images.records[image_id] = replace(images.records[other], id=image_id)
    images.contents[image_id] = b"second"
    with cache.image(internal(), image_id, FLAVOR) as (_record, path):
        assert path.read_bytes() == b"second"


def test_images_that_nobody_used_for_long_go_unless_in_use(tmp_path: Path) -> None:
    images = MemoryImages()
    used, unused = images.add(b"used"), images.add(b"unused")
    cache = ImageCache(images, tmp_path / "cache")
    with cache.image(internal(), unused, FLAVOR) as (_record, path):
        os.utime(path, (1, 1))
    with cache.image(internal(), used, FLAVOR) as (_record, kept):
        os.utime(kept, (1, 1))
        assert cache.sweep(60) == [path.name]
        assert kept.exists()


def test_an_image_that_does_not_fit_the_flavor_is_refused_before_it_is_fetched(tmp_path: Path) -> None:
    images = MemoryImages()
    cache = ImageCache(images, tmp_path / "cache")
    for fields in ({"min_ram_mib": 65}, {"min_disk_gib": 2}, {"status": "queued"}):
        image_id = images.add(b"x", **fields)
        with pytest.raises(ImageUnacceptable), cache.image(internal(), image_id, FLAVOR):
            pass
    assert images.downloads == []
