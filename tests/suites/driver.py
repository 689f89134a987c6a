"""What every driver must do. A subclass gives the fixtures `driver` (started), `image` (a bootable file and its format)
and, where the driver can lose its memory on purpose, `again` (a new driver on the same host)."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol
from uuid import uuid4

import pytest

from cell_service.errors import (
    DriverError,
    GuestAgentNotEnabled,
    GuestNotFound,
    HostOutOfSpace,
    ImageUnacceptable,
    InstanceNotReady,
)
from cell_service.model.guest_agent import Quiesce
from cell_service.model.instance import FixedIp, Flavor, Instance, Vif
from cell_service.model.lifecycle import PowerState
from compute_host.virt.driver import (
    GIB,
    ConsoleLog,
    CrashDumps,
    Disk,
    Driver,
    GuestSpec,
    LiveSnapshots,
    Movable,
    Passwords,
    Quiescing,
    Receiving,
    RemoteConsoles,
    Rescuable,
    Resizable,
    Snapshots,
)
from tests.suites import hostile_images
from tests.suites.peers import WITH_AGENT

SMALL = Flavor(flavorid="1", name="small", vcpus=1, memory_mib=128, root_gib=1)
RUNNING, PAUSED, SHUTDOWN, SUSPENDED = (
    PowerState.RUNNING, PowerState.PAUSED, PowerState.SHUTDOWN, PowerState.SUSPENDED,
)  # fmt: skip


def spec_of(image: Path, image_format: str, flavor: Flavor = SMALL, **fields: object) -> GuestSpec:
    """A guest with one disk and no port; `properties` are those of its image."""
    name, properties = str(fields.pop("name", "guest")), fields.pop("properties", {})
    assert isinstance(properties, dict)
    instance = Instance(
        uuid=str(uuid4()),
        project_id="p",
        user_id="u",
        display_name=name,
        hostname=name,
        flavor=flavor,
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
        image_ref=str(uuid4()),
        system_metadata={f"image_{key}": value for key, value in properties.items()},
    )
    disk = Disk("root", flavor.root_gib * GIB, image, image_format, image.stat().st_size)
    return GuestSpec(instance, (disk,), ())


LARGE = replace(SMALL, flavorid="2", name="large", vcpus=2, memory_mib=256, root_gib=2)


def as_it_is(spec: GuestSpec, flavor: Flavor = SMALL) -> GuestSpec:
    """The guest that exists, with this size."""
    instance = replace(spec.instance, flavor=flavor)
    return GuestSpec(instance, (Disk("root", flavor.root_gib * GIB),), spec.nics)


def nic() -> Vif:
    return Vif(str(uuid4()), "net", "net", "fa:16:3e:00:00:01", (FixedIp("10.0.0.1", 4, "subnet"),))


class ResizingDriver(Driver, Resizable, Protocol):
    """A driver whose guests can be resized."""


class DriverSuite:
    again: Callable[[], Driver] | None = None

    @pytest.fixture
    def spec(self, image: tuple[Path, str]) -> GuestSpec:
        return spec_of(*image)

    @pytest.fixture
    def running(self, driver: Driver, spec: GuestSpec) -> GuestSpec:
        driver.spawn(spec)
        return spec

    @pytest.fixture
    def off(self, driver: Driver, running: GuestSpec) -> GuestSpec:
        driver.power_off(running.instance.uuid, graceful_seconds=0)
        return running

    def test_it_has_a_node_with_room(self, driver: Driver) -> None:
        (node,) = driver.nodes()
        assert (node.vcpus > 0, node.memory_mib > 0, node.local_gib > 0) == (True, True, True)
        assert node.uuid == driver.nodes()[0].uuid
        assert all(trait.replace("_", "").isalnum() and trait == trait.upper() for trait in node.traits)
        assert all(len(triple) == 3 for triple in node.supported_instances)

    def test_a_spawned_guest_runs_and_uses_the_host(self, driver: Driver, spec: GuestSpec) -> None:
        before = driver.nodes()[0]
        driver.spawn(spec)
        after = driver.nodes()[0]
        assert driver.power_state(spec.instance.uuid) is RUNNING
        assert [guest.uuid for guest in driver.guests()] == [spec.instance.uuid]
        assert after.vcpus_used - before.vcpus_used == 1
        assert after.memory_mib_used > before.memory_mib_used
        assert after.running_vms == before.running_vms + 1

    def test_spawning_twice_is_spawning_once(self, driver: Driver, running: GuestSpec) -> None:
        driver.spawn(running)
        assert len(driver.guests()) == 1
        assert driver.power_state(running.instance.uuid) is RUNNING

    def test_a_destroyed_guest_is_gone_with_all_it_used(self, driver: Driver, spec: GuestSpec) -> None:
        before = driver.nodes()[0]
        driver.spawn(spec)
        driver.destroy(spec.instance.uuid)
        assert driver.guests() == ()
        assert driver.nodes()[0].vcpus_used == before.vcpus_used
        with pytest.raises(GuestNotFound):
            driver.power_state(spec.instance.uuid)

    def test_destroying_what_is_not_there_is_no_error(self, driver: Driver) -> None:
        before = [guest.uuid for guest in driver.guests()]
        driver.destroy(str(uuid4()))
        assert [guest.uuid for guest in driver.guests()] == before

    def test_destroy_works_from_every_state(self, driver: Driver, image: tuple[Path, str]) -> None:
        for verb in (driver.pause, driver.suspend, lambda uuid: driver.power_off(uuid, graceful_seconds=0)):
            spec = spec_of(*image)
            driver.spawn(spec)
            verb(spec.instance.uuid)
            driver.destroy(spec.instance.uuid)
        assert driver.guests() == ()

    def test_off_and_on(self, driver: Driver, running: GuestSpec) -> None:
        uuid = running.instance.uuid
        for _ in range(2):
            driver.power_off(uuid, graceful_seconds=0)
            assert driver.power_state(uuid) is SHUTDOWN
        for _ in range(2):
            driver.power_on(running)
            assert driver.power_state(uuid) is RUNNING

    def test_pause_and_unpause(self, driver: Driver, running: GuestSpec) -> None:
        uuid = running.instance.uuid
        for _ in range(2):
            driver.pause(uuid)
            assert driver.power_state(uuid) is PAUSED
        for _ in range(2):
            driver.unpause(uuid)
            assert driver.power_state(uuid) is RUNNING

    def test_suspend_and_resume(self, driver: Driver, running: GuestSpec) -> None:
        uuid = running.instance.uuid
        for _ in range(2):
            driver.suspend(uuid)
            assert driver.power_state(uuid) in (SUSPENDED, SHUTDOWN)
        for _ in range(2):
            driver.resume(running)
            assert driver.power_state(uuid) is RUNNING

    def test_a_hard_reboot_works_from_every_state(self, driver: Driver, running: GuestSpec) -> None:
        uuid = running.instance.uuid
        for before in (
            lambda: None,
            lambda: driver.pause(uuid),
            lambda: driver.suspend(uuid),
            lambda: driver.power_off(uuid, graceful_seconds=0),
        ):
            before()
            driver.reboot(running, hard=True)
            assert driver.power_state(uuid) is RUNNING

    def test_a_soft_reboot_leaves_it_running(self, driver: Driver, running: GuestSpec) -> None:
        driver.reboot(running, hard=False)
        assert driver.power_state(running.instance.uuid) is RUNNING

    def test_a_stopped_guest_cannot_be_paused(self, driver: Driver, running: GuestSpec) -> None:
        driver.power_off(running.instance.uuid, graceful_seconds=0)
        with pytest.raises(DriverError):
            driver.pause(running.instance.uuid)
        assert driver.power_state(running.instance.uuid) is SHUTDOWN

    @pytest.mark.parametrize("verb", ["pause", "unpause", "suspend"])
    def test_a_guest_that_is_not_there_is_said_so(self, driver: Driver, verb: str) -> None:
        with pytest.raises(GuestNotFound):
            getattr(driver, verb)(str(uuid4()))
        with pytest.raises(GuestNotFound):
            driver.power_off(str(uuid4()), graceful_seconds=0)

    def test_power_on_of_a_guest_that_is_not_there_is_said_so(self, driver: Driver, spec: GuestSpec) -> None:
        for verb in (driver.power_on, driver.resume):
            with pytest.raises(GuestNotFound):
                verb(spec)

    def test_what_exceeds_the_host_is_refused_and_leaves_nothing(self, driver: Driver, image: tuple[Path, str]) -> None:
        (node,) = driver.nodes()
        giant = Flavor(flavorid="9", name="giant", vcpus=1, memory_mib=node.memory_mib * 100, root_gib=1)
        with pytest.raises(HostOutOfSpace):
            driver.spawn(spec_of(*image, flavor=giant))
        assert driver.guests() == ()

    def test_an_image_that_lies_is_refused_and_leaves_nothing(self, driver: Driver, tmp_path: Path) -> None:
        liar = tmp_path / "liar"
        liar.write_bytes(b"not a qcow2 at all" * 100)
        with pytest.raises(ImageUnacceptable):
            driver.spawn(spec_of(liar, "qcow2"))
        assert driver.guests() == ()

    @pytest.mark.parametrize("case", hostile_images.HOSTILE)
    def test_a_hostile_image_is_refused_and_the_host_stays_in_service(
        self, driver: Driver, spec: GuestSpec, tmp_path: Path, case: str
    ) -> None:
        with pytest.raises(ImageUnacceptable):
            driver.spawn(spec_of(*hostile_images.made(tmp_path, case)))
        assert driver.guests() == ()
        driver.spawn(spec)
        assert [guest.uuid for guest in driver.guests()] == [spec.instance.uuid]

    def test_guests_run_on_without_the_driver(
        self, driver: Driver, running: GuestSpec, again: Callable[[], Driver]
    ) -> None:
        node = driver.nodes()[0].uuid
        driver.stop()
        later = again()
        assert later.power_state(running.instance.uuid) is RUNNING
        assert later.nodes()[0].uuid == node
        later.spawn(running)
        assert len(later.guests()) == 1

    def test_a_copy_of_a_guest_that_is_off_starts_another(
        self, driver: Driver, running: GuestSpec, tmp_path: Path
    ) -> None:
        assert isinstance(driver, Snapshots)
        uuid, target = running.instance.uuid, tmp_path / "copy"
        with pytest.raises(DriverError):
            driver.snapshot(uuid, target)
        driver.power_off(uuid, graceful_seconds=0)
        target.write_bytes(b"an earlier file")
        kind = driver.snapshot(uuid, target)
        other = spec_of(target, kind)
        driver.spawn(other)
        assert driver.power_state(other.instance.uuid) is RUNNING
        assert driver.power_state(uuid) is SHUTDOWN
        assert [path.name for path in tmp_path.glob("copy*")] == ["copy"]

    def test_a_guest_that_runs_is_copied_and_goes_on(self, driver: Driver, running: GuestSpec, tmp_path: Path) -> None:
        assert isinstance(driver, LiveSnapshots)
        uuid, target = running.instance.uuid, tmp_path / "copy"
        for state in (RUNNING, PAUSED):
            kind = driver.snapshot_running(uuid, target)
            assert driver.power_state(uuid) is state
            driver.pause(uuid)
        driver.power_off(uuid, graceful_seconds=0)
        other = spec_of(target, kind)
        driver.spawn(other)
        assert driver.power_state(other.instance.uuid) is RUNNING
        driver.snapshot_running(uuid, target)
        assert driver.power_state(uuid) is SHUTDOWN

    def test_a_paused_guest_is_not_quiesced(self, driver: Driver, image: tuple[Path, str], tmp_path: Path) -> None:
        assert isinstance(driver, LiveSnapshots)
        assert isinstance(driver, Quiescing)
        spec, target = spec_of(*image, properties=WITH_AGENT), tmp_path / "copy"
        uuid = spec.instance.uuid
        driver.spawn(spec)
        driver.pause(uuid)
        with pytest.raises(DriverError, match="paused"):
            driver.snapshot_running(uuid, target, quiesce=Quiesce.REQUIRED)
        assert list(tmp_path.glob("copy*")) == []
        with pytest.raises(DriverError, match="paused"), driver.quiesced(uuid, Quiesce.REQUIRED):
            pass
        with driver.quiesced(uuid, Quiesce.IF_POSSIBLE):
            driver.snapshot_running(uuid, target, quiesce=Quiesce.IF_POSSIBLE)
        assert target.exists()
        assert driver.power_state(uuid) is PAUSED
        driver.power_off(uuid, graceful_seconds=0)
        with driver.quiesced(uuid, Quiesce.REQUIRED):
            driver.snapshot_running(uuid, target, quiesce=Quiesce.REQUIRED)
        with pytest.raises(GuestNotFound), driver.quiesced(str(uuid4()), Quiesce.REQUIRED):
            pass

    def test_a_password_is_set_by_an_agent_of_a_guest_that_runs(
        self, driver: Driver, running: GuestSpec, image: tuple[Path, str]
    ) -> None:
        assert isinstance(driver, Passwords)
        with pytest.raises(GuestAgentNotEnabled):
            driver.set_admin_password(running, "secret")
        with_agent = spec_of(*image, properties=WITH_AGENT)
        with pytest.raises(GuestNotFound):
            driver.set_admin_password(with_agent, "secret")
        driver.spawn(with_agent)
        driver.power_off(with_agent.instance.uuid, graceful_seconds=0)
        with pytest.raises(DriverError, match="shutdown"):
            driver.set_admin_password(with_agent, "secret")

    def test_there_is_no_copy_of_a_guest_that_is_not_there(self, driver: Driver, tmp_path: Path) -> None:
        assert isinstance(driver, Snapshots)
        assert isinstance(driver, LiveSnapshots)
        for copy in (driver.snapshot, driver.snapshot_running):
            with pytest.raises(GuestNotFound):
                copy(str(uuid4()), tmp_path / "copy")
        assert list(tmp_path.glob("copy*")) == []

    @pytest.mark.parametrize("stable", [False, True])
    def test_a_guest_is_rescued_and_back(self, driver: Driver, running: GuestSpec, stable: bool) -> None:
        assert isinstance(driver, Rescuable)
        uuid, own = running.instance.uuid, as_it_is(running)
        with pytest.raises(DriverError):
            driver.rescue(running, stable=stable)
        assert driver.power_state(uuid) is RUNNING
        driver.power_off(uuid, graceful_seconds=0)
        driver.rescue(running, stable=stable)
        assert driver.power_state(uuid) is RUNNING
        driver.reboot(own, hard=True)
        assert driver.power_state(uuid) is RUNNING
        for _ in range(2):
            driver.unrescue(own)
            assert driver.power_state(uuid) is RUNNING

    def test_a_rescue_from_an_image_that_lies_leaves_the_guest_as_it_was(
        self, driver: Driver, running: GuestSpec, tmp_path: Path
    ) -> None:
        assert isinstance(driver, Rescuable)
        liar = tmp_path / "liar"
        liar.write_bytes(b"MZ" * 4096)
        driver.power_off(running.instance.uuid, graceful_seconds=0)
        wrong = replace(running, disks=(replace(running.disks[0], image=liar, image_format="qcow2"),))
        with pytest.raises(ImageUnacceptable):
            driver.rescue(wrong, stable=False)
        assert driver.power_state(running.instance.uuid) is SHUTDOWN
        driver.power_on(as_it_is(running))
        assert driver.power_state(running.instance.uuid) is RUNNING

    def test_a_crash_dump_is_of_a_guest_that_runs(self, driver: Driver, running: GuestSpec) -> None:
        assert isinstance(driver, CrashDumps)
        driver.trigger_crash_dump(running.instance.uuid)
        driver.power_off(running.instance.uuid, graceful_seconds=0)
        with pytest.raises(DriverError):
            driver.trigger_crash_dump(running.instance.uuid)
        with pytest.raises(GuestNotFound):
            driver.trigger_crash_dump(str(uuid4()))

    def test_a_guest_is_made_without_being_started(self, driver: Driver, spec: GuestSpec, tmp_path: Path) -> None:
        assert isinstance(driver, Receiving)
        uuid = spec.instance.uuid
        for _ in range(2):
            driver.receive(spec, None)
            assert driver.power_state(uuid) is SHUTDOWN
        driver.power_on(as_it_is(spec))
        assert driver.power_state(uuid) is RUNNING
        with pytest.raises(DriverError):
            driver.receive(spec, None)
        assert driver.power_state(uuid) is RUNNING
        driver.destroy(uuid)
        liar = tmp_path / "liar"
        liar.write_bytes(b"MZ" * 4096)
        with pytest.raises(ImageUnacceptable):
            driver.receive(replace(spec, disks=(replace(spec.disks[0], image=liar, image_format="qcow2"),)), None)
        assert driver.guests() == ()

    def test_received_where_it_is_it_has_another_size_and_back(self, driver: ResizingDriver, off: GuestSpec) -> None:
        uuid = off.instance.uuid
        migrate_data = driver.pack(uuid)
        for flavor in (LARGE, SMALL, LARGE):
            driver.receive(as_it_is(off, flavor), migrate_data)
            assert driver.nodes()[0].vcpus_used == flavor.vcpus
            assert driver.power_state(uuid) is SHUTDOWN
        driver.power_on(as_it_is(off, LARGE))
        assert driver.power_state(uuid) is RUNNING

    def test_a_running_guest_is_not_resized(self, driver: ResizingDriver, off: GuestSpec) -> None:
        migrate_data = driver.pack(off.instance.uuid)
        driver.power_on(as_it_is(off))
        with pytest.raises(DriverError):
            driver.receive(as_it_is(off, LARGE), migrate_data)
        with pytest.raises(DriverError):
            driver.pack(off.instance.uuid)
        assert driver.power_state(off.instance.uuid) is RUNNING
        assert driver.nodes()[0].vcpus_used == SMALL.vcpus

    def test_a_size_that_does_not_fit_changes_nothing(self, driver: ResizingDriver, off: GuestSpec) -> None:
        migrate_data = driver.pack(off.instance.uuid)
        giant = replace(SMALL, memory_mib=driver.nodes()[0].memory_mib * 100)
        with pytest.raises(HostOutOfSpace):
            driver.receive(as_it_is(off, giant), migrate_data)
        driver.power_on(as_it_is(off))
        assert driver.nodes()[0].vcpus_used == SMALL.vcpus
        assert driver.power_state(off.instance.uuid) is RUNNING

    def test_the_migrate_data_of_another_kind_of_host_is_refused(self, driver: ResizingDriver, spec: GuestSpec) -> None:
        with pytest.raises(DriverError):
            driver.receive(as_it_is(spec), {"something": "else"})
        assert driver.guests() == ()

    def test_the_console_says_something(self, driver: Driver, running: GuestSpec) -> None:
        if isinstance(driver, ConsoleLog):
            assert isinstance(driver.console_output(running.instance.uuid), str)
            with pytest.raises(GuestNotFound):
                driver.console_output(str(uuid4()))

    def test_a_console_is_of_a_guest_that_runs(self, driver: Driver, running: GuestSpec) -> None:
        assert isinstance(driver, RemoteConsoles)
        uuid = running.instance.uuid
        assert driver.remote_console(uuid, "novnc") == driver.remote_console(uuid, "novnc")
        driver.pause(uuid)
        assert driver.remote_console(uuid, "novnc").base_url == ""
        driver.power_off(uuid, graceful_seconds=0)
        with pytest.raises(InstanceNotReady):
            driver.remote_console(uuid, "novnc")
        with pytest.raises(GuestNotFound):
            driver.remote_console(str(uuid4()), "novnc")


class MovingDriver(Driver, Movable, Protocol):
    """A driver whose guests can move."""


class MovableSuite:
    """What drivers must do whose guests can move. A subclass gives the fixtures `driver`, `other` (a second host of the
    same kind, started) and `image`."""

    @pytest.fixture
    def spec(self, image: tuple[Path, str]) -> GuestSpec:
        return spec_of(*image)

    @pytest.fixture
    def running(self, driver: MovingDriver, spec: GuestSpec) -> GuestSpec:
        driver.spawn(spec)
        return spec

    @pytest.fixture
    def off(self, driver: MovingDriver, running: GuestSpec) -> GuestSpec:
        driver.power_off(running.instance.uuid, graceful_seconds=0)
        return running

    def test_it_can(self, driver: MovingDriver, other: MovingDriver) -> None:
        assert isinstance(driver, Movable)
        assert isinstance(other, Movable)

    def test_a_packed_guest_stays_off_until_it_is_started_where_it_is_received(
        self, driver: MovingDriver, other: MovingDriver, off: GuestSpec
    ) -> None:
        uuid, here = off.instance.uuid, as_it_is(off)
        migrate_data = driver.pack(uuid)
        for _ in range(2):
            other.receive(here, migrate_data)
            assert other.power_state(uuid) is SHUTDOWN
        assert driver.power_state(uuid) is SHUTDOWN
        assert other.nodes()[0].vcpus_used == 1
        other.power_on(here)
        assert other.power_state(uuid) is RUNNING
        driver.destroy(uuid)
        assert other.power_state(uuid) is RUNNING

    def test_luggage_is_plain_json_and_the_same_each_time(self, driver: MovingDriver, off: GuestSpec) -> None:
        migrate_data = driver.pack(off.instance.uuid)
        assert json.loads(json.dumps(migrate_data)) == migrate_data
        assert driver.pack(off.instance.uuid) == migrate_data

    def test_what_runs_cannot_be_packed_and_what_is_off_cannot_be_sent(
        self, driver: MovingDriver, running: GuestSpec
    ) -> None:
        with pytest.raises(DriverError):
            driver.pack(running.instance.uuid)
        assert driver.power_state(running.instance.uuid) is RUNNING
        driver.power_off(running.instance.uuid, graceful_seconds=0)
        with pytest.raises(DriverError):
            driver.send(running.instance.uuid)

    @pytest.mark.parametrize("paused", [False, True])
    def test_a_sent_guest_stands_still_and_goes_on_where_it_arrives(
        self, driver: MovingDriver, other: MovingDriver, running: GuestSpec, paused: bool
    ) -> None:
        uuid, here = running.instance.uuid, as_it_is(running)
        if paused:
            driver.pause(uuid)
        migrate_data = driver.send(uuid)
        assert driver.power_state(uuid) in (PAUSED, SHUTDOWN)
        assert driver.send(uuid) == migrate_data
        other.receive(here, migrate_data)
        assert other.power_state(uuid) is not RUNNING
        for _ in range(2):
            other.arrive(here, migrate_data)
            assert other.power_state(uuid) is (PAUSED if paused else RUNNING)
        assert driver.power_state(uuid) in (PAUSED, SHUTDOWN)

    def test_a_guest_that_was_sent_for_nothing_goes_on_where_it_was(
        self, driver: MovingDriver, running: GuestSpec
    ) -> None:
        uuid = running.instance.uuid
        migrate_data = driver.send(uuid)
        driver.power_on(as_it_is(running))
        assert driver.power_state(uuid) is RUNNING
        migrate_data = driver.send(uuid)
        driver.arrive(as_it_is(running), migrate_data)
        assert driver.power_state(uuid) is RUNNING

    def test_without_luggage_it_is_made_from_its_image_and_not_started(
        self, driver: MovingDriver, spec: GuestSpec
    ) -> None:
        driver.receive(spec, None)
        driver.receive(spec, None)
        assert driver.power_state(spec.instance.uuid) is SHUTDOWN
        assert driver.nodes()[0].vcpus_used == 1
        driver.power_on(as_it_is(spec))
        assert driver.power_state(spec.instance.uuid) is RUNNING

    def test_what_does_not_fit_leaves_nothing_new_and_the_old_as_it_was(
        self, driver: MovingDriver, other: MovingDriver, off: GuestSpec
    ) -> None:
        uuid, migrate_data = off.instance.uuid, driver.pack(off.instance.uuid)
        giant = replace(SMALL, memory_mib=driver.nodes()[0].memory_mib * 100)
        for host in (driver, other):
            with pytest.raises(HostOutOfSpace):
                host.receive(as_it_is(off, giant), migrate_data)
        assert other.guests() == ()
        assert other.nodes()[0].vcpus_used == 0
        driver.power_on(as_it_is(off))
        assert driver.power_state(uuid) is RUNNING

    def test_a_guest_that_is_not_there_cannot_be_taken_away(self, driver: MovingDriver, spec: GuestSpec) -> None:
        for verb in (driver.pack, driver.send):
            with pytest.raises(GuestNotFound):
                verb(str(uuid4()))
