"""Domain XML: what it is for known guests (golden files; WRITE_GOLDEN=1 writes them), and that no name can break it."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cell_service.errors import DriverError
from cell_service.model.instance import Flavor, Instance, Vif
from compute_host.virt.driver import GuestSpec
from compute_host.virt.libvirt.domain import NAMESPACE, Choices, Consoles, Laid, LaidDisk, Listen, owner, render

GOLDEN = Path(__file__).with_name("golden")
HOME = Path("/guests/6f70656e-0000-4000-8000-000000000001")
FLAVOR = Flavor(flavorid="1", name="small", vcpus=2, memory_mib=256, root_gib=1, ephemeral_gib=1, swap_mib=64)
ROOT = LaidDisk("root", HOME / "disk", "qcow2")
RESCUE = LaidDisk("rescue", HOME / "disk.rescue", "qcow2")
PORT = Vif("aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee", "net", "net", "fa:16:3e:00:00:01", mtu=1450, vif_type="bridge",
           details={"bridge_name": "brq-1"})  # fmt: skip
PLAIN = Laid((ROOT,), HOME / "console.log")
DIRECT = Laid((ROOT,), HOME / "console.log", kernel=HOME / "kernel", ramdisk=HOME / "ramdisk")
QEMU, KVM = Choices("h1", kvm=False), Choices("h1", kvm=True, cpu_mode="host-model")


def spec(name: str = "web", nics: tuple[Vif, ...] = (PORT,), flavor: Flavor = FLAVOR, **properties: str) -> GuestSpec:
    instance = Instance(
        uuid=HOME.name,
        project_id="p1",
        user_id="u1",
        display_name=name,
        flavor=flavor,
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
        image_ref="an-image",
        system_metadata={f"image_{key}": value for key, value in properties.items()},
    )
    return GuestSpec(instance, (), nics, cell="cell1", fence=7)


CASES = {
    "pc-qemu": (
        spec(),
        Laid(
            (ROOT, LaidDisk("ephemeral", HOME / "disk.eph0", "raw"), LaidDisk("swap", HOME / "disk.swap", "raw")),
            HOME / "console.log",
            drive=HOME / "disk.config",
        ),
        QEMU,
    ),
    "pc-kvm": (spec(hw_cpu_cores="2"), PLAIN, replace(KVM, cache="none", name_prefix="one-")),
    "q35-drive": (spec(hw_machine_type="q35"), replace(PLAIN, drive=HOME / "disk.config"), QEMU),
    "q35-vfat": (
        spec(hw_machine_type="q35"),
        replace(PLAIN, drive=HOME / "disk.config", drive_is_cdrom=False),
        QEMU,
    ),
    "uefi": (spec(hw_firmware_type="uefi", hw_machine_type="q35"), PLAIN, QEMU),
    "secure-boot": (
        spec(hw_firmware_type="uefi", hw_machine_type="q35", os_secure_boot="required"), PLAIN, QEMU
    ),
    "kernel": (spec(), DIRECT, QEMU),
    "kernel-command-line": (spec(os_command_line="quiet console=ttyS0"), DIRECT, QEMU),
    "scsi-e1000-agent": (
        spec(hw_disk_bus="scsi", hw_vif_model="e1000", hw_qemu_guest_agent="yes", os_type="windows"), PLAIN, QEMU
    ),
    "rescue": (spec(), Laid((RESCUE, ROOT), HOME / "console.log"), QEMU),
    "rescue-stable": (spec(), Laid((ROOT, RESCUE), HOME / "console.log"), QEMU),
    "ovs": (spec(nics=(replace(PORT, vif_type="ovs", details={}),)), PLAIN, QEMU),
    "tap": (spec(nics=(replace(PORT, vif_type="tap", details={}),)), PLAIN, QEMU),
    "macvtap": (
        spec(nics=(replace(PORT, vif_type="macvtap", details={"macvtap_source": "eth1", "macvtap_mode": "vepa"}),)),
        PLAIN,
        QEMU,
    ),
    "vhostuser": (
        spec(nics=(
            replace(PORT, vif_type="vhostuser", details={"vhostuser_socket": "/run/vhu", "vhostuser_mode": "server"}),
        )),
        PLAIN,
        QEMU,
    ),
    "user-network": (spec(), PLAIN, replace(QEMU, user_networking=True)),
}  # fmt: skip


SOCKETS = Consoles(Listen(socket="/run/h1/a.vnc"), Listen(socket="/run/h1/a.spice"), Listen(socket="/run/h1/a.serial"))
PORTS = Consoles(Listen("127.0.0.1"), Listen("127.0.0.1"), Listen("127.0.0.1", 10000))


@pytest.mark.parametrize(("name", "consoles"), [("consoles-sockets", SOCKETS), ("consoles-ports", PORTS)])
def test_a_guest_has_consoles_its_log_and_a_screen(name: str, consoles: Consoles) -> None:
    text = render(spec(), PLAIN, QEMU, consoles=consoles)
    path = GOLDEN / f"{name}.xml"
    if os.environ.get("WRITE_GOLDEN"):
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


def test_a_screen_has_the_card_that_was_demanded_and_no_screen_none() -> None:
    demanded = ElementTree.fromstring(render(spec(hw_video_model="virtio"), PLAIN, QEMU, consoles=PORTS))
    assert [each.get("type") for each in demanded.findall("devices/video/model")] == ["virtio"]
    serial = ElementTree.fromstring(render(spec(), PLAIN, QEMU, consoles=Consoles(serial=PORTS.serial)))
    assert serial.find("devices/video") is None


@pytest.mark.parametrize("name", CASES)
def test_a_known_guest_is_rendered_as_ever(name: str) -> None:
    text = render(*CASES[name])
    path = GOLDEN / f"{name}.xml"
    if os.environ.get("WRITE_GOLDEN"):
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


@given(st.text(), st.text())
def test_no_name_breaks_the_xml(name: str, command_line: str) -> None:
    odd = spec(name, os_command_line=command_line)
    odd = replace(odd, cell=name, instance=replace(odd.instance, project_id=name))
    tree = ElementTree.fromstring(render(odd, DIRECT, QEMU))
    assert [each.tag for each in tree] == [each.tag for each in ElementTree.fromstring(render(spec(), DIRECT, QEMU))]
    said = tree.findtext(f"metadata/{{{NAMESPACE}}}instance/{{{NAMESPACE}}}name") or ""
    assert len(said.replace("\n", "")) <= len(name)


def test_a_name_that_closes_elements_is_only_a_name() -> None:
    name = "</name></metadata><devices/>]]>&amp;\"'\0\x1b\ud800"
    tree = ElementTree.fromstring(render(spec(name), PLAIN, QEMU))
    said = tree.findtext(f"metadata/{{{NAMESPACE}}}instance/{{{NAMESPACE}}}name")
    assert said == "</name></metadata><devices/>]]>&amp;\"'\ufffd\ufffd\ufffd"
    assert len(tree.findall("devices")) == 1


@pytest.mark.parametrize(
    ("port", "words"),
    [
        (replace(PORT, vif_type="ovs", details={"ovs_hybrid_plug": True}), "ovs_hybrid_plug"),
        (replace(PORT, vif_type="hw_veb"), "hw_veb"),
        (replace(PORT, vif_type=""), "none"),
        (replace(PORT, details={}), "no bridge"),
        (replace(PORT, vif_type="macvtap", details={}), "no device"),
        (replace(PORT, vif_type="macvtap", details={"macvtap_source": "eth1", "macvtap_mode": "x"}), "unknown macvtap"),
        (replace(PORT, vif_type="vhostuser", details={}), "no socket"),
        (replace(PORT, vif_type="vhostuser", details={"vhostuser_mode": "x"}), "unknown vhostuser"),
    ],
)
def test_a_port_that_cannot_be_plugged_is_said_so(port: Vif, words: str) -> None:
    with pytest.raises(DriverError, match=words):
        render(spec(nics=(port,)), PLAIN, QEMU)


@pytest.mark.parametrize(
    ("properties", "choices", "words"),
    [
        ({"hw_disk_bus": "floppy"}, QEMU, "Invalid value 'floppy' of image property hw_disk_bus"),
        ({"hw_vif_model": "magic"}, QEMU, "Invalid value 'magic' of image property hw_vif_model"),
        ({"hw_vif_model": "lan9118"}, QEMU, "A network card of model lan9118 cannot be had"),
        ({"hw_disk_bus": "xen"}, QEMU, "A disk bus xen cannot be had"),
        ({"hw_disk_bus": "ide", "hw_machine_type": "q35"}, QEMU, "it has no IDE"),
        ({"hw_disk_bus": "ide"}, replace(QEMU, machine="q35"), "A disk bus ide cannot be had"),
        ({"hw_mem_encryption": "true", "hw_firmware_type": "uefi"}, QEMU, "cannot encrypt"),
    ],
)
def test_a_device_that_cannot_be_had_is_said_so(properties: dict[str, str], choices: Choices, words: str) -> None:
    with pytest.raises(DriverError, match=words):
        render(spec(**properties), PLAIN, choices)


def test_the_owner_is_read_from_metadata_as_libvirt_gives_them() -> None:
    assert owner("<instance><uuid>u</uuid><host>h1</host></instance>") == "h1"
    assert owner(f"<p:instance xmlns:p='{NAMESPACE}'><p:host>h2</p:host></p:instance>") == "h2"
    assert owner("<instance/>") == owner("broken <") == ""
