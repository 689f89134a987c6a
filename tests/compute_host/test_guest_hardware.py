"""Hardware of guests on a real libvirtd: QEMU starts with all of it, watchdogs act, and hosts report what they have."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("libvirt", reason="needs libvirt-python")

import libvirt

from cell_service.errors import Invalid
from cell_service.model.ability import Ability
from cell_service.model.instance import MACHINE_TYPE
from cell_service.model.lifecycle import PowerState
from compute_host.libvirt_settings import LibvirtSettings
from compute_host.virt.driver import GuestSpec
from compute_host.virt.libvirt import limits_probe, node
from compute_host.virt.libvirt.domain import Laid, LaidDisk, render
from compute_host.virt.libvirt.driver import LibvirtDriver
from tests.compute_host.hardware_cases import CASES
from tests.compute_host.test_domain import FLAVOR, PORT, QEMU, spec
from tests.compute_host.test_hardware_xml import PLACED
from tests.real.databases import wait_until
from tests.real.libvirt_driver import HELLO, Bench, boot_sector, left, printed
from tests.real.libvirtd import PrivateLibvirtd
from tests.suites.driver import SMALL, spec_of

pytestmark = pytest.mark.real

TAP = replace(PORT, vif_type="tap", details={})
PAUSED = libvirt.VIR_DOMAIN_START_PAUSED | libvirt.VIR_DOMAIN_START_AUTODESTROY | libvirt.VIR_DOMAIN_START_VALIDATE
ARM_WATCHDOG = bytes.fromhex(
    "31c966b800000080660fb7d966c1e30b6609d86689c3baf80c66efbafc0c66ed663d8680ab2574084183f92075d4eb21"
    "baf80c6689d80c6066efbafc0cb80400efbaf80c6689d80c6866efbafc0cb002ee"
)
"""Finds the PCI device 8086:25ab on bus 0, sets its clock to 1 MHz (configuration word 60h = 4), which makes its two
stages one second each, and starts it (byte 68h = 2)."""


def watched_sector() -> bytes:
    """Writes HELLO on the serial port, starts the watchdog, and hangs."""
    code = boot_sector()[: 6 * len(HELLO)] + ARM_WATCHDOG
    return (code + b"\xf4\xeb\xfd").ljust(510, b"\0") + b"\x55\xaa"


@pytest.fixture
def connection(libvirtd: PrivateLibvirtd) -> Iterator[libvirt.virConnect]:
    """A connection that is not the driver's."""
    made = libvirt.open(libvirtd.uri)
    yield made
    made.close()


@pytest.fixture
def laid(tmp_path: Path) -> Laid:
    path = tmp_path / "disk"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", path, "1M"], check=True)
    return Laid((LaidDisk("root", path, "qcow2"),), tmp_path / "console.log")


def text_of(name: str, laid: Laid) -> str:
    case = CASES[name]
    guest = spec(nics=(TAP,), flavor=replace(FLAVOR, memory_mib=64, extra_specs=case.specs), **case.properties)
    return render(guest, laid, replace(QEMU, host="none", **case.choices))


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if not case.needs])
def test_qemu_starts_with_the_hardware(connection: libvirt.virConnect, laid: Laid, name: str) -> None:
    connection.createXML(text_of(name, laid), PAUSED).destroy()


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.needs and name != "tpm"])
def test_libvirt_reads_hardware_that_not_every_host_has(connection: libvirt.virConnect, laid: Laid, name: str) -> None:
    """The schema is checked on any host; such a guest may be refused when it is started."""
    text = text_of(name, laid).replace('type="kvm">', 'type="qemu">', 1)
    connection.defineXMLFlags(text, libvirt.VIR_DOMAIN_DEFINE_VALIDATE).undefine()


def test_a_guest_starts_with_a_tpm_where_the_host_has_one(
    driver: LibvirtDriver, connection: libvirt.virConnect, laid: Laid
) -> None:
    has_tpm = "COMPUTE_SECURITY_TPM_2_0" in driver.nodes()[0].traits
    assert has_tpm is (shutil.which("swtpm") is not None)
    if has_tpm:
        connection.createXML(text_of("tpm", laid), PAUSED).destroy()
    else:
        with pytest.raises(libvirt.libvirtError, match="TPM version"):
            connection.createXML(text_of("tpm", laid), PAUSED)


def test_libvirt_reads_a_placement(connection: libvirt.virConnect, laid: Laid) -> None:
    guest = spec(nics=(TAP,), flavor=replace(FLAVOR, extra_specs=CASES["cpu-limits"].specs))
    text = render(guest, laid, replace(QEMU, host="none"), PLACED)
    connection.defineXMLFlags(text, libvirt.VIR_DOMAIN_DEFINE_VALIDATE).undefine()


def test_a_guest_runs_on_two_nodes_with_a_pinned_processor(connection: libvirt.virConnect, laid: Laid) -> None:
    nodes = tuple(replace(each, host_node=None, page_kib=None, memory_mib=32) for each in PLACED.nodes)
    here = replace(PLACED, nodes=nodes, pins={0: frozenset({0})}, emulator=frozenset({0}), realtime=frozenset(),
                   devices=())  # fmt: skip
    text = render(spec(nics=(), flavor=replace(FLAVOR, memory_mib=64)), laid, replace(QEMU, host="none"), here)
    made = connection.createXML(text, PAUSED)
    try:
        pinned = made.vcpus()[1]
        assert pinned[0][0] is True
        assert not any(pinned[0][1:]), "the first vCPU may run on the first processor alone"
    finally:
        made.destroy()


def watched(tmp_path: Path, action: str) -> GuestSpec:
    path = tmp_path / "watched"
    path.write_bytes(watched_sector())
    return spec_of(path, "raw", replace(SMALL, extra_specs={"hw:watchdog_action": action}))


def test_a_guest_that_hangs_is_reset_by_its_watchdog(driver: LibvirtDriver, tmp_path: Path) -> None:
    guest = watched(tmp_path, "reset")
    driver.spawn(guest)
    printed(driver, guest.instance.uuid, HELLO.decode() * 3)
    assert driver.power_state(guest.instance.uuid) is PowerState.RUNNING


@pytest.mark.parametrize(("action", "state"), [("poweroff", PowerState.CRASHED), ("pause", PowerState.PAUSED)])
def test_a_guest_that_hangs_is_stopped_by_its_watchdog_and_that_is_reported(
    bench: Bench, driver: LibvirtDriver, tmp_path: Path, action: str, state: PowerState
) -> None:
    """QEMU ends at once to power a guest off, which libvirt takes for a crash."""
    guest = watched(tmp_path, action)
    driver.spawn(guest)
    uuid = guest.instance.uuid
    wait_until(lambda: (uuid, state) in bench.events, f"the watchdog does not {action} the guest")
    assert driver.power_state(uuid) is state
    assert driver.console_output(uuid).count(HELLO.decode()) == 1


def test_a_watchdog_that_is_disabled_leaves_a_guest_alone(bench: Bench, driver: LibvirtDriver, tmp_path: Path) -> None:
    """The same guest, without the device, does not find it."""
    guest = watched(tmp_path, "disabled")
    driver.spawn(guest)
    printed(driver, guest.instance.uuid)
    assert driver.power_state(guest.instance.uuid) is PowerState.RUNNING
    assert "<watchdog" not in _xml(driver, guest.instance.uuid)


def _xml(driver: LibvirtDriver, uuid: str) -> str:
    with driver._guest(uuid) as found:
        return str(found.XMLDesc())


def test_variables_of_the_firmware_are_kept_until_the_guest_is_gone(
    driver: LibvirtDriver, libvirtd: PrivateLibvirtd, tmp_path: Path
) -> None:
    if not Path("/usr/share/OVMF").exists():
        pytest.skip("needs ovmf")
    path = tmp_path / "image"
    path.write_bytes(boot_sector())
    plain = spec_of(path, "raw")
    properties = {"image_hw_firmware_type": "uefi", "image_hw_machine_type": "q35"}
    guest = replace(plain, instance=replace(plain.instance, system_metadata=properties))
    uuid = guest.instance.uuid
    driver.spawn(guest)
    printed(driver, uuid, "BdsDxe")
    variables = Path(f"/proc/{libvirtd.host.pid()}/root") / _nvram(driver, uuid).lstrip("/")
    driver.power_off(uuid, graceful_seconds=0)
    with variables.open("r+b") as file:
        file.seek(-len(HELLO), 2)
        file.write(HELLO)
    driver.reboot(guest, hard=True)
    printed(driver, uuid, "BdsDxe")
    assert variables.read_bytes().endswith(HELLO)
    driver.destroy(uuid)
    assert not variables.exists()


def _nvram(driver: LibvirtDriver, uuid: str) -> str:
    return _xml(driver, uuid).partition("<nvram")[2].partition(">")[2].partition("<")[0]


def test_a_host_reports_the_hardware_that_it_has(driver: LibvirtDriver) -> None:
    (found,) = driver.nodes()
    assert {
        "COMPUTE_GRAPHICS_MODEL_VGA",
        "COMPUTE_GRAPHICS_MODEL_NONE",
        "COMPUTE_NET_VIF_MODEL_VMXNET3",
        "COMPUTE_NET_VIRTIO_PACKED",
        "COMPUTE_SOUND_MODEL_ICH9",
        "COMPUTE_STORAGE_BUS_IDE",
        "COMPUTE_STORAGE_BUS_USB",
        "COMPUTE_USB_MODEL_QEMU_XHCI",
    } <= set(found.traits)
    assert "HW_CPU_X86_AMD_SEV" not in found.traits
    assert not any(trait.startswith("COMPUTE_ADDRESS_SPACE") for trait in found.traits), "only with KVM"
    assert found.is_able(Ability.WATCHDOG)
    assert found.is_able(Ability.DISK_LIMITS)


@pytest.mark.parametrize(
    ("ability", "name"), [(Ability.CPU_LIMITS, "cpu-limits"), (Ability.NETWORK_LIMITS, "network-limits")]
)
def test_a_host_reports_limits_when_guests_start_with_them(
    driver: LibvirtDriver, connection: libvirt.virConnect, laid: Laid, ability: Ability, name: str
) -> None:
    started = False
    with contextlib.suppress(libvirt.libvirtError):
        connection.createXML(text_of(name, laid), PAUSED).destroy()
        started = True
    assert driver.nodes()[0].is_able(ability) is started
    assert [each.name() for each in connection.listAllDomains() if "probe" in each.name()] == []


def test_a_host_of_a_user_reports_no_network_limits(connection: libvirt.virConnect) -> None:
    assert Ability.NETWORK_LIMITS.value not in limits_probe.abilities(connection, user_networking=True)


def test_a_guest_stays_the_machine_that_it_was_recorded_as(bench: Bench, tmp_path: Path) -> None:
    path = tmp_path / "image"
    path.write_bytes(boot_sector())
    plain, options = spec_of(path, "raw"), bench.settings.libvirt
    uuid = plain.instance.uuid
    driver = bench.driver()
    assert driver.machine_type(plain.instance) == "pc"
    driver.spawn(plain)
    recorded = replace(plain, instance=replace(plain.instance, system_metadata={MACHINE_TYPE: "pc"}))
    later = bench.driver(replace(bench.settings, libvirt=replace(options, hw_machine_type=("x86_64=q35",))))
    assert later.machine_type(plain.instance) == "q35"
    assert later.machine_type(recorded.instance) == "pc"
    later.reboot(recorded, hard=True)
    assert "machine='pc-i440fx" in _xml(later, uuid)


def test_memory_in_files_is_the_hosts_memory_and_is_promised_once(bench: Bench, tmp_path: Path) -> None:
    settings = replace(bench.settings, libvirt=replace(bench.settings.libvirt, file_backed_memory=4096))
    with pytest.raises(Invalid, match="ram_allocation_ratio"):
        bench.driver(replace(settings, ratios=replace(settings.ratios, ram=1.5)))
    with pytest.raises(Invalid, match="reserved_host_memory_mb"):
        bench.driver(replace(settings, reserved=replace(settings.reserved, memory_mib=4096)))
    driver = bench.driver(replace(settings, ratios=replace(settings.ratios, ram=1.0)))
    (found,) = driver.nodes()
    assert found.memory_mib == 4096
    assert "COMPUTE_MEM_BACKING_FILE" in found.traits
    path = tmp_path / "image"
    path.write_bytes(boot_sector())
    guest = spec_of(path, "raw")
    driver.spawn(guest)
    printed(driver, guest.instance.uuid)
    assert "<source type='file'/>" in _xml(driver, guest.instance.uuid)
    driver.destroy(guest.instance.uuid)
    assert left(bench, guest.instance.uuid) == []
    assert node.memory_mib(bench.settings, ["x86_64", 512]) == 512
    assert LibvirtSettings().file_backed_memory == 0
