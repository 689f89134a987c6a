"""The simulated driver: the suite of all drivers, and what only it can do."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest

from cell_service.context import ManualClock
from cell_service.errors import DriverError, HostOutOfSpace, ImageUnacceptable, Invalid
from cell_service.model.block_device import BlockDevice
from cell_service.model.lifecycle import PowerState
from compute_host.config import HostSettings, SimulatedOptions
from compute_host.timers import Timers
from compute_host.virt import make_driver
from compute_host.virt.driver import Disk, GuestSpec
from compute_host.virt.inspection import check
from compute_host.virt.simulated import SimulatedDriver
from tests.suites.driver import DriverSuite, MovableSuite, as_it_is, nic, spec_of
from tests.suites.driver_volumes import NewDevice, SwapSuite, VolumesOf
from tests.suites.steps import StepPool

QUICK = SimulatedOptions(
    vcpus=2, memory_mib=2048, disk_gib=20, boot_seconds=0, verb_seconds=0, move_seconds=0, live_seconds=0
)


class Bench:
    """A simulated host on a clock turned by hand."""

    def __init__(self, directory: Path, options: SimulatedOptions = QUICK) -> None:
        self.settings = HostSettings(host="h1", state=directory / "h1", image_cache=directory / "i", simulated=options)
        self.clock = ManualClock()
        self.timers, self.pool = Timers(self.clock, threaded=False), StepPool()
        self.events: list[tuple[str, PowerState]] = []

    def driver(self) -> SimulatedDriver:
        driver = SimulatedDriver(self.settings, self.timers, self.pool)
        driver.start(lambda uuid, state: self.events.append((uuid, state)))
        return driver

    def faults(self, rules: dict[str, object]) -> None:
        (self.settings.state / "faults.json").write_text(json.dumps(rules))

    def pass_time(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.timers.fire()
        self.pool.run()


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@pytest.fixture
def driver(bench: Bench) -> Iterator[SimulatedDriver]:
    made = bench.driver()
    yield made
    made.stop()


@pytest.fixture
def image(tmp_path: Path) -> tuple[Path, str]:
    path = tmp_path / "image"
    path.write_bytes(b"a bootable thing")
    return path, "raw"


def qcow2(path: Path, *, virtual_bytes: int, version: int = 3, backing: int = 0, features: int = 0) -> Path:
    """A qcow2 header, and nothing behind it."""
    head = struct.pack(">4sIQIIQIIQQIIQQ", b"QFI\xfb", version, backing, 0, 16, virtual_bytes, 0, 0, 0, 0, 0, 0, 0,
                       features)  # fmt: skip
    path.write_bytes(head.ljust(1024, b"\0"))
    return path


class TestSimulatedDriver(DriverSuite):
    @pytest.fixture
    def again(self, bench: Bench) -> Callable[[], SimulatedDriver]:
        return bench.driver


@pytest.fixture
def other(tmp_path: Path) -> Iterator[SimulatedDriver]:
    made = Bench(tmp_path / "other").driver()
    yield made
    made.stop()


class TestSimulatedVolumes(SwapSuite):
    @pytest.fixture
    def new_device(self) -> NewDevice:
        def new(name: str = "/dev/vdb", boot_index: int | None = None) -> BlockDevice:
            return BlockDevice(
                str(uuid4()), "volume", "volume", boot_index, name, volume_id=str(uuid4()), volume_size=1
            )

        return new

    @pytest.fixture
    def volumes_of(self, driver: SimulatedDriver) -> VolumesOf:
        return lambda uuid: set(driver.volumes(uuid))


class TestMovingSimulatedGuests(MovableSuite):
    pass


@pytest.mark.parametrize("verb", ["pack", "send", "receive", "arrive"])
def test_moves_fail_on_request_and_work_the_next_time(
    tmp_path: Path, driver: SimulatedDriver, image: tuple[Path, str], bench: Bench, verb: str
) -> None:
    there = Bench(tmp_path / "there")
    target, spec = there.driver(), spec_of(*image, name="web-1")
    driver.spawn(spec)
    for where in (bench, there):
        where.faults({f"{verb}:web-*": {"times": 1, "reason": "the road is closed"}})
    uuid, here = spec.instance.uuid, as_it_is(spec)

    def again(step: Callable[[], object]) -> object:
        try:
            return step()
        except DriverError as error:
            failed.append(str(error))
            return step()

    failed: list[str] = []
    migrate_data = again(lambda: driver.send(uuid))
    again(lambda: target.receive(here, migrate_data))
    again(lambda: target.arrive(here, migrate_data))
    target.power_off(uuid, graceful_seconds=0)
    again(lambda: target.pack(uuid))
    assert failed == ["the road is closed"]
    assert driver.power_state(uuid) is PowerState.PAUSED


def test_a_guest_keeps_its_boots_and_the_console_tells_of_its_journey(
    driver: SimulatedDriver, other: SimulatedDriver, image: tuple[Path, str]
) -> None:
    spec = spec_of(*image, name="web-1")
    driver.spawn(spec)
    before = driver.console_output(spec.instance.uuid)
    migrate_data = driver.send(spec.instance.uuid)
    other.receive(as_it_is(spec), migrate_data)
    other.arrive(as_it_is(spec), migrate_data)
    after = other.console_output(spec.instance.uuid)
    assert after.startswith(before)
    assert after.count("Linux version") == 1
    assert after.endswith("live migrated")


def test_disks_of_another_host_take_the_place_of_what_was_left_here(
    driver: SimulatedDriver, other: SimulatedDriver, image: tuple[Path, str]
) -> None:
    spec = spec_of(*image)
    for host in (driver, other):
        host.spawn(spec)
        host.power_off(spec.instance.uuid, graceful_seconds=0)
    driver.power_on(as_it_is(spec))
    driver.power_off(spec.instance.uuid, graceful_seconds=0)
    other.receive(as_it_is(spec), driver.pack(spec.instance.uuid))
    assert other.console_output(spec.instance.uuid) == driver.console_output(spec.instance.uuid)


def test_a_guest_begun_and_never_finished_is_finished_by_the_next_spawn(
    bench: Bench, driver: SimulatedDriver, image: tuple[Path, str]
) -> None:
    spec = spec_of(*image)
    driver._guests.make(spec)
    later = bench.driver()
    assert [(guest.uuid, guest.power_state) for guest in later.guests()] == [(spec.instance.uuid, PowerState.NOSTATE)]
    later.spawn(spec)
    assert later.power_state(spec.instance.uuid) is PowerState.RUNNING


def test_capacity_counts_all_guests_and_over_commits_by_the_ratio(tmp_path: Path, image: tuple[Path, str]) -> None:
    bench = Bench(tmp_path, replace(QUICK, vcpus=1, disk_gib=10))
    driver = bench.driver()
    for _ in range(4):
        driver.spawn(spec_of(*image))
    with pytest.raises(HostOutOfSpace, match="5 vCPUs"):
        driver.spawn(spec_of(*image))
    assert len(driver.guests()) == 4


def test_faults_strike_the_guests_they_name_and_so_often(
    bench: Bench, driver: SimulatedDriver, image: tuple[Path, str]
) -> None:
    bench.faults({"spawn:web-*": {"error": "HostOutOfSpace", "times": 1, "reason": "no room for the web"}})
    driver.spawn(spec_of(*image, name="db-1"))
    with pytest.raises(HostOutOfSpace, match="no room for the web"):
        driver.spawn(spec_of(*image, name="web-1"))
    driver.spawn(spec_of(*image, name="web-1"))
    assert len(driver.guests()) == 2


def test_faults_at_a_rate_strike_some(bench: Bench, driver: SimulatedDriver) -> None:
    bench.faults({"destroy": {"rate": 0.5}})
    struck = 0
    for _ in range(200):
        try:
            driver.destroy(str(uuid4()))
        except DriverError:
            struck += 1
    assert 50 < struck < 150


def test_changed_faults_take_effect_and_broken_ones_are_none(
    bench: Bench, driver: SimulatedDriver, image: tuple[Path, str]
) -> None:
    spec = spec_of(*image)
    bench.faults({"spawn": {}})
    with pytest.raises(DriverError):
        driver.spawn(spec)
    (bench.settings.state / "faults.json").write_text("{ not json")
    driver.spawn(spec)
    bench.faults({f"power_off:{spec.instance.uuid}": {"reason": "the plug is stuck"}})
    with pytest.raises(DriverError, match="stuck"):
        driver.power_off(spec.instance.uuid, graceful_seconds=0)
    assert driver.power_state(spec.instance.uuid) is PowerState.RUNNING


def test_a_frozen_host_answers_nothing(bench: Bench, driver: SimulatedDriver) -> None:
    bench.faults({"host": "frozen"})
    for ask in (driver.nodes, driver.guests):
        with pytest.raises(DriverError):
            ask()


def test_stopping_the_driver_ends_what_hangs(bench: Bench, driver: SimulatedDriver, image: tuple[Path, str]) -> None:
    bench.faults({"spawn": {"hang_seconds": 3600}})
    driver._pace.stopped.set()
    spec = spec_of(*image)
    with pytest.raises(DriverError, match="stopped"):
        driver.spawn(spec)
    driver.stop()
    assert [guest.uuid for guest in bench.driver().guests()] == [spec.instance.uuid]


def test_guests_crash_by_themselves_when_asked_to(
    bench: Bench, driver: SimulatedDriver, image: tuple[Path, str]
) -> None:
    spec, other = spec_of(*image, name="db-1"), spec_of(*image, name="web-1")
    driver.spawn(spec)
    driver.spawn(other)
    bench.faults({"guest:db-*": {"does": "crash", "times": 1}})
    bench.pass_time(bench.settings.simulated.watch_seconds)
    assert bench.events == [(spec.instance.uuid, PowerState.CRASHED)]
    driver.power_on(spec)
    bench.pass_time(bench.settings.simulated.watch_seconds)
    assert len(bench.events) == 1


def test_the_console_tells_of_every_boot_and_its_end(driver: SimulatedDriver, image: tuple[Path, str]) -> None:
    spec = spec_of(*image, name="web-1")
    spec = GuestSpec(spec.instance, spec.disks, (nic(),))
    driver.spawn(spec)
    first = driver.console_output(spec.instance.uuid)
    assert first.endswith("web-1 login: ")
    assert "fa:16:3e:00:00:01" in first
    driver.reboot(spec, hard=False)
    second = driver.console_output(spec.instance.uuid)
    assert second.startswith(first)
    assert "Restarting system" in second
    driver.power_off(spec.instance.uuid, graceful_seconds=0)
    assert driver.console_output(spec.instance.uuid).endswith("Power down")


def test_images_are_looked_into(tmp_path: Path) -> None:
    def refused(path: Path, image_format: str, gib: int = 1) -> str:
        with pytest.raises(ImageUnacceptable) as error:
            check(Disk("root", gib * 2**30, path, image_format), "image")
        return str(error.value)

    good = qcow2(tmp_path / "good", virtual_bytes=2**30)
    assert check(Disk("root", 2**30, good, "qcow2"), "image") == 2**30
    assert "exceeds" in refused(qcow2(tmp_path / "large", virtual_bytes=2**30 + 1), "qcow2")
    assert "backing" in refused(qcow2(tmp_path / "backed", virtual_bytes=1, backing=104), "qcow2")
    assert "external" in refused(qcow2(tmp_path / "outside", virtual_bytes=1, features=4), "qcow2")
    assert "version" in refused(qcow2(tmp_path / "new", virtual_bytes=1, version=9), "qcow2")
    assert "is qcow2" in refused(good, "raw")
    assert "cannot be read" in refused(tmp_path / "nothing", "raw")


def test_the_factory_knows_the_simulated_driver_and_says_what_it_does_not_know(bench: Bench) -> None:
    assert isinstance(make_driver(bench.settings, bench.timers, bench.pool), SimulatedDriver)
    with pytest.raises(Invalid, match="compute_driver"):
        make_driver(replace(bench.settings, compute_driver="nonsense"), bench.timers, bench.pool)
