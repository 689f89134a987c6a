"""Encrypted volumes of guests on libvirt: QEMU decrypts them, and what is on their storage is of no use without the
key. Guests here run no system."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

pytest.importorskip("libvirt", reason="needs libvirt-python")

import libvirt

from cell_service.errors import DriverError
from cell_service.model.ability import Ability
from cell_service.model.block_device import BlockDevice
from cell_service.model.lifecycle import PowerState
from compute_host.virt import luks
from compute_host.virt.driver import GIB, Disk, GuestSpec
from compute_host.virt.libvirt import formatting
from compute_host.virt.libvirt.connection import Connection
from compute_host.virt.libvirt.drive import make_luks
from compute_host.virt.libvirt.driver import LibvirtDriver
from compute_host.virt.libvirt.secrets import VolumeSecrets
from compute_host.virt.libvirt.unlocking import VolumeLocks
from compute_host.virt.libvirt.volumes import CONFIG
from tests.compute_host.test_libvirt_volumes import both, seen
from tests.real.databases import wait_until
from tests.real.libvirt_driver import HELLO, Bench, boot_sector, printed
from tests.real.libvirtd import PrivateLibvirtd
from tests.real.nbd import NbdVolume
from tests.suites.driver import spec_of
from tests.suites.driver_volumes import NewDevice, VolumesOf, VolumeSuite, with_volumes

pytestmark = [pytest.mark.real, pytest.mark.timeout(600)]
MAGIC = b"LUKS\xba\xbe\x00\x01"


class Encrypted:
    """A volume with a key, and what its service says of it."""

    def __init__(self, bench: Bench, directory: Path, size_gib: int = 1, **said: Any) -> None:
        self.key = bench.keys.create("aes", 256)
        self.volume = NbdVolume(directory, size_gib)
        self.said = {"provider": "luks", "cipher": "aes-xts-plain64", "key_size": 256, "control_location": "front-end",
                     "encryption_key_id": self.key, **said}  # fmt: skip
        self.id, self.file = self.volume.id, self.volume.file
        self.volume.serve()

    def device(self, *name: str, **fields: Any) -> BlockDevice:
        made = self.volume.device(*name, **fields)
        return replace(made, connection_info=self.volume.connection_info(encrypted=True, encryption=self.said))

    def begins(self, size: int) -> bytes:
        with self.file.open("rb") as file:
            return file.read(size)

    def digest(self) -> str:
        """Of what is at both ends of the volume."""
        with self.file.open("rb") as file:
            head = file.read(2**22)
            file.seek(-(2**20), 2)
            return hashlib.sha256(head + file.read()).hexdigest()


NewVolume = Callable[..., Encrypted]


@pytest.fixture
def volume(bench: Bench, tmp_path: Path) -> Iterator[NewVolume]:
    made: list[Encrypted] = []

    def new(size_gib: int = 1, **said: Any) -> Encrypted:
        made.append(Encrypted(bench, tmp_path, size_gib, **said))
        return made[-1]

    yield new
    for each in made:
        each.volume.kill_server()


def secrets(driver: LibvirtDriver) -> set[str]:
    """The volumes whose passphrases libvirt has."""
    with driver._connection.use() as connection:
        return {each.usageID().rpartition(" ")[2] for each in connection.listAllSecrets(0)}


def fill(bench: Bench, one: Encrypted, content: bytes) -> None:
    """Encrypted content is on the volume, as its service puts an image there."""
    plain, made = one.file.with_suffix(".plain"), one.file.with_suffix(".luks")
    plain.write_bytes(content)
    with luks.passphrase_object(luks.passphrase_of(bench.keys.known[one.key])) as secret:
        make_luks(["qemu-img", "convert", "-q", "-f", "raw", "-O", "luks", "--object", secret, "-o",
                   "key-secret=key,iter-time=10", plain, made])  # fmt: skip
    with one.file.open("r+b") as file:
        file.write(made.read_bytes())


@pytest.fixture
def on_scsi(image: tuple[Path, str]) -> GuestSpec:
    """Of a guest that releases its volumes at once."""
    return spec_of(*image, properties={"hw_disk_bus": "scsi"})


class TestEncryptedVolumes(VolumeSuite):
    @pytest.fixture
    def new_device(self, bench: Bench, volume: NewVolume) -> NewDevice:
        def new_device(*name: str, **fields: Any) -> BlockDevice:
            one = volume()
            if fields.get("boot_index") == 0:
                fill(bench, one, boot_sector())
            return one.device(*name, **fields)

        return new_device

    @pytest.fixture
    def volumes_of(self, driver: LibvirtDriver) -> VolumesOf:
        def volumes_of(uuid: str) -> set[str]:
            runs = driver.power_state(uuid) is PowerState.RUNNING
            found = set(both(driver, uuid) if runs else seen(driver, uuid, CONFIG))
            assert secrets(driver) == found
            return found

        return volumes_of


def test_the_host_reports_that_it_decrypts_volumes_where_it_knows_a_key_manager(bench: Bench) -> None:
    (node,) = bench.driver().nodes()
    assert node.is_able(Ability.ENCRYPTED_VOLUMES)
    without = LibvirtDriver(bench.settings, bench._made[0]._clock)
    without.start(lambda _uuid, _state: None)
    (node,) = without.nodes()
    assert not node.is_able(Ability.ENCRYPTED_VOLUMES)
    without.stop()


class NoSecrets:
    """A libvirt whose daemon for secrets is not installed."""

    def isAlive(self) -> int:
        return 1

    def __getattr__(self, name: str) -> Any:
        def fails(*_: object) -> None:
            error = libvirt.libvirtError("no secrets")
            error.err = (libvirt.VIR_ERR_NO_SUPPORT, 0, "no secrets", 0, "", "", "", 0, 0)
            raise error

        return fails


def test_a_libvirt_without_secrets_decrypts_nothing_and_does_all_else(bench: Bench) -> None:
    class Opened:
        @contextlib.contextmanager
        def use(self, uuid: str = "") -> Iterator[NoSecrets]:
            yield NoSecrets()

    locks = VolumeLocks(bench.keys, VolumeSecrets(cast(Connection, Opened()), "h1"))
    assert not locks.are_possible()
    locks.forget("guest", "volume")
    assert (locks.volumes_of("guest"), locks.guests()) == ((), frozenset())


def test_a_blank_volume_is_formatted_when_it_is_attached_first_and_never_again(
    driver: LibvirtDriver, on_scsi: GuestSpec, volume: NewVolume
) -> None:
    one, uuid = volume(), on_scsi.instance.uuid
    driver.spawn(on_scsi)
    driver.attach_volume(on_scsi, one.device())
    assert one.begins(len(MAGIC)) == MAGIC
    before = one.digest()
    with driver._guest(uuid) as found:
        assert found.blockInfo("sdb")[0] == GIB - luks.payload_offset(one.begins(512))
        text = found.XMLDesc(0)
    assert "<encryption format='luks'" in text
    driver.detach_volume(uuid, one.device())
    assert secrets(driver) == set()
    driver.attach_volume(on_scsi, one.device())
    assert one.digest() == before


def test_libvirt_does_not_show_a_passphrase_nor_store_it(
    driver: LibvirtDriver, bench: Bench, libvirtd: PrivateLibvirtd, on_scsi: GuestSpec, volume: NewVolume
) -> None:
    one = volume()
    driver.spawn(on_scsi)
    driver.attach_volume(on_scsi, one.device())
    with driver._connection.use() as connection:
        (secret,) = connection.listAllSecrets(0)
        text = secret.XMLDesc()
        assert "ephemeral='yes' private='yes'" in text
        with pytest.raises(libvirt.libvirtError):
            secret.value()
    passphrase = bench.keys.known[one.key].hex().encode()
    for path in libvirtd.host.state.rglob("*"):
        assert not path.is_file() or passphrase not in path.read_bytes(), path


def test_a_guest_starts_from_an_encrypted_volume_again_and_again(
    driver: LibvirtDriver, bench: Bench, libvirtd: PrivateLibvirtd, image: tuple[Path, str], volume: NewVolume
) -> None:
    """Its secret is there at each start, also after libvirtd has lost it."""
    root, data = volume(), volume()
    fill(bench, root, boot_sector())
    assert HELLO not in root.begins(2**22)
    devices = (root.device("/dev/vda", boot_index=0), data.device())
    spec = replace(with_volumes(spec_of(*image), *devices), disks=(Disk("root", 0),))
    uuid, hello = spec.instance.uuid, HELLO.decode()
    driver.spawn(spec)
    printed(driver, uuid)
    driver.reboot(spec, hard=True)
    printed(driver, uuid, hello * 2)
    returns = bench.returns
    libvirtd.kill_libvirtd()
    wait_until(lambda: bench.returns > returns, "libvirtd does not come back")
    assert driver.power_state(uuid) is PowerState.RUNNING
    assert secrets(driver) == set()
    driver.power_off(uuid, graceful_seconds=0)
    driver.power_on(spec)
    printed(driver, uuid, hello * 3)
    driver.suspend(uuid)
    for volume_id in secrets(driver):
        driver._locks.forget(uuid, volume_id)
    driver.resume(spec)
    assert driver.power_state(uuid) is PowerState.RUNNING
    driver.reboot(spec, hard=False)
    printed(driver, uuid, hello * 4)
    driver.destroy(uuid)
    assert secrets(driver) == set()


def test_a_guest_with_an_encrypted_volume_is_rescued(
    driver: LibvirtDriver, bench: Bench, image: tuple[Path, str], volume: NewVolume
) -> None:
    root = volume()
    fill(bench, root, boot_sector())
    spec = with_volumes(spec_of(*image), root.device("/dev/vda", boot_index=0))
    spec = replace(spec, disks=(Disk("root", 0),))
    uuid = spec.instance.uuid
    driver.spawn(spec)
    driver.power_off(uuid, graceful_seconds=0)
    driver.rescue(replace(spec, disks=(Disk("root", GIB, *image),)), stable=True)
    assert both(driver, uuid).keys() == {root.id} == secrets(driver)
    driver.unrescue(spec)
    assert both(driver, uuid).keys() == {root.id} == secrets(driver)
    driver.reboot(spec, hard=True)
    printed(driver, uuid)


def test_a_volume_that_grows_is_seen_without_its_header(
    driver: LibvirtDriver, on_scsi: GuestSpec, volume: NewVolume
) -> None:
    one, uuid = volume(), on_scsi.instance.uuid
    driver.spawn(on_scsi)
    driver.attach_volume(on_scsi, one.device())
    one.volume.kill_server()
    one.volume.extend(2)
    one.volume.serve()
    for _ in range(2):
        driver.extend_volume(uuid, one.device())
    with driver._guest(uuid) as found:
        assert found.blockInfo("sdb")[0] == 2 * GIB - luks.payload_offset(one.begins(512))


def refused(driver: LibvirtDriver, spec: GuestSpec, one: Encrypted, words: str) -> None:
    """The volume is not attached, and nothing is left of the attempt."""
    before, uuid = one.digest(), spec.instance.uuid
    with pytest.raises(DriverError, match=words):
        driver.attach_volume(spec, one.device())
    driver.detach_volume(uuid, one.device())
    assert (one.digest(), both(driver, uuid), secrets(driver)) == (before, {}, set())


def test_what_has_no_header_and_is_not_blank_is_left_alone(
    driver: LibvirtDriver, on_scsi: GuestSpec, volume: NewVolume
) -> None:
    """Wherever the content is: the header may have been lost, and somebody may have a copy of it."""
    driver.spawn(on_scsi)
    for offset in (0, 511, 1080, 2**20, 2**22, GIB - 1):
        one = volume()
        with one.file.open("r+b") as file:
            file.seek(offset)
            file.write(b"x")
        refused(driver, on_scsi, one, "is to be encrypted, but what is on it is not")


def test_a_wrong_key_a_missing_one_and_no_key_manager_are_said_so(
    driver: LibvirtDriver, bench: Bench, on_scsi: GuestSpec, volume: NewVolume
) -> None:
    one = volume()
    driver.spawn(on_scsi)
    driver.attach_volume(on_scsi, one.device())
    driver.detach_volume(on_scsi.instance.uuid, one.device())
    kept = bench.keys.known[one.key]
    bench.keys.known[one.key] = bytes(32)
    refused(driver, on_scsi, one, "key of the volume does not open it")
    del bench.keys.known[one.key]
    refused(driver, on_scsi, one, f"The key of volume {one.id} cannot be had: Key {one.key} is not in")
    bench.keys.known[one.key], bench.keys.down = kept, True
    refused(driver, on_scsi, one, "key manager service does not answer: it is down")
    bench.keys.down = False
    driver.attach_volume(on_scsi, one.device())
    assert both(driver, on_scsi.instance.uuid).keys() == {one.id}


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"provider": "luks2"}, "provider luks2 is not luks"),
        ({"control_location": "back-end"}, "control location is back-end"),
        ({"cipher": "rot-xts-plain64"}, "no cipher rot-xts-plain64"),
        ({"encryption_key_id": None}, "names no key"),
    ],
)
def test_an_encryption_that_is_not_qemus_is_refused(
    driver: LibvirtDriver, on_scsi: GuestSpec, volume: NewVolume, said: dict[str, Any], words: str
) -> None:
    driver.spawn(on_scsi)
    refused(driver, on_scsi, volume(**said), words)


def test_a_volume_of_several_servers_is_not_formatted_by_a_host(
    driver: LibvirtDriver, on_scsi: GuestSpec, volume: NewVolume
) -> None:
    """Two hosts would do it at a time, and the content of one guest be lost."""
    one = volume()
    driver.spawn(on_scsi)
    device = one.device()
    shared = replace(device, connection_info={**device.connection_info, "multiattach": True})
    with pytest.raises(DriverError, match="other servers may be about to write one"):
        driver.attach_volume(on_scsi, shared)
    assert one.begins(4096) == bytes(4096)


@pytest.mark.parametrize("writes", [1, 2])
def test_a_format_that_was_killed_is_done_again(
    driver: LibvirtDriver, on_scsi: GuestSpec, volume: NewVolume, monkeypatch: pytest.MonkeyPatch, writes: int
) -> None:
    """After the mark, and after all but the header's first sector."""
    one, done = volume(), 0
    writing = formatting.write

    def killed(part: Path, place: str, offset: int, size: int) -> None:
        nonlocal done
        if done == writes:
            raise KeyboardInterrupt
        done += 1
        writing(part, place, offset, size)

    driver.spawn(on_scsi)
    with monkeypatch.context() as patch:
        patch.setattr(formatting, "write", killed)
        with pytest.raises(KeyboardInterrupt):
            driver.attach_volume(on_scsi, one.device())
    assert one.begins(len(formatting.MARK)) == formatting.MARK
    driver.attach_volume(on_scsi, one.device())
    assert one.begins(len(MAGIC)) == MAGIC
    assert both(driver, on_scsi.instance.uuid).keys() == {one.id}
