"""Volumes of guests on libvirt, served by qemu-nbd. Guests here run no system: disks on SCSI they release at once,
those on virtio never."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

pytest.importorskip("libvirt", reason="needs libvirt-python")

import libvirt

from cell_service.errors import DriverError
from cell_service.model.lifecycle import PowerState
from compute_host.virt.driver import GIB, Disk, GuestSpec
from compute_host.virt.libvirt import growing
from compute_host.virt.libvirt.domain import like, volume_disks
from compute_host.virt.libvirt.driver import LibvirtDriver
from compute_host.virt.libvirt.volumes import CONFIG, LIVE
from tests.real.libvirt_driver import HELLO, Bench, boot_sector, printed
from tests.real.nbd import NbdVolume
from tests.suites.driver import nic, spec_of
from tests.suites.driver_volumes import NewDevice, SwapSuite, VolumesOf, with_volumes

pytestmark = pytest.mark.real
MIB = 2**20
NewVolume = Callable[..., NbdVolume]


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


def on_scsi(image: tuple[Path, str], **properties: str) -> GuestSpec:
    return spec_of(*image, properties={"hw_disk_bus": "scsi", **properties})


def seen(driver: LibvirtDriver, uuid: str, flag: int) -> dict[str, tuple[str, str]]:
    """The volumes in that definition of the guest: name and address, by id."""
    with driver._guest(uuid) as found:
        text = found.XMLDesc(0 if flag == LIVE else libvirt.VIR_DOMAIN_XML_INACTIVE)
    return {
        key: (disk.find("target").get("dev", ""), str(sorted(disk.find("address").items())))
        for key, disk in volume_disks(text).items()
        if key != "root"
    }  # type: ignore[union-attr]


def both(driver: LibvirtDriver, uuid: str) -> dict[str, tuple[str, str]]:
    """The volumes of a running guest, the same in both definitions."""
    live = seen(driver, uuid, LIVE)
    assert live == seen(driver, uuid, CONFIG)
    return live


def addresses(driver: LibvirtDriver, uuid: str, flag: int = CONFIG) -> list[str]:
    with driver._guest(uuid) as found:
        text = found.XMLDesc(0 if flag == LIVE else libvirt.VIR_DOMAIN_XML_INACTIVE)
    return sorted(
        f"{part.tag} {sorted(address.items())}"
        for part in ElementTree.fromstring(text).find("devices") or ()
        if (address := part.find("address")) is not None
    )


class TestLibvirtVolumes(SwapSuite):
    @pytest.fixture
    def new_device(self, volume: NewVolume) -> NewDevice:
        return lambda *name, **fields: volume(content=boot_sector()).device(*name, **fields)

    @pytest.fixture
    def volumes_of(self, driver: LibvirtDriver) -> VolumesOf:
        def volumes_of(uuid: str) -> set[str]:
            runs = driver.power_state(uuid) is PowerState.RUNNING
            return set(both(driver, uuid) if runs else seen(driver, uuid, CONFIG))

        return volumes_of


@pytest.mark.parametrize("flag", [LIVE, CONFIG])
def test_what_a_killed_agent_began_is_ended(
    driver: LibvirtDriver, image: tuple[Path, str], volume: NewVolume, flag: int
) -> None:
    """The volume is in one of the definitions only."""
    spec, one = on_scsi(image), volume()
    uuid, device = spec.instance.uuid, one.device()
    driver.spawn(spec)
    driver.attach_volume(spec, device)
    with driver._guest(uuid) as found:
        text = like(volume_disks(found.XMLDesc(0))[one.id])
        found.detachDeviceFlags(text, flag)
    driver.attach_volume(spec, device)
    assert list(both(driver, uuid)) == [one.id]
    with driver._guest(uuid) as found:
        found.detachDeviceFlags(text, flag)
    driver.detach_volume(uuid, device)
    assert both(driver, uuid) == {}


@pytest.mark.parametrize("machine", ["pc", "q35"])
def test_a_volume_keeps_its_name_and_address_until_it_is_detached(
    driver: LibvirtDriver, image: tuple[Path, str], volume: NewVolume, machine: str
) -> None:
    spec, one, other = on_scsi(image, hw_machine_type=machine), volume(), volume()
    uuid = spec.instance.uuid
    driver.spawn(spec)
    driver.attach_volume(spec, one.device("/dev/vdb"))
    driver.attach_volume(spec, other.device("/dev/vdc"))
    assert [name for name, _address in both(driver, uuid).values()] == ["sdb", "sdc"]
    driver.detach_volume(uuid, one.device())
    before = addresses(driver, uuid)
    driver.reboot(with_volumes(spec, other.device("/dev/vdb")), hard=True)
    assert addresses(driver, uuid) == before == addresses(driver, uuid, LIVE)
    driver.detach_volume(uuid, other.device())
    assert both(driver, uuid) == {}


def test_devices_on_the_pci_bus_keep_their_addresses(
    driver: LibvirtDriver, image: tuple[Path, str], volume: NewVolume
) -> None:
    """Also where a gap was in front of them."""
    spec, one = spec_of(*image, properties={"hw_qemu_guest_agent": "yes", "hw_rng_model": "virtio"}), volume()
    spec = replace(spec, nics=(nic(),))
    driver._settings = replace(driver._settings, libvirt=replace(driver._settings.libvirt, user_networking=True))
    uuid, other = spec.instance.uuid, replace(nic(), mac="fa:16:3e:00:00:02")
    driver.spawn(spec)
    driver.attach_interface(spec, other)
    driver.attach_volume(spec, one.device())
    driver.power_off(uuid, graceful_seconds=0)
    driver.detach_interface(uuid, other)
    before = addresses(driver, uuid)
    driver.reboot(with_volumes(spec, one.device()), hard=True)
    assert addresses(driver, uuid) == before


def test_a_guest_that_does_not_release_a_volume_keeps_it(
    bench: Bench, image: tuple[Path, str], volume: NewVolume
) -> None:
    options = replace(bench.settings.libvirt, device_detach_attempts=2, device_detach_timeout=1)
    driver = bench.driver(replace(bench.settings, libvirt=options))
    spec, one = spec_of(*image), volume()
    driver.spawn(spec)
    driver.attach_volume(spec, one.device())
    before = both(driver, spec.instance.uuid)
    with pytest.raises(DriverError, match="not released the volume"):
        driver.detach_volume(spec.instance.uuid, one.device())
    assert both(driver, spec.instance.uuid) == before


def test_a_guest_that_is_off_gets_volumes_when_it_starts(
    driver: LibvirtDriver, image: tuple[Path, str], volume: NewVolume
) -> None:
    spec, one, other = spec_of(*image), volume(), volume()
    uuid = spec.instance.uuid
    driver.spawn(spec)
    driver.power_off(uuid, graceful_seconds=0)
    driver.attach_volume(spec, one.device())
    driver.attach_volume(spec, other.device())
    before = seen(driver, uuid, CONFIG)
    driver.detach_volume(uuid, other.device())
    driver.power_on(with_volumes(spec, one.device()))
    assert both(driver, uuid) == {one.id: before[one.id]}


def test_a_guest_starts_with_the_volumes_that_its_instance_has_by_then(
    driver: LibvirtDriver, image: tuple[Path, str], volume: NewVolume
) -> None:
    spec, one, other = spec_of(*image), volume(), volume()
    uuid = spec.instance.uuid
    driver.spawn(spec)
    driver.attach_volume(spec, one.device())
    driver.power_off(uuid, graceful_seconds=0)
    driver.power_on(with_volumes(spec, other.device()))
    assert list(both(driver, uuid)) == [other.id]


def test_the_volumes_of_a_suspended_guest_do_not_change(
    driver: LibvirtDriver, image: tuple[Path, str], volume: NewVolume
) -> None:
    spec, one, other = on_scsi(image), volume(), volume()
    uuid = spec.instance.uuid
    driver.spawn(spec)
    driver.attach_volume(spec, one.device())
    driver.suspend(uuid)
    with pytest.raises(DriverError, match="suspended"):
        driver.attach_volume(spec, other.device())
    with pytest.raises(DriverError, match="suspended"):
        driver.detach_volume(uuid, one.device())
    driver.detach_volume(uuid, other.device())
    driver.resume(with_volumes(spec, one.device()))
    assert list(both(driver, uuid)) == [one.id]


def test_a_suspended_guest_does_not_go_on_with_other_volumes_than_its_instance_has(
    driver: LibvirtDriver, image: tuple[Path, str], volume: NewVolume
) -> None:
    """Nor where they are by another path now."""
    spec, one, other = on_scsi(image), volume(), volume()
    uuid, moved = spec.instance.uuid, replace(one.device(), connection_info=other.connection_info())
    driver.spawn(spec)
    driver.attach_volume(spec, one.device())
    driver.suspend(uuid)
    for now in (with_volumes(spec), with_volumes(spec, moved)):
        with pytest.raises(DriverError, match="hard reboot"):
            driver.resume(now)
        assert driver.power_state(uuid) is PowerState.SUSPENDED
    driver.reboot(with_volumes(spec, moved), hard=True)
    assert list(both(driver, uuid)) == [one.id]
    driver.power_off(uuid, graceful_seconds=0)
    driver.power_on(with_volumes(spec, one.device()))
    with driver._guest(uuid) as found:
        assert str(one.socket) in found.XMLDesc(0)


def test_a_guest_boots_from_its_root_volume(driver: LibvirtDriver, image: tuple[Path, str], volume: NewVolume) -> None:
    root, data = volume(content=boot_sector()), volume()
    spec = spec_of(*image)
    devices = (root.device("/dev/vda", boot_index=0), data.device("/dev/vdb"))
    spec = replace(with_volumes(spec, *devices), disks=(Disk("root", 0), Disk("ephemeral", MIB)))
    uuid = spec.instance.uuid
    driver.spawn(spec)
    printed(driver, uuid)
    assert {key: name for key, (name, _address) in both(driver, uuid).items()} == {root.id: "vda", data.id: "vdc"}
    driver.reboot(spec, hard=True)
    printed(driver, uuid, HELLO.decode() * 2)
    driver.destroy(uuid)
    assert left_of(driver, uuid) == []


def test_a_volume_backed_guest_is_rescued_and_has_its_volumes_then_and_afterwards(
    driver: LibvirtDriver, image: tuple[Path, str], volume: NewVolume
) -> None:
    root, data = volume(content=boot_sector()), volume()
    spec = with_volumes(spec_of(*image), root.device("/dev/vda", boot_index=0), data.device("/dev/vdb"))
    spec, uuid = replace(spec, disks=(Disk("root", 0),)), spec.instance.uuid
    driver.spawn(spec)
    before = addresses(driver, uuid)
    driver.power_off(uuid, graceful_seconds=0)
    path, kind = image
    driver.rescue(replace(spec, disks=(Disk("root", GIB, path, kind, path.stat().st_size),)), stable=True)
    assert set(both(driver, uuid)) == {root.id, data.id}
    printed(driver, uuid)
    driver.unrescue(spec)
    assert addresses(driver, uuid) == before == addresses(driver, uuid, LIVE)


def test_a_rescued_guest_has_its_volumes_at_their_places_afterwards(
    driver: LibvirtDriver, image: tuple[Path, str], volume: NewVolume
) -> None:
    spec, one = spec_of(*image), volume()
    uuid = spec.instance.uuid
    driver.spawn(spec)
    driver.attach_volume(spec, one.device())
    before, now = addresses(driver, uuid), with_volumes(spec, one.device())
    driver.power_off(uuid, graceful_seconds=0)
    driver.rescue(replace(now, disks=spec.disks), stable=False)
    assert list(both(driver, uuid)) == [one.id]
    driver.unrescue(now)
    assert addresses(driver, uuid) == before


def test_a_running_guest_sees_the_new_size(driver: LibvirtDriver, image: tuple[Path, str], volume: NewVolume) -> None:
    spec, one = spec_of(*image), volume()
    uuid = spec.instance.uuid
    driver.spawn(spec)
    driver.attach_volume(spec, one.device())
    one.kill_server()
    one.extend(2)
    one.serve()
    driver.extend_volume(uuid, one.device())
    driver.extend_volume(uuid, one.device())
    with driver._guest(uuid) as found:
        assert found.blockInfo("vdb")[0] == 2 * GIB


def test_a_guest_goes_on_while_its_storage_server_is_down(
    driver: LibvirtDriver, image: tuple[Path, str], volume: NewVolume
) -> None:
    """A read waits for the server, and is answered when it is back."""
    spec, one = spec_of(*image), volume()
    uuid = spec.instance.uuid
    driver.spawn(spec)
    driver.attach_volume(spec, one.device())
    one.kill_server()
    assert driver.power_state(uuid) is PowerState.RUNNING
    one.serve()
    with driver._guest(uuid) as found:
        growing._read(found, f"volume-{one.id}")
        assert found.blockStats("vdb")[0] >= 0
    assert driver.power_state(uuid) is PowerState.RUNNING


def test_a_volume_that_cannot_be_reached_is_not_attached(
    driver: LibvirtDriver, image: tuple[Path, str], volume: NewVolume
) -> None:
    spec, one = spec_of(*image), volume()
    driver.spawn(spec)
    one.kill_server()
    with pytest.raises(DriverError):
        driver.attach_volume(spec, one.device())
    assert both(driver, spec.instance.uuid) == {}


def test_volumes_that_come_and_go_at_random(driver: LibvirtDriver, image: tuple[Path, str], volume: NewVolume) -> None:
    """After each step both definitions have the volumes of the instance, each at the address that it got."""
    chance = random.Random(seed := random.randrange(2**32))
    spec, all_of_them = on_scsi(image), [volume() for _ in range(5)]
    uuid, has, known = spec.instance.uuid, {}, {}
    driver.spawn(spec)
    for _ in range(16):
        one, what = chance.choice(all_of_them), chance.choice(("change", "change", "reboot", "cycle"))
        if what == "change" and one.id in has:
            driver.detach_volume(uuid, has.pop(one.id))
            known.pop(one.id)
        elif what == "change":
            device = one.device(chance.choice(("/dev/vdb", "/dev/vdc", "/dev/vdd")))
            driver.attach_volume(spec, device)
            has[one.id] = device
        elif what == "reboot":
            driver.reboot(with_volumes(spec, *has.values()), hard=True)
        else:
            driver.power_off(uuid, graceful_seconds=0)
            driver.power_on(with_volumes(spec, *has.values()))
        now = both(driver, uuid)
        assert now.keys() == has.keys(), seed
        assert known.items() <= now.items(), seed
        assert len(set(now.values())) == len(now), seed
        known = now


def test_a_file_of_the_host_is_a_volume_by_os_brick(
    driver: LibvirtDriver, image: tuple[Path, str], volume: NewVolume, tmp_path: Path
) -> None:
    pytest.importorskip("os_brick", reason="needs os-brick")
    spec, one = on_scsi(image), NbdVolume(tmp_path)
    uuid, info = spec.instance.uuid, {"driver_volume_type": "local", "device_path": str(one.file)}
    device = replace(one.device(), connection_info=info)
    driver.spawn(spec)
    driver.attach_volume(spec, device)
    assert (list(both(driver, uuid)), driver._volumes.guests()) == ([one.id], (uuid,))
    driver.detach_volume(uuid, device)
    assert (both(driver, uuid), driver._volumes.guests()) == ({}, ())
    driver.attach_volume(spec, device)
    driver.destroy(uuid)
    assert left_of(driver, uuid) == []


def left_of(driver: LibvirtDriver, uuid: str) -> list[object]:
    return [*driver.guests(), *driver._volumes.guests(), *driver._storage.directory.rglob(f"{uuid}*")]
