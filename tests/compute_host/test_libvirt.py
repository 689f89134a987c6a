"""The libvirt driver on a libvirtd of its own: the suite of all drivers, and what can go wrong with a real one."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest

pytest.importorskip("libvirt", reason="needs libvirt-python")

import libvirt

from cell_service.errors import DriverError, GuestNotFound, HostOutOfSpace, ImageUnacceptable
from cell_service.model.guest_agent import Quiesce
from cell_service.model.lifecycle import PowerState
from compute_host.libvirt_settings import GuestSettings
from compute_host.virt.driver import GIB, Disk, DriveFile, GuestSpec
from compute_host.virt.libvirt import console, watch
from compute_host.virt.libvirt.driver import LibvirtDriver
from tests.compute_host.test_domain import CASES
from tests.real.databases import wait_until
from tests.real.libvirt_driver import HELLO, Bench, boot_sector, left, printed
from tests.real.libvirtd import PrivateLibvirtd
from tests.suites.driver import SMALL, DriverSuite, as_it_is, nic, spec_of
from tests.suites.peers import WITH_AGENT

pytestmark = pytest.mark.real

MIB = 2**20


class TestLibvirtDriver(DriverSuite):
    @pytest.fixture
    def again(self, bench: Bench) -> Callable[[], LibvirtDriver]:
        return bench.driver


@pytest.fixture
def spec(image: tuple[Path, str]) -> GuestSpec:
    return spec_of(*image)


@pytest.fixture
def requested(libvirtd: PrivateLibvirtd) -> Iterator[libvirt.virConnect]:
    """A connection that is not the driver's."""
    connection = libvirt.open(libvirtd.uri)
    yield connection
    connection.close()


def test_a_guest_prints_on_its_console_and_goes_on_after_a_reboot(driver: LibvirtDriver, spec: GuestSpec) -> None:
    uuid = spec.instance.uuid
    driver.spawn(spec)
    printed(driver, uuid)
    driver.reboot(replace(spec, disks=(Disk("root", GIB),)), hard=True)
    printed(driver, uuid, HELLO.decode() * 2)
    seen = driver.diagnostics(uuid)
    assert (seen.state, seen.driver, seen.hypervisor) == ("running", "libvirt", "qemu")
    assert seen.disks[0].device == "vda"
    assert seen.disks[0].read_bytes is not None


def test_a_guest_whose_agent_does_not_run_is_copied_unless_it_has_to_be_quiesced(
    bench: Bench, driver: LibvirtDriver, image: tuple[Path, str], tmp_path: Path
) -> None:
    guest, target = spec_of(*image, properties=WITH_AGENT), tmp_path / "copy"
    uuid = guest.instance.uuid
    driver.spawn(guest)
    printed(driver, uuid)
    with pytest.raises(DriverError, match=r"The guest agent does not run in the guest\."):
        driver.set_admin_password(guest, "secret")
    with pytest.raises(DriverError, match="does not run in the guest"):
        driver.snapshot_running(uuid, target, quiesce=Quiesce.REQUIRED)
    assert list(tmp_path.glob("copy*")) == []
    driver.snapshot_running(uuid, target, quiesce=Quiesce.IF_POSSIBLE)
    assert target.exists()
    assert not (bench.settings.state / uuid / "frozen").exists()
    without = spec_of(*image)
    driver.spawn(without)
    with pytest.raises(DriverError, match="has no channel to the guest"):
        driver.snapshot_running(without.instance.uuid, target, quiesce=Quiesce.REQUIRED)


def test_a_guest_does_not_need_the_image_cache_any_more(driver: LibvirtDriver, spec: GuestSpec) -> None:
    driver.spawn(spec)
    image = spec.disks[0].image
    assert image is not None
    image.unlink()
    driver.reboot(replace(spec, disks=(Disk("root", GIB),)), hard=True)
    printed(driver, spec.instance.uuid)


@pytest.mark.parametrize("images_type", ["default", "raw"])
@pytest.mark.parametrize("kind", ["qcow2", "vmdk", "raw"])
def test_images_of_many_formats_boot(bench: Bench, image: tuple[Path, str], kind: str, images_type: str) -> None:
    driver = bench.driver(replace(bench.settings, libvirt=replace(bench.settings.libvirt, images_type=images_type)))
    converted = image[0].with_suffix(f".{kind}")
    subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", kind, image[0], converted], check=True)
    guest = spec_of(converted, kind)
    driver.spawn(guest)
    printed(driver, guest.instance.uuid)


def test_all_disks_are_made(
    bench: Bench, driver: LibvirtDriver, spec: GuestSpec, requested: libvirt.virConnect
) -> None:
    disks = (*spec.disks, Disk("ephemeral", 2**26), Disk("ephemeral", 2**25), Disk("swap", 2**24))
    guest = replace(spec, disks=disks, config_drive=(DriveFile("openstack/latest/meta_data.json", b"{}"),))
    driver.spawn(guest)
    text = requested.lookupByUUIDString(spec.instance.uuid).XMLDesc()
    directory = bench.settings.state / spec.instance.uuid
    for name in ("disk", "disk.eph0", "disk.eph1", "disk.swap", "disk.config"):
        assert str(directory / name) in text
    assert b"SWAPSPACE2" in (directory / "disk.swap").read_bytes()[:4096]
    assert b"config-2" in (directory / "disk.config").read_bytes()
    driver.destroy(spec.instance.uuid)
    assert left(bench, spec.instance.uuid) == []


@pytest.mark.parametrize("kind", ["iso9660", "vfat"])
@pytest.mark.parametrize("machine", ["pc", "q35"])
def test_a_config_drive_is_made_and_plugged(bench: Bench, image: tuple[Path, str], kind: str, machine: str) -> None:
    if kind == "vfat" and shutil.which("mcopy") is None:
        pytest.skip("needs mtools")
    driver = bench.driver(replace(bench.settings, guests=GuestSettings(config_drive_format=kind)))
    files = (
        DriveFile("openstack/latest/meta_data.json", b'{"name": "x"}'),
        DriveFile("openstack/latest/user_data", bytes(range(256))),
        DriveFile("ec2/2009-04-04/a long name, with \u00e9 and 'quotes'.json", b"x"),
        DriveFile("openstack/content/0000", b""),
    )
    plain = spec_of(*image)
    guest = replace(
        plain,
        config_drive=files,
        instance=replace(plain.instance, system_metadata={"image_hw_machine_type": machine}),
    )
    driver.spawn(guest)
    printed(driver, guest.instance.uuid)
    drive = bench.settings.state / guest.instance.uuid / "disk.config"
    if kind == "vfat":
        read = subprocess.run(["mtype", "-i", drive, "::openstack/latest/user_data"], capture_output=True, check=True)
    else:
        read = subprocess.run(
            ["isoinfo", "-R", "-i", drive, "-x", "/openstack/latest/user_data"], capture_output=True, check=True
        )
    assert read.stdout == bytes(range(256))


def test_a_file_outside_of_the_config_drive_is_refused(bench: Bench, driver: LibvirtDriver, spec: GuestSpec) -> None:
    for path in ("../../outside", "/etc/outside", ""):
        with pytest.raises(DriverError):
            driver.spawn(replace(spec, config_drive=(DriveFile(path, b"x"),)))
    assert left(bench, spec.instance.uuid) == []


@pytest.mark.parametrize("name", CASES)
def test_libvirt_takes_what_we_say(requested: libvirt.virConnect, driver: LibvirtDriver, name: str) -> None:
    from compute_host.virt.libvirt.domain import render

    guest, laid, choices = CASES[name]
    choices = replace(choices, kvm=False, cpu_mode="none", host="nobody")
    made = requested.defineXMLFlags(render(guest, laid, choices), libvirt.VIR_DOMAIN_DEFINE_VALIDATE)
    made.undefineFlags(libvirt.VIR_DOMAIN_UNDEFINE_NVRAM)


def test_uefi_boots(driver: LibvirtDriver, image: tuple[Path, str]) -> None:
    if not Path("/usr/share/OVMF").exists():
        pytest.skip("needs ovmf")
    plain = spec_of(*image)
    properties = {"image_hw_firmware_type": "uefi", "image_hw_machine_type": "q35"}
    guest = replace(plain, instance=replace(plain.instance, system_metadata=properties))
    driver.spawn(guest)
    printed(driver, guest.instance.uuid, "BdsDxe")
    driver.reboot(guest, hard=True)
    driver.destroy(guest.instance.uuid)


def test_names_that_try_to_break_things(driver: LibvirtDriver, image: tuple[Path, str]) -> None:
    for name in ("</name><devices/>", "a\0b", "$(reboot)", "\ud800", "'\"]]>&lt;", "../../x", "x" * 300, "\U0001f600"):
        guest = spec_of(*image, name=name)
        driver.spawn(guest)
        assert driver.power_state(guest.instance.uuid) is PowerState.RUNNING
        driver.destroy(guest.instance.uuid)


def test_domains_of_others_are_left_alone(
    bench: Bench,
    driver: LibvirtDriver,
    libvirtd: PrivateLibvirtd,
    requested: libvirt.virConnect,
    image: tuple[Path, str],
) -> None:
    foreign = requested.createXML(
        "<domain type='qemu'><name>foreign</name><memory unit='MiB'>16</memory><os><type>hvm</type></os></domain>"
    )
    other = Bench(libvirtd, bench.settings.state.parent, "h2")
    theirs, guest = other.driver(), spec_of(*image)
    theirs.spawn(guest)
    try:
        assert driver.guests() == ()
        for uuid in (foreign.UUIDString(), guest.instance.uuid):
            with pytest.raises(GuestNotFound):
                driver.power_off(uuid, graceful_seconds=0)
            with pytest.raises(GuestNotFound):
                driver.pause(uuid)
            driver.destroy(uuid)
        with pytest.raises(DriverError):
            driver.spawn(guest)
        assert foreign.isActive()
        assert theirs.power_state(guest.instance.uuid) is PowerState.RUNNING
        assert driver.nodes()[0].running_vms == 0
    finally:
        foreign.destroy()
        other.close()


@pytest.mark.faults
def test_the_driver_comes_back_with_libvirtd(
    bench: Bench, driver: LibvirtDriver, libvirtd: PrivateLibvirtd, spec: GuestSpec
) -> None:
    driver.spawn(spec)
    libvirtd.kill_libvirtd()

    def state() -> PowerState | None:
        try:
            return driver.power_state(spec.instance.uuid)
        except DriverError:
            return None

    wait_until(lambda: state() is PowerState.RUNNING, "the driver does not come back")
    driver.pause(spec.instance.uuid)
    driver.unpause(spec.instance.uuid)


def test_a_copy_that_a_killed_agent_has_begun_gives_way_to_the_next(
    driver: LibvirtDriver, spec: GuestSpec, requested: libvirt.virConnect, tmp_path: Path
) -> None:
    driver.spawn(spec)
    found = requested.lookupByUUIDString(spec.instance.uuid)
    root = driver._root(spec.instance.uuid).path
    left = f"<disk type='file'><driver type='qcow2'/><source file='{tmp_path / 'left'}'/></disk>"
    found.blockCopy(str(root), left, {}, libvirt.VIR_DOMAIN_BLOCK_COPY_TRANSIENT_JOB)
    driver.snapshot_running(spec.instance.uuid, tmp_path / "copy")
    assert found.blockJobInfo(str(root), 0) == {}
    assert (tmp_path / "copy").stat().st_size > 0


def test_an_agent_killed_while_it_unrescues_goes_on_after_its_restart(
    bench: Bench, driver: LibvirtDriver, spec: GuestSpec
) -> None:
    uuid = spec.instance.uuid
    driver.spawn(spec)
    driver.power_off(uuid, graceful_seconds=0)
    driver.rescue(spec, stable=False)
    driver.power_off(uuid, graceful_seconds=0)
    driver._storage.unrescue(uuid)  # killed here: the domain names a disk that is gone
    after = bench.driver()
    after.unrescue(replace(spec, disks=(replace(spec.disks[0], image=None),)))
    assert after.power_state(uuid) is PowerState.RUNNING


def test_what_a_guest_does_by_itself_is_told(
    bench: Bench, driver: LibvirtDriver, spec: GuestSpec, requested: libvirt.virConnect
) -> None:
    uuid = spec.instance.uuid
    driver.spawn(spec)
    driver.pause(uuid)
    driver.unpause(uuid)
    requested.lookupByUUIDString(uuid).destroy()  # nobody asked the driver
    wait_until(lambda: bench.events != [], "nothing is told")
    assert bench.events == [(uuid, PowerState.SHUTDOWN)]


@pytest.mark.faults
def test_the_return_of_libvirtd_is_told_and_not_what_a_power_cut_did(
    bench: Bench, driver: LibvirtDriver, libvirtd: PrivateLibvirtd, spec: GuestSpec
) -> None:
    driver.spawn(spec)
    libvirtd.cut_power()
    libvirtd.start()
    wait_until(lambda: bench.returns == 1, "nothing is told")
    assert bench.events == []
    assert driver.power_state(spec.instance.uuid) in (PowerState.SHUTDOWN, PowerState.CRASHED)
    driver.power_on(spec)
    assert driver.power_state(spec.instance.uuid) is PowerState.RUNNING


def test_a_spawn_or_destroy_that_was_cut_off_is_done_again(
    bench: Bench, driver: LibvirtDriver, spec: GuestSpec, requested: libvirt.virConnect
) -> None:
    uuid = spec.instance.uuid
    directory = bench.settings.state / uuid

    def half_directory() -> None:
        directory.mkdir()
        (directory / "disk").write_bytes(b"half")

    def without_its_domain() -> None:
        driver.spawn(spec)
        found = requested.lookupByUUIDString(uuid)
        found.destroy()
        found.undefine()

    def without_its_directory() -> None:
        driver.spawn(spec)
        shutil.rmtree(directory)

    def defined_only() -> None:
        driver.spawn(spec)
        requested.lookupByUUIDString(uuid).destroy()

    for cut in (half_directory, without_its_domain, without_its_directory, defined_only):
        cut()
        driver.spawn(spec)
        assert driver.power_state(uuid) is PowerState.RUNNING
        printed(driver, uuid)
        driver.destroy(uuid)
        cut()
        driver.destroy(uuid)
        driver.destroy(uuid)
        assert (driver.guests(), left(bench, uuid)) == ((), [])
        with pytest.raises(libvirt.libvirtError):
            requested.lookupByUUIDString(uuid)


def test_what_is_left_of_a_guest_is_listed(bench: Bench, driver: LibvirtDriver) -> None:
    uuid = str(uuid4())
    (bench.settings.state / uuid).mkdir()
    (bench.settings.state / "_base").mkdir()
    assert [(guest.uuid, guest.power_state) for guest in driver.guests()] == [(uuid, PowerState.NOSTATE)]
    with pytest.raises(GuestNotFound):
        driver.power_state(uuid)


def test_a_guest_whose_definition_was_lost_starts_from_its_disks(
    bench: Bench, driver: LibvirtDriver, spec: GuestSpec, requested: libvirt.virConnect
) -> None:
    uuid = spec.instance.uuid
    kept = replace(spec, disks=(Disk("root", GIB),))
    for verb in (driver.power_on, lambda guest: driver.reboot(guest, hard=True)):
        driver.spawn(spec)
        printed(driver, uuid)
        found = requested.lookupByUUIDString(uuid)
        found.destroy()
        found.undefine()
        assert driver.power_state(uuid) is PowerState.NOSTATE
        verb(kept)
        printed(driver, uuid, HELLO.decode() * 2)
        driver.destroy(uuid)


def test_a_spawn_that_fails_leaves_nothing(bench: Bench, driver: LibvirtDriver, spec: GuestSpec) -> None:
    tap = replace(nic(), vif_type="bridge", details={"bridge_name": "no-such-bridge"})
    with pytest.raises(DriverError, match="no-such-bridge"):
        driver.spawn(replace(spec, nics=(tap,)))
    with pytest.raises(ImageUnacceptable, match="exceeds"):
        driver.spawn(replace(spec, disks=(replace(spec.disks[0], size_bytes=256),)))
    assert driver.guests() == ()
    assert left(bench, spec.instance.uuid) == []


def test_a_disk_without_room_is_said_so_and_leaves_nothing(bench: Bench, image: tuple[Path, str]) -> None:
    small = bench.settings.state.parent / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m", "pc-small", small], check=True)
    try:
        generous = replace(bench.settings.ratios, disk=10_000.0)
        settings = replace(bench.settings, state=small / "h1", ratios=generous)
        driver = bench.driver(settings)
        with image[0].open("ab") as file:
            file.write(os.urandom(20 * 2**20))
        with pytest.raises(HostOutOfSpace, match="MiB"):
            driver.spawn(spec_of(*image))
        image[0].write_bytes(boot_sector())
        guest = replace(spec_of(*image), disks=(*spec_of(*image).disks, Disk("swap", 2**26)))
        files = (DriveFile("openstack/latest/user_data", os.urandom(7 * 2**20)),)
        with pytest.raises(HostOutOfSpace):
            driver.spawn(replace(guest, config_drive=files))
        assert driver.guests() == ()
        assert sorted(path.name for path in (small / "h1").iterdir()) == ["node_uuid"]
    finally:
        bench._made[-1].stop()
        bench._made.pop()
        subprocess.run(["umount", small], check=True)


def test_two_spawns_at_once_are_one(driver: LibvirtDriver, spec: GuestSpec) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(driver.spawn, spec) for _ in range(4)]:
            done.result()
    assert len(driver.guests()) == 1


def test_a_guest_with_the_hosts_own_network_has_a_card(
    bench: Bench, image: tuple[Path, str], requested: libvirt.virConnect
) -> None:
    driver = bench.driver(replace(bench.settings, libvirt=replace(bench.settings.libvirt, user_networking=True)))
    guest = replace(spec_of(*image, flavor=SMALL), nics=(nic(),))
    driver.spawn(guest)
    assert "type='user'" in requested.lookupByUUIDString(guest.instance.uuid).XMLDesc()


SPAWN = """
import pickle, sys
from cell_service.context import SYSTEM_CLOCK
from compute_host.virt.libvirt.driver import LibvirtDriver
settings, spec = pickle.load(sys.stdin.buffer)
driver = LibvirtDriver(settings, SYSTEM_CLOCK)
driver.start(lambda uuid, state: None)
getattr(driver, sys.argv[1])(spec if sys.argv[1] == "spawn" else spec.instance.uuid)
"""


@pytest.mark.faults
@pytest.mark.parametrize("reached", ["", "base", "disk", "disk.swap", "disk.config.part", "guest.json", "console.log"])
def test_an_agent_killed_in_the_middle_of_a_spawn(
    bench: Bench, driver: LibvirtDriver, spec: GuestSpec, requested: libvirt.virConnect, reached: str
) -> None:
    uuid = spec.instance.uuid
    guest = replace(
        spec,
        disks=(*spec.disks, Disk("swap", 2**24)),
        config_drive=(DriveFile("openstack/latest/user_data", os.urandom(2**22)),),
    )
    killed = subprocess.Popen([sys.executable, "-c", SPAWN, "spawn"], stdin=subprocess.PIPE)
    assert killed.stdin is not None
    with killed.stdin as pipe:
        pickle.dump((bench.settings, guest), pipe)
    path = bench.settings.state / uuid / reached
    wait_until(lambda: path.exists() or killed.poll() is not None, "the spawn does not get anywhere")
    killed.kill()
    killed.wait()
    driver.spawn(guest)
    printed(driver, uuid)
    driver.destroy(uuid)
    assert (driver.guests(), left(bench, uuid)) == ((), [])
    with pytest.raises(libvirt.libvirtError):
        requested.lookupByUUIDString(uuid)


@pytest.mark.faults
@pytest.mark.parametrize("gone", ["guest.json", "disk", ""])
def test_an_agent_killed_in_the_middle_of_a_destroy(
    bench: Bench, driver: LibvirtDriver, spec: GuestSpec, requested: libvirt.virConnect, gone: str
) -> None:
    uuid = spec.instance.uuid
    driver.spawn(spec)
    killed = subprocess.Popen([sys.executable, "-c", SPAWN, "destroy"], stdin=subprocess.PIPE)
    assert killed.stdin is not None
    with killed.stdin as pipe:
        pickle.dump((bench.settings, spec), pipe)
    path = bench.settings.state / uuid / gone
    wait_until(lambda: not path.exists() or killed.poll() is not None, "the destroy does not get anywhere")
    killed.kill()
    killed.wait()
    driver.destroy(uuid)
    assert (driver.guests(), left(bench, uuid)) == ((), [])
    with pytest.raises(libvirt.libvirtError):
        requested.lookupByUUIDString(uuid)


def test_a_port_is_plugged_into_its_bridge_and_nothing_of_it_is_left(
    bench: Bench, driver: LibvirtDriver, libvirtd: PrivateLibvirtd, spec: GuestSpec
) -> None:
    inside = ["nsenter", "-t", str(libvirtd.host.pid()), "-n", "ip"]

    def links() -> str:
        return subprocess.run([*inside, "-o", "link"], capture_output=True, text=True, check=True).stdout

    subprocess.run([*inside, "link", "add", "brq-test", "type", "bridge"], check=True)
    try:
        port = replace(nic(), vif_type="bridge", details={"bridge_name": "brq-test"}, mtu=1400)
        tap = f"tap{port.port_id[:11]}"
        guest = replace(spec, nics=(port, replace(nic(), mac="fa:16:3e:00:00:02", vif_type="tap")))
        driver.spawn(guest)
        (line,) = [line for line in links().splitlines() if tap in line]
        assert "master brq-test" in line
        assert "mtu 1400" in line
        assert driver.diagnostics(guest.instance.uuid).nics[0].device == tap
        driver.reboot(replace(guest, disks=(Disk("root", GIB),)), hard=True)
        assert links().count(tap) == 1
        driver.destroy(guest.instance.uuid)
        assert "tap" not in links()
    finally:
        subprocess.run([*inside, "link", "del", "brq-test"], check=True)


def test_a_port_is_a_link_of_a_device_of_the_host_or_a_socket_that_shares_memory(
    driver: LibvirtDriver, libvirtd: PrivateLibvirtd, spec: GuestSpec, tmp_path: Path
) -> None:
    inside = ["nsenter", "-t", str(libvirtd.host.pid()), "-n", "ip"]
    subprocess.run([*inside, "link", "add", "dev-test", "type", "veth", "peer", "name", "dev-peer"], check=True)
    try:
        link = replace(nic(), vif_type="macvtap", details={"macvtap_source": "dev-test"})
        socket = {"vhostuser_socket": str(tmp_path / "vhu"), "vhostuser_mode": "client"}
        shared = replace(nic(), mac="fa:16:3e:00:00:02", vif_type="vhostuser", details=socket)
        uuid = spec.instance.uuid
        driver.spawn(replace(spec, nics=(link,)))
        found = subprocess.run([*inside, "-d", "link"], capture_output=True, text=True, check=True).stdout
        assert f"tap{link.port_id[:11]}@dev-test" in found
        with pytest.raises(DriverError, match="share its memory"):
            driver.attach_interface(replace(spec, nics=(link, shared)), shared)
        driver.power_off(uuid, graceful_seconds=0)
        with driver._guest(uuid) as domain:
            domain.undefine()
        with pytest.raises(DriverError, match=r"vhu.*No such file"):  # as a client QEMU needs the other end
            driver.power_on(replace(spec, nics=(shared,), disks=(Disk("root", GIB),)))
    finally:
        driver.destroy(spec.instance.uuid)
        subprocess.run([*inside, "link", "del", "dev-test"], check=True)


def test_an_interface_is_detached_when_the_guest_has_released_it(bench: Bench, spec: GuestSpec) -> None:
    options = replace(bench.settings.libvirt, user_networking=True, device_detach_attempts=2, device_detach_timeout=1)
    driver, port = bench.driver(replace(bench.settings, libvirt=options)), nic()
    uuid = spec.instance.uuid
    driver.spawn(spec)
    driver.attach_interface(spec, port)
    with pytest.raises(DriverError, match="has not released the interface within 2 s"):  # it runs no system
        driver.detach_interface(uuid, port)
    assert [card.mac for card in driver.diagnostics(uuid).nics] == [port.mac]
    driver.power_off(uuid, graceful_seconds=0)
    with driver._guest(uuid) as found:
        assert port.mac in found.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
    driver.detach_interface(uuid, port)
    driver.detach_interface(uuid, port)
    with driver._guest(uuid) as found:
        assert port.mac not in found.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)


def test_a_node_says_what_its_guests_can_have(driver: LibvirtDriver) -> None:
    (node,) = driver.nodes()
    assert {"COMPUTE_NODE", "COMPUTE_IMAGE_TYPE_QCOW2", "COMPUTE_STORAGE_BUS_VIRTIO", "HW_CPU_X86_SSE2"} < {
        *node.traits
    }
    assert ("COMPUTE_FIRMWARE_UEFI" in node.traits) == Path("/usr/share/OVMF").exists()
    assert ("x86_64", "qemu", "hvm") in node.supported_instances
    assert node.cpu_info["arch"] == "x86_64"
    assert node.cpu_info["features"]
    assert node.hypervisor_type == "QEMU"


def virtual_bytes(path: Path) -> int:
    return int(json.loads(subprocess.check_output(["qemu-img", "info", "-U", "--output=json", path]))["virtual-size"])


def test_a_resize_makes_disks_larger_and_new_and_never_smaller(
    bench: Bench, driver: LibvirtDriver, spec: GuestSpec
) -> None:
    uuid = spec.instance.uuid
    driver.spawn(replace(spec, disks=(*spec.disks, Disk("swap", 4 * MIB))))
    driver.power_off(uuid, graceful_seconds=0)
    migrate_data, guest = driver.pack(uuid), bench.settings.state / uuid
    content = (guest / "base").read_bytes()
    for disks, sizes in (
        ((Disk("root", 2 * GIB), Disk("ephemeral", 8 * MIB), Disk("swap", 8 * MIB)), (2 * GIB, 8 * MIB, 8 * MIB)),
        ((Disk("root", GIB), Disk("ephemeral", 16 * MIB)), (2 * GIB, 16 * MIB, None)),
        ((Disk("root", 0),), (2 * GIB, None, None)),
    ):
        for _ in range(2):
            driver.receive(replace(as_it_is(spec), disks=disks), migrate_data)
            files = [guest / name for name in ("disk", "disk.eph0", "disk.swap")]
            assert tuple(virtual_bytes(path) if path.exists() else None for path in files) == sizes
            assert driver.nodes()[0].local_gib_used == -(-sum(size or 0 for size in sizes) // GIB)
    assert (guest / "base").read_bytes() == content
    driver.power_on(as_it_is(spec))
    printed(driver, uuid)


def test_a_resize_that_was_killed_goes_on(
    bench: Bench, driver: LibvirtDriver, spec: GuestSpec, requested: libvirt.virConnect
) -> None:
    uuid = spec.instance.uuid
    driver.spawn(spec)
    driver.power_off(uuid, graceful_seconds=0)
    migrate_data, larger = driver.pack(uuid), replace(as_it_is(spec), disks=(Disk("root", GIB), Disk("swap", 8 * MIB)))
    driver._storage.fit(larger)  # killed here: neither the domain nor the record has the disk
    for _ in range(2):
        driver = bench.driver()
        assert driver.power_state(uuid) is PowerState.SHUTDOWN
        driver.receive(larger, migrate_data)
        driver.power_on(larger)
        assert "disk.swap" in requested.lookupByUUIDString(uuid).XMLDesc()
        driver.power_off(uuid, graceful_seconds=0)


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_a_resize_that_libvirt_refuses_leaves_the_guest_its_disks(
    bench: Bench, driver: LibvirtDriver, spec: GuestSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    uuid, with_swap = spec.instance.uuid, replace(spec, disks=(*spec.disks, Disk("swap", 4 * MIB)))
    driver.spawn(with_swap)
    driver.power_off(uuid, graceful_seconds=0)
    migrate_data = driver.pack(uuid)

    def refused(*_arguments: object) -> None:
        raise DriverError(reason="libvirt refuses it")

    with monkeypatch.context() as patch:
        patch.setattr(driver, "_define", refused)
        with pytest.raises(DriverError):
            driver.receive(as_it_is(spec), migrate_data)
    driver.power_on(as_it_is(spec))
    assert (bench.settings.state / uuid / "disk.swap").exists()
    driver.reboot(as_it_is(spec), hard=True)
    assert [disk.role for disk in driver._storage.record(uuid).laid.disks] == ["root", "swap"]


def test_a_driver_that_ends_leaves_no_descriptor(driver: LibvirtDriver) -> None:
    before = descriptors()
    for _ in range(6):
        driver.stop()
        driver.start(lambda _uuid, _state: None)
    wait_until(lambda: descriptors() <= before + 2, "connections are left open")


@pytest.mark.faults
def test_a_libvirtd_that_dies_leaves_no_descriptor(driver: LibvirtDriver, libvirtd: PrivateLibvirtd) -> None:
    before = descriptors()
    for _ in range(4):
        libvirtd.kill_libvirtd()
        wait_until(libvirtd.answers, "libvirtd does not come back")
        wait_until(lambda: _answers(driver), "the driver does not come back")
    wait_until(lambda: descriptors() <= before + 2, "connections are left open")


def _answers(driver: LibvirtDriver) -> bool:
    try:
        driver.guests()
    except DriverError:
        return False
    return True


def test_the_log_of_a_guest_that_never_stops_printing_is_bounded(
    bench: Bench, spec: GuestSpec, image: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "KEPT_BYTES", 8192)
    monkeypatch.setattr(console, "MOST_BYTES", 16384)
    monkeypatch.setattr(watch, "TEND_SECONDS", 0.05)
    code = b"".join(bytes((0xBA, 0xF8, 0x03, 0xB0, letter, 0xEE)) for letter in HELLO)
    again = b"\xeb" + bytes((0x100 - len(code) - 2,))  # jmp to the first letter
    image[0].write_bytes((code + again).ljust(510, b"\0") + b"\x55\xaa")
    driver = bench.driver()
    driver.spawn(spec)
    log = bench.settings.state / spec.instance.uuid / "console.log"
    wait_until(lambda: log.stat().st_size > 256 * 1024, "the guest does not print")
    wait_until(lambda: log.stat().st_blocks * 512 < log.stat().st_size // 2, "the log is not bounded")
    text = driver.console_output(spec.instance.uuid)
    assert len(text) == 8192
    assert set(text) == set(HELLO.decode())
