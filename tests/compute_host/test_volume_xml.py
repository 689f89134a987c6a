"""Volumes in a guest's domain XML, and the host's connections to them with a connector in os-brick's place."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import pytest

pytest.importorskip("libvirt", reason="needs libvirt-python")

from cell_service.errors import DriverError
from cell_service.model.block_device import BlockDevice
from cell_service.model.volume_connection import VolumeConnection, connection_of
from compute_host.virt.driver import GuestSpec
from compute_host.virt.libvirt.brick import Connector
from compute_host.virt.libvirt.domain import (
    Choices,
    Laid,
    LaidDisk,
    VolumeSource,
    copy_target,
    render,
    sources,
    swapped,
    volume,
    volume_disks,
    volume_instead,
)
from compute_host.virt.libvirt.host_volumes import HostVolumes
from tests.compute_host.test_domain import DIRECT, HOME, PLAIN, QEMU, RESCUE, ROOT, spec

ID, OTHER = "11111111-2222-4333-8444-555555555555", "66666666-2222-4333-8444-555555555555"
SOCKET = {"export": f"volume-{ID}", "socket": "/run/volumes/one"}


def device(volume_id: str = ID, kind: str = "nbd", data: dict[str, Any] | None = None, **fields: Any) -> BlockDevice:
    info = {"driver_volume_type": kind, **(SOCKET if data is None else data)}
    usual = {"device_name": "/dev/vdb", "volume_id": volume_id, "connection_info": info}
    return BlockDevice(f"device-of-{volume_id}", "volume", "volume", **{**usual, **fields})


def source_of(one: BlockDevice) -> VolumeSource:
    connection = connection_of(one.connection_info)
    return sources.network(connection.kind, connection.data, 30)


def disks(
    *devices: BlockDevice, laid: Laid = PLAIN, choices: Choices = QEMU, previous: str | None = None, **properties: str
) -> dict[str, Element]:
    """The disks of a guest with these volumes, by their names."""
    made: GuestSpec = spec(**properties)
    made = replace(made, instance=replace(made.instance, block_devices=devices))
    known = {one.volume_id or "": source_of(one) for one in devices}
    domain = ElementTree.fromstring(render(made, laid, choices, sources=known, previous=previous))
    found = {attribute(disk, "target", "dev"): disk for disk in domain.iterfind("devices/disk")}
    assert len(found) == len(domain.findall("devices/disk"))
    assert (domain.find("os/boot") is None) == any(disk.find("boot") is not None for disk in found.values()) or (
        laid.kernel is not None
    )
    return found


def attribute(part: Element, tag: str, name: str) -> str:
    found = part.find(tag)
    return "" if found is None else found.get(name, "")


def plain(part: Element) -> str:
    """On one line."""
    return "".join(line.strip() for line in ElementTree.tostring(part, encoding="unicode").splitlines())


def test_a_volume_of_an_nbd_server_is_a_network_disk() -> None:
    assert plain(disks(device())["vdb"]) == (
        '<disk type="network" device="disk"><driver name="qemu" type="raw" cache="none" />'
        f'<source protocol="nbd" name="volume-{ID}"><host transport="unix" socket="/run/volumes/one" />'
        f'<reconnect delay="30" /></source><target dev="vdb" bus="virtio" /><serial>{ID}</serial></disk>'
    )


@pytest.mark.parametrize(
    ("kind", "data", "expected"),
    [
        ("nbd", {"export": "v", "host": "10.0.0.1", "port": 10810}, '<host name="10.0.0.1" port="10810" />'),
        ("nbd", {"export": "v", "host": "10.0.0.1"}, '<host name="10.0.0.1" port="10809" />'),
        ("rbd", {"name": "pool/v", "hosts": ["a", "b"], "ports": ["1"]},
         '<source protocol="rbd" name="pool/v"><host name="a" port="1" /><host name="b" port="6789" /></source>'),
        ("rbd", {"name": "pool/v", "hosts": [], "auth_enabled": True, "auth_username": "u", "secret_uuid": ID},
         f'<auth username="u"><secret type="ceph" uuid="{ID}" /></auth>'),
        ("nbd", {**SOCKET, "access_mode": "ro"}, "<readonly />"),
        ("nbd", {**SOCKET, "multiattach": True}, "<shareable />"),
        ("nbd", {**SOCKET, "discard": True}, 'discard="unmap"'),
        ("nbd", {**SOCKET, "qos_specs": {"total_iops_sec": "500", "read_bytes_sec_max": 9, "unknown": "1"}},
         "<iotune><total_iops_sec>500</total_iops_sec><read_bytes_sec_max>9</read_bytes_sec_max></iotune>"),
    ],
)  # fmt: skip
def test_the_connection_says_what_the_disk_is(kind: str, data: dict[str, Any], expected: str) -> None:
    assert expected in plain(disks(device(kind=kind, data=data))["vdb"])


def test_a_volume_of_several_servers_is_shareable() -> None:
    made = device()
    assert disks(made)["vdb"].find("shareable") is None
    shared = replace(made, connection_info={**made.connection_info, "multiattach": True})
    assert disks(shared)["vdb"].find("shareable") is not None


def test_a_connection_without_its_data_is_an_error() -> None:
    for kind, data in (("nbd", {"export": "v"}), ("nbd", {"socket": "s"}), ("rbd", {"name": "pool/v"})):
        with pytest.raises(DriverError, match="has no"):
            disks(device(kind=kind, data=data))


def test_names_do_not_collide_with_those_of_own_disks() -> None:
    laid = replace(PLAIN, disks=(ROOT, LaidDisk("swap", HOME / "disk.swap", "raw")), drive=HOME / "disk.config")
    named = disks(device(), device(OTHER, device_name="/dev/vdb"), laid=laid)
    assert sorted(named) == ["hda", "vda", "vdb", "vdc", "vdd"]
    assert (named["vdc"].findtext("serial"), named["vdd"].findtext("serial")) == (ID, OTHER)


def test_a_bus_is_that_of_the_device_else_that_of_the_image() -> None:
    on_scsi = disks(device(), device(OTHER, disk_bus="virtio", device_name=None), hw_disk_bus="scsi")
    assert {name: attribute(disk, "target", "bus") for name, disk in on_scsi.items()} == {
        "sda": "scsi", "sdb": "scsi", "vda": "virtio",
    }  # fmt: skip
    assert attribute(on_scsi["sdb"], "address", "unit") == "1"
    with pytest.raises(DriverError):
        disks(device(disk_bus="xen"))
    with pytest.raises(DriverError, match="type lun"):
        disks(device(device_type="lun"))


def test_many_disks_on_scsi_share_one_controller() -> None:
    many = [device(f"{number:08}-2222-4333-8444-555555555555", device_name=None) for number in range(26)]
    units = [int(attribute(disk, "address", "unit") or 0) for disk in disks(*many, hw_disk_bus="scsi").values()]
    assert (len(set(units)), 7 in units, max(units)) == (27, False, 27)


@pytest.mark.parametrize(
    ("laid", "devices", "expected"),
    [
        (PLAIN, [(ID, None)], {}),
        (PLAIN, [(ID, -1)], {}),
        (PLAIN, [(ID, 1)], {"vda": "1", "vdb": "2"}),
        (replace(PLAIN, disks=()), [(ID, 0)], {"vda": "1"}),
        (replace(PLAIN, disks=()), [(OTHER, 1), (ID, 0)], {"vda": "1", "vdb": "2"}),
        (replace(PLAIN, disks=(RESCUE,)), [(ID, 0)], {"vdb": "1"}),
        (replace(PLAIN, disks=(RESCUE, ROOT)), [(ID, 1)], {}),
        (DIRECT, [(ID, 1)], {}),
    ],
)
def test_disks_are_booted_in_their_order(
    laid: Laid, devices: list[tuple[str, int | None]], expected: dict[str, str]
) -> None:
    made = disks(*(device(name, boot_index=index) for name, index in devices), laid=laid)
    orders = {name: attribute(disk, "boot", "order") for name, disk in made.items()}
    assert {name: order for name, order in orders.items() if order} == expected


def test_names_and_addresses_stay_in_the_next_definition() -> None:
    two = (device(), device(OTHER, device_name="/dev/vdc"))
    made = replace(spec(), instance=replace(spec().instance, block_devices=two))
    before = render(made, PLAIN, QEMU, sources={one.volume_id or "": source_of(one) for one in two})
    address = '<address type="pci" bus="0x00" slot="0x09" function="0x0" />'
    before = before.replace(f"<serial>{OTHER}</serial>", f"<serial>{OTHER}</serial>{address}")
    swap = LaidDisk("swap", HOME / "disk.swap", "raw")
    after = disks(*reversed(two), laid=replace(PLAIN, disks=(ROOT, swap)), previous=before)
    assert {name: disk.findtext("serial") for name, disk in after.items()} == {
        "vda": "root", "vdb": ID, "vdc": OTHER, "vdd": None,
    }  # fmt: skip
    assert attribute(after["vdc"], "address", "slot") == "0x09"
    assert after["vdb"].find("address") is None
    assert disks(two[1], previous=before, hw_machine_type="q35")["vdc"].find("address") is None


def test_a_volume_that_is_attached_gets_a_name_that_is_free() -> None:
    have = render(spec(), PLAIN, QEMU), "<domain><devices><disk><target dev='vdb'/></disk></devices></domain>"
    made = ElementTree.fromstring(volume(spec(), device(), source_of(device()), QEMU, have))
    assert attribute(made, "target", "dev") == "vdc"


class FakeConnector:
    """A connector of os-brick that remembers its calls. `path`: what it connects to."""

    def __init__(self, path: Path) -> None:
        self.path, self.calls, self.fails = path, [], False
        self.calls: list[tuple[Any, ...]]

    def connector(self, kind: str) -> Connector:
        self.calls.append(("connector", kind))
        return self

    def connect_volume(self, connection_properties: dict[str, Any]) -> dict[str, Any]:
        self.calls.append(("connect", connection_properties["target"]))
        if self.fails:
            raise ValueError("no path to the target")
        return {"type": "block", "path": str(self.path), "scsi_wwn": "w"}

    def disconnect_volume(
        self, connection_properties: dict[str, Any], device_info: dict[str, Any] | None, force: bool = False,
        ignore_errors: bool = False,
    ) -> None:  # fmt: skip
        self.calls.append(("disconnect", connection_properties["target"], device_info))
        if self.fails:
            raise ValueError("the device is busy")

    def extend_volume(self, connection_properties: dict[str, Any]) -> int | None:
        self.calls.append(("extend", connection_properties["target"]))
        return None

    def taken(self) -> list[tuple[Any, ...]]:
        calls, self.calls = self.calls, []
        return [call for call in calls if call[0] != "connector"]


class NoLocks:
    """Where no volume is encrypted."""

    def unlocked(self, uuid: str, volume_id: str, connection: VolumeConnection, source: VolumeSource) -> VolumeSource:
        return source

    def forget(self, uuid: str, volume_id: str) -> None:
        """There is nothing to forget."""

    def volumes_of(self, uuid: str) -> tuple[str, ...]:
        return ()

    def guests(self) -> frozenset[str]:
        return frozenset()


Host = Callable[[], HostVolumes]
ISCSI = device(kind="iscsi", data={"target": "iqn.one", "auth_password": "secret"})
MADE = {"type": "block", "scsi_wwn": "w"}


@pytest.fixture
def fake(tmp_path: Path) -> FakeConnector:
    path = tmp_path / "device"
    path.touch()
    return FakeConnector(path)


@pytest.fixture
def host(tmp_path: Path, fake: FakeConnector) -> Host:
    """Each is the host after its agent was killed."""
    return lambda: HostVolumes(tmp_path / "volumes", fake, 30, NoLocks())


def test_what_was_connected_is_disconnected_by_the_next_agent(host: Host, fake: FakeConnector, tmp_path: Path) -> None:
    made = host().connect("guest", ISCSI)
    assert (made.kind, made.attributes) == ("file", {"file": str(fake.path)})
    assert [path.stat().st_mode & 0o777 for path in (tmp_path / "volumes").iterdir()] == [0o600]
    assert host().guests() == ("guest",)
    assert host().known("guest", ISCSI) == made
    host().extend("guest", ID)
    host().disconnect_all("guest")
    host().disconnect_all("guest")
    device_info = {**MADE, "path": str(fake.path)}
    assert fake.taken() == [("connect", "iqn.one"), ("extend", "iqn.one"), ("disconnect", "iqn.one", device_info)]
    assert host().guests() == ()


def test_a_connection_that_failed_is_disconnected_too(host: Host, fake: FakeConnector) -> None:
    fake.fails = True
    with pytest.raises(DriverError, match="no path to the target"):
        host().connect("guest", ISCSI)
    assert host().known("guest", ISCSI) is None
    with pytest.raises(DriverError, match="busy"):
        host().disconnect("guest", ID)
    assert host().guests() == ("guest",)
    fake.fails = False
    fake.taken()
    host().disconnect("guest", ID)
    assert (fake.taken(), host().guests()) == ([("disconnect", "iqn.one", None)], ())


def test_a_volume_of_two_guests_is_disconnected_with_the_last(host: Host, fake: FakeConnector) -> None:
    for guest in ("one", "two"):
        host().connect(guest, ISCSI)
    host().disconnect("one", ID)
    assert [call[0] for call in fake.taken()] == ["connect", "connect"]
    host().disconnect("two", ID)
    assert [call[0] for call in fake.taken()] == ["disconnect"]


def test_storage_that_hangs_holds_no_other_volume_up(
    host: Host, fake: FakeConnector, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, released, connect = threading.Event(), threading.Event(), fake.connect_volume

    def hanging(properties: dict[str, Any]) -> dict[str, Any]:
        if properties["target"] == "iqn.one":
            begun.set()
            assert released.wait(20)
        return connect(properties)

    monkeypatch.setattr(fake, "connect_volume", hanging)
    volumes = host()
    waiting = threading.Thread(target=volumes.connect, args=("guest", ISCSI), daemon=True)
    waiting.start()
    assert begun.wait(20)
    volumes.connect("another", device(OTHER, kind="iscsi", data={"target": "iqn.two"}))
    volumes.disconnect("another", OTHER)
    assert waiting.is_alive()
    released.set()
    waiting.join(20)
    assert volumes.guests() == ("guest",)


def test_qemu_connects_to_network_disks_by_itself(host: Host, fake: FakeConnector) -> None:
    assert host().connect_all("guest", (device(),)) == {ID: source_of(device())}
    assert (fake.calls, host().guests()) == ([], ())


def test_an_unknown_type_and_a_lost_path_are_errors(host: Host, fake: FakeConnector) -> None:
    with pytest.raises(DriverError, match="of type sheepdog"):
        host().connect("guest", device(kind="sheepdog"))
    fake.path.unlink()
    with pytest.raises(DriverError, match="is not at"):
        host().connect("guest", ISCSI)
    host().disconnect_all("guest")
    assert [call[0] for call in fake.taken()] == ["connect", "disconnect"]


def running(*known: tuple[str, str, str], disk: str = "vdb", serial: str = ID) -> str:
    """A running domain with one disk, in whose metadata are these: target, serial number and id."""
    volumes = swapped.metadata({(target, number): volume_id for target, number, volume_id in known})
    inside = (volumes or "").replace("<volumes>", f'<s:volumes xmlns:s="{swapped.NAMESPACE}">')
    inside = inside.replace("</volumes>", "</s:volumes>")
    one = f"<disk><target dev='{disk}'/><serial>{serial}</serial></disk><disk><target dev='vdz'/></disk>"
    return f"<domain><metadata>{inside}</metadata><devices>{one}</devices></domain>"


@pytest.mark.parametrize(
    ("text", "expected", "gone"),
    [
        (running(), ID, False),
        (running(("vdb", ID, OTHER)), OTHER, False),
        (running(("vdc", ID, OTHER)), ID, True),
        (running(("vdb", OTHER, "third")), ID, True),
        (running(("vdb", ID, OTHER), ("vdc", ID, "third")), OTHER, True),
    ],
)
def test_a_swapped_volume_is_known_by_the_metadata(text: str, expected: str, gone: bool) -> None:
    assert list(volume_disks(text)) == [expected]
    assert swapped.has_gone(text) is gone
    assert set(swapped.present(text).values()) == ({expected} - {ID})


def test_a_disk_is_another_volume_from_now_on() -> None:
    text = running(("vdb", ID, OTHER), ("vdc", ID, "gone"))
    assert swapped.with_volume(text, volume_disks(text)[OTHER], "third") == {("vdb", ID): "third"}
    assert swapped.metadata({}) is None


def test_a_volume_has_the_place_of_the_one_before() -> None:
    one, other = device(boot_index=0), device(OTHER, data={"export": "two", "host": "10.0.0.1"}, boot_index=0)
    before = disks(one)["vda"]
    ElementTree.SubElement(before, "address", type="pci", slot="0x07")
    made = ElementTree.fromstring(volume_instead(spec(), other, source_of(other), QEMU, before))
    for part in ("target", "address", "boot"):
        assert attributes(made, part) == attributes(before, part) != []
    assert (made.findtext("serial"), attribute(made, "source", "name")) == (OTHER, "two")
    scsi = ElementTree.fromstring(
        volume_instead(spec(), other, source_of(other), QEMU, disks(one, hw_disk_bus="scsi")["sda"])
    )
    assert len(scsi.findall("address")) == 1


def attributes(part: Element, tag: str) -> list[dict[str, str]]:
    return [dict(each.attrib) for each in part.findall(tag)]


def test_the_target_of_a_copy_is_the_volume_or_its_beginning() -> None:
    whole, part = (ElementTree.fromstring(copy_target(source_of(device()), size)) for size in (None, 4096))
    assert (whole.get("type"), attribute(whole, "driver", "type")) == ("network", "raw")
    assert whole.find("source/slices") is None
    assert attributes(part, "source/slices/slice") == [{"type": "storage", "offset": "0", "size": "4096"}]
    file = copy_target(sources.path("/mnt/one", block=False, kind="qcow2"))
    assert attribute(ElementTree.fromstring(file), "driver", "type") == "qcow2"
