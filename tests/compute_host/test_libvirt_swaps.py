"""Volumes of running guests on libvirt that are replaced by others, which qemu-nbd serves: with bytes that are there
before, and bytes that the guest writes meanwhile."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

pytest.importorskip("libvirt", reason="needs libvirt-python")

import libvirt
import libvirt_qemu

from cell_service.errors import DriverError, NotYet, OperationLost
from cell_service.model.lifecycle import PowerState
from compute_host.virt.driver import GIB, GuestSpec
from compute_host.virt.libvirt.domain import volume_disks
from compute_host.virt.libvirt.driver import LibvirtDriver
from tests.real.databases import wait_until
from tests.real.libvirt_driver import Bench
from tests.real.libvirtd import PrivateLibvirtd
from tests.real.nbd import NbdVolume
from tests.suites.driver import spec_of
from tests.suites.driver_volumes import overtaken, unhurried, with_volumes

pytestmark = pytest.mark.real
MIB = 2**20
NewVolume = Callable[..., NbdVolume]
CONTENT = random.Random(1).randbytes(24 * MIB)
SLOW = 4096
"""Bytes per second: such a copy lasts until it is made quick again."""


@pytest.fixture
def volume(tmp_path: Path) -> Iterator[NewVolume]:
    made: list[NbdVolume] = []

    def new(size_gib: int = 1, content: bytes = b"") -> NbdVolume:
        made.append(NbdVolume(tmp_path, size_gib, content))
        made[-1].serve()
        return made[-1]

    yield new
    for each in made:
        each.kill_server()


@pytest.fixture
def spec(image: tuple[Path, str]) -> GuestSpec:
    return spec_of(*image, properties={"hw_disk_bus": "scsi"})


def disks(driver: LibvirtDriver, uuid: str, flag: int = 0) -> dict[str, Any]:
    with driver._guest(uuid) as found:
        known = volume_disks(found.XMLDesc(flag))
    return {key: disk for key, disk in known.items() if key != "root"}


def places(driver: LibvirtDriver, uuid: str, flag: int = 0) -> dict[str, list[dict[str, str]]]:
    """Name and address of each volume."""
    return {
        key: [dict(disk.find(part).items()) for part in ("target", "address")]
        for key, disk in disks(driver, uuid, flag).items()
    }


def both(driver: LibvirtDriver, uuid: str) -> set[str]:
    """The volumes of a running guest, the same, and at the same places, in both definitions."""
    stored = places(driver, uuid, libvirt.VIR_DOMAIN_XML_INACTIVE)
    assert places(driver, uuid) == stored
    return set(stored)


def write(driver: LibvirtDriver, uuid: str, device: str, offset: int, letter: str) -> None:
    """As the guest writes a MiB of that letter to the disk."""
    words = f'qemu-io -d {device} "write -P {ord(letter)} {offset} {MIB}"'
    with driver._guest(uuid) as found:
        libvirt_qemu.qemuMonitorCommand(found, words, libvirt_qemu.VIR_DOMAIN_QEMU_MONITOR_COMMAND_HMP)


@pytest.fixture
def slowly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Copies last until they are hurried."""
    copy, limit = libvirt.virDomain.blockCopy, {libvirt.VIR_DOMAIN_BLOCK_COPY_BANDWIDTH: SLOW}
    monkeypatch.setattr(
        libvirt.virDomain, "blockCopy", lambda found, disk, xml, _limits, flags: copy(found, disk, xml, limit, flags)
    )


def hurry(driver: LibvirtDriver, uuid: str) -> None:
    with driver._guest(uuid) as found:
        found.blockJobSetSpeed("sdb", 0, 0)


def begun(driver: LibvirtDriver, spec: GuestSpec, one: NbdVolume, other: NbdVolume) -> None:
    """The guest has the volume, and its copy has begun; the agent that began it is gone."""
    driver.spawn(spec)
    driver.attach_volume(spec, one.device())
    with pytest.raises(OperationLost):
        driver.swap_volume(spec, one.device(), other.device(), overtaken)
    assert both(driver, spec.instance.uuid) == {one.id}


def content(volume: NbdVolume) -> bytes:
    """What the storage has of the volume, up to the end of what was written first."""
    with volume.file.open("rb") as file:
        return file.read(len(CONTENT))


@pytest.mark.usefixtures("slowly")
def test_the_new_volume_has_what_the_old_had_and_what_the_guest_writes_meanwhile(
    driver: LibvirtDriver, spec: GuestSpec, volume: NewVolume
) -> None:
    uuid, one, other = spec.instance.uuid, volume(content=CONTENT), volume(content=b"old bytes" * MIB)
    driver.spawn(spec)
    driver.attach_volume(spec, one.device())
    before, written = places(driver, uuid)[one.id], []

    def writing() -> None:
        if not written:
            for place, letter in ((0, "a"), (20 * MIB, "b")):
                write(driver, uuid, "scsi0-0-0-1", place, letter)
                written.append(letter)
        else:
            hurry(driver, uuid)

    driver.swap_volume(spec, one.device(), other.device(), writing)
    write(driver, uuid, "scsi0-0-0-1", 22 * MIB, "c")
    assert places(driver, uuid) == {other.id: before}
    assert both(driver, uuid) == {other.id}
    one.kill_server()  # the guest needs it no more
    driver.reboot(with_volumes(spec, other.device()), hard=True)
    assert places(driver, uuid) == {other.id: before}
    driver.power_off(uuid, graceful_seconds=0)
    known, copied = content(one), content(other)
    assert copied[:MIB] == b"a" * MIB
    assert copied[20 * MIB : 23 * MIB] == b"b" * MIB + CONTENT[21 * MIB : 22 * MIB] + b"c" * MIB
    assert copied[MIB : 20 * MIB] == CONTENT[MIB : 20 * MIB]
    assert copied[23 * MIB :] == CONTENT[23 * MIB :]
    assert b"c" * MIB not in known


def test_a_guest_sees_the_serial_number_of_the_old_volume_until_it_starts_again(
    driver: LibvirtDriver, spec: GuestSpec, volume: NewVolume
) -> None:
    uuid, one, other = spec.instance.uuid, volume(), volume()
    driver.spawn(spec)
    driver.attach_volume(spec, one.device())
    driver.swap_volume(spec, one.device(), other.device(), unhurried)
    assert disks(driver, uuid)[other.id].findtext("serial") == one.id
    driver.suspend(uuid)
    driver.resume(with_volumes(spec, other.device()))
    assert disks(driver, uuid)[other.id].findtext("serial") == one.id
    driver.reboot(with_volumes(spec, other.device()), hard=True)
    assert disks(driver, uuid)[other.id].findtext("serial") == other.id


def test_a_volume_is_attached_where_a_swapped_one_was(
    driver: LibvirtDriver, spec: GuestSpec, volume: NewVolume
) -> None:
    """At the same name, with the serial number that the swapped one had."""
    uuid, one, other = spec.instance.uuid, volume(), volume()
    driver.spawn(spec)
    driver.attach_volume(spec, one.device())
    driver.swap_volume(spec, one.device(), other.device(), unhurried)
    driver.detach_volume(uuid, other.device())
    assert both(driver, uuid) == set()
    driver.attach_volume(spec, one.device())
    assert both(driver, uuid) == {one.id}
    assert places(driver, uuid)[one.id][0]["dev"] == "sdb"


def test_a_larger_volume_is_seen_as_large_as_it_is_once_the_guest_starts_again(
    driver: LibvirtDriver, spec: GuestSpec, volume: NewVolume
) -> None:
    uuid, one, other = spec.instance.uuid, volume(), volume(2)
    driver.spawn(spec)
    driver.attach_volume(spec, one.device())
    driver.pause(uuid)
    driver.swap_volume(spec, one.device(), other.device(), unhurried)
    assert driver.power_state(uuid) is PowerState.PAUSED
    driver.unpause(uuid)
    sizes = []
    for now in (1, 2):
        with driver._guest(uuid) as found:
            sizes.append((now, found.blockInfo("sdb")[0] // GIB))
        driver.power_off(uuid, graceful_seconds=0)
        driver.power_on(with_volumes(spec, other.device()))
    assert sizes == [(1, 1), (2, 2)]
    assert both(driver, uuid) == {other.id}


def test_a_guest_boots_from_a_root_volume_that_was_swapped(
    driver: LibvirtDriver, image: tuple[Path, str], volume: NewVolume
) -> None:
    root, data, other = volume(content=image[0].read_bytes()), volume(), volume()
    spec = spec_of(*image)
    devices = (root.device("/dev/vda", boot_index=0), data.device("/dev/vdb"))
    spec, uuid = replace(with_volumes(spec, *devices), disks=()), spec.instance.uuid
    driver.spawn(spec)
    before = disks(driver, uuid)[root.id].find("boot").attrib
    new = replace(other.device("/dev/vda", boot_index=0), volume_id=other.id)
    driver.swap_volume(spec, devices[0], new, unhurried)
    driver.power_off(uuid, graceful_seconds=0)
    driver.power_on(replace(with_volumes(spec, new, devices[1]), disks=()))
    assert disks(driver, uuid)[other.id].find("boot").attrib == before
    assert other.file.read_bytes()[:512] == image[0].read_bytes()


def test_a_cd_is_not_swapped(driver: LibvirtDriver, spec: GuestSpec, volume: NewVolume) -> None:
    uuid, one, other = spec.instance.uuid, volume(), volume()
    device = replace(one.device(), device_type="cdrom", disk_bus="scsi")
    spec = with_volumes(spec, device)
    driver.spawn(spec)
    with pytest.raises(DriverError, match="cannot be swapped"):
        driver.swap_volume(spec, device, other.device(), unhurried)
    assert both(driver, uuid) == {one.id}


@pytest.mark.parametrize("info", [{"driver_volume_type": "nbd"}, {"driver_volume_type": "unknown"}, {}])
def test_a_volume_that_cannot_be_a_disk_is_refused(
    driver: LibvirtDriver, spec: GuestSpec, volume: NewVolume, info: dict[str, Any]
) -> None:
    uuid, one, other = spec.instance.uuid, volume(), volume()
    driver.spawn(spec)
    driver.attach_volume(spec, one.device())
    with pytest.raises(DriverError):
        driver.swap_volume(spec, one.device(), replace(other.device(), connection_info=info), unhurried)
    assert both(driver, uuid) == {one.id}


def test_a_guest_that_is_off_swaps_nothing(driver: LibvirtDriver, spec: GuestSpec, volume: NewVolume) -> None:
    uuid, one, other = spec.instance.uuid, volume(), volume()
    driver.spawn(spec)
    driver.attach_volume(spec, one.device())
    for stop in (lambda: driver.suspend(uuid), lambda: driver.power_off(uuid, graceful_seconds=0)):
        driver.power_on(with_volumes(spec, one.device()))
        stop()
        with pytest.raises(DriverError, match="does not run"):
            driver.swap_volume(spec, one.device(), other.device(), unhurried)
        assert set(disks(driver, uuid, libvirt.VIR_DOMAIN_XML_INACTIVE)) == {one.id}


@pytest.mark.usefixtures("slowly")
def test_a_copy_is_adopted_by_the_next_agent(bench: Bench, spec: GuestSpec, volume: NewVolume) -> None:
    one, other = volume(content=CONTENT), volume()
    begun(bench._made[0], spec, one, other)
    bench._made[0].stop()
    later, uuid = bench.driver(), spec.instance.uuid
    write(later, uuid, "scsi0-0-0-1", 0, "a")
    later.swap_volume(spec, one.device(), other.device(), lambda: hurry(later, uuid))
    assert both(later, uuid) == {other.id}
    later.power_off(uuid, graceful_seconds=0)
    assert content(other) == b"a" * MIB + CONTENT[MIB:]


@pytest.mark.usefixtures("slowly")
def test_a_copy_outlives_libvirtd(
    libvirtd: PrivateLibvirtd, driver: LibvirtDriver, spec: GuestSpec, volume: NewVolume
) -> None:
    uuid, one, other = spec.instance.uuid, volume(content=CONTENT), volume()
    begun(driver, spec, one, other)
    libvirtd.kill_libvirtd()
    wait_until(libvirtd.answers, "libvirtd does not come back")
    driver.swap_volume(spec, one.device(), other.device(), lambda: hurry(driver, uuid))
    assert both(driver, uuid) == {other.id}
    driver.power_off(uuid, graceful_seconds=0)
    assert content(other) == CONTENT


@pytest.mark.usefixtures("slowly")
def test_a_guest_that_ends_while_it_is_copied_keeps_the_old_volume(
    driver: LibvirtDriver, spec: GuestSpec, volume: NewVolume
) -> None:
    uuid, one, other = spec.instance.uuid, volume(content=CONTENT), volume()
    begun(driver, spec, one, other)
    os.kill(qemu_of(uuid), signal.SIGKILL)
    wait_until(lambda: driver.power_state(uuid) is not PowerState.RUNNING, "QEMU does not end")
    with pytest.raises(DriverError, match="does not run"):
        driver.swap_volume(spec, one.device(), other.device(), unhurried)
    driver.power_on(with_volumes(spec, one.device()))
    assert both(driver, uuid) == {one.id}
    assert content(one) == CONTENT


def test_a_guest_that_ends_once_it_has_the_new_volume_has_it_afterwards(
    driver: LibvirtDriver, spec: GuestSpec, volume: NewVolume, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The agent, too, ends at that moment: nothing but libvirt knows."""
    uuid, one, other = spec.instance.uuid, volume(content=CONTENT), volume()
    driver.spawn(spec)
    driver.attach_volume(spec, one.device())

    def ends(*_arguments: object) -> None:
        raise DriverError(reason="The agent is gone.")

    with monkeypatch.context() as patched:
        patched.setattr(driver, "_name_swapped", ends)
        with pytest.raises(NotYet):
            driver.swap_volume(spec, one.device(), other.device(), unhurried)
    write(driver, uuid, "scsi0-0-0-1", 0, "a")
    driver.power_off(uuid, graceful_seconds=0)
    driver.swap_volume(spec, one.device(), other.device(), unhurried)
    assert set(disks(driver, uuid, libvirt.VIR_DOMAIN_XML_INACTIVE)) == {other.id}
    driver.power_on(with_volumes(spec, other.device()))
    assert both(driver, uuid) == {other.id}
    assert content(other) == b"a" * MIB + CONTENT[MIB:]


@pytest.mark.usefixtures("slowly")
def test_a_copy_that_fails_leaves_the_guest_its_old_volume(bench: Bench, spec: GuestSpec, volume: NewVolume) -> None:
    driver = bench.driver(replace(bench.settings, libvirt=replace(bench.settings.libvirt, nbd_reconnect_seconds=0)))
    uuid, one, other = spec.instance.uuid, volume(content=CONTENT), volume()
    begun(driver, spec, one, other)
    other.kill_server()
    with pytest.raises(DriverError):
        driver.swap_volume(spec, one.device(), other.device(), lambda: hurry(driver, uuid))
    assert both(driver, uuid) == {one.id}
    assert disks(driver, uuid)[one.id].find("mirror") is None
    other.serve()
    with pytest.raises(OperationLost):
        driver.swap_volume(spec, one.device(), other.device(), overtaken)
    driver.swap_volume(spec, one.device(), other.device(), lambda: hurry(driver, uuid))
    assert both(driver, uuid) == {other.id}
    driver.power_off(uuid, graceful_seconds=0)
    assert content(other) == CONTENT


@pytest.mark.usefixtures("slowly")
def test_a_driver_that_is_stopped_leaves_the_copy_to_the_next_one(
    bench: Bench, spec: GuestSpec, volume: NewVolume
) -> None:
    driver, one, other = bench._made[0], volume(content=CONTENT), volume()
    begun(driver, spec, one, other)
    with pytest.raises(NotYet):
        driver.swap_volume(spec, one.device(), other.device(), driver._stopped.set)
    later = bench.driver()
    disk = disks(later, spec.instance.uuid)[one.id]
    assert disk.find("mirror") is not None, ElementTree.tostring(disk)


def qemu_of(uuid: str) -> int:
    """The process of the guest."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_text(errors="replace").split("\0")
        except OSError:
            continue
        if words[0].endswith("qemu-system-x86_64") and uuid in words:
            return int(path.parent.name)
    raise AssertionError("no such guest runs")
