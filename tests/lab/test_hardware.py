"""Hardware and limits that a real guest sees from inside."""

from __future__ import annotations

import subprocess
import sys
from uuid import uuid4

import pytest

from bench.target import MANAGE_FILES
from tests.faults.installation import ROOT, Unmet
from tests.lab.conftest import CACHE
from tests.lab.lab import Guest, Lab
from tools.guest.image import build

pytestmark = [pytest.mark.real, pytest.mark.faults, pytest.mark.timeout(1200)]

WRITTEN_KIB, KIB_A_SECOND, BURST_SECONDS = 2048, 256, 1
"""A limit lets through what it allows in a second before it begins to hold back."""
HANG = """\
for device in /sys/bus/pci/devices/*; do
    [ "$(cat $device/vendor) $(cat $device/device)" = "0x8086 0x25ab" ] || continue
    printf '\\004\\000' | dd of=$device/config bs=2 seek=48 conv=notrunc
    printf '\\002' | dd of=$device/config bs=1 seek=104 conv=notrunc
done
echo 0 > /proc/sys/kernel/panic
echo c > /proc/sysrq-trigger
"""
"""Start the watchdog (a 6300ESB: clock of 1 MHz, two stages of a second), and hang: a kernel that panicked, and is not
to boot again by itself."""


def flavor(cloud: Lab, vcpus: int = 1, **specs: str) -> str:
    """A new flavor, under a name that `Lab.boot` takes. The first underscore of an extra spec's name is a colon."""
    name = f"hardware-{uuid4()}"
    body = {"flavor": {"name": name, "vcpus": vcpus, "ram": 128, "disk": 1}}
    flavor_id = str(cloud.ask("POST", "/flavors", body)["flavor"]["id"])
    named = {key.replace("_", ":", 1): value for key, value in specs.items()}
    cloud.ask("POST", f"/flavors/{flavor_id}/os-extra_specs", {"extra_specs": named})
    cloud.flavors[name] = flavor_id
    return name


def machine_type(cloud: Lab, guest: Guest) -> str:
    """The type that was recorded when the guest was made."""
    files = [word for name in MANAGE_FILES for word in ("--config-file", str(cloud.installation.state / name))]
    words = [sys.executable, "-m", "tools.manage.main", *files, "libvirt", "get_machine_type", guest.uuid]
    return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()


def test_a_guest_sees_its_processor_ports_bus_and_random_numbers(cloud: Lab) -> None:
    image = cloud.upload("on-scsi", build(CACHE).disk.read_bytes(), "qcow2", hw_disk_bus="scsi")
    name = flavor(cloud, 2, hw_cpu_sockets="1", hw_cpu_cores="2", hw_serial_port_count="2",
                  hw_vif_multiqueue_enabled="true",
                  quota_disk_write_bytes_sec=str(KIB_A_SECOND * 1024))  # fmt: skip
    guest = cloud.boot("hardware", cloud.hosts[0], image=image, flavor=name)
    cloud.until_ready(guest)

    processors = cloud.ssh(guest, "grep -E '^(physical id|cpu cores|processor)' /proc/cpuinfo")
    assert [line.split(":")[1].strip() for line in processors.splitlines()] == ["0", "0", "2", "1", "0", "2"]
    ports = cloud.ssh(guest, "cat /proc/tty/driver/serial").splitlines()
    assert [line.split(":")[0] for line in ports if "uart:16550A" in line] == ["0", "1"]
    assert "virtio_rng" in cloud.ssh(guest, "cat /sys/class/misc/hw_random/rng_available")
    assert cloud.ssh(guest, "ls /sys/block").split().count("sda") == 1
    assert "vda" not in cloud.ssh(guest, "ls /sys/block")
    assert cloud.ssh(guest, "ls -d /sys/class/net/eth0/queues/rx-*").split()[1:], "the card has one queue"
    assert machine_type(cloud, guest) == "pc"

    write = f"dd if=/dev/zero of=/dev/sda bs=1k count={WRITTEN_KIB} seek=500000 conv=notrunc,fsync 2>/dev/null"
    begun, ended = cloud.ssh(guest, f"cat /proc/uptime; {write}; cat /proc/uptime").splitlines()
    passed = float(ended.split()[0]) - float(begun.split()[0])
    assert passed >= WRITTEN_KIB / KIB_A_SECOND - BURST_SECONDS, f"{WRITTEN_KIB} KiB were written in {passed} s"
    cloud.ask("DELETE", f"/servers/{guest.uuid}")
    cloud.ask("DELETE", f"/v2/images/{image}", service="image")


def test_a_guest_that_hangs_is_reset(cloud: Lab) -> None:
    guest = cloud.boot("hangs", cloud.hosts[0], flavor=flavor(cloud, hw_watchdog_action="reset"))
    cloud.until_ready(guest)
    cloud.ssh(guest, f"(sleep 1\n{HANG}) >/dev/null 2>&1 &")
    cloud.until_ready(guest, times=2)
    assert cloud.server(guest)["status"] == "ACTIVE"


def test_limits_that_a_host_cannot_keep_get_none(cloud: Lab) -> None:
    """Private hosts have no control groups for their guests."""
    guest = cloud.boot("limited", cloud.hosts[0], flavor=flavor(cloud, quota_cpu_quota="20000"))

    def refused() -> bool | Unmet:
        shown = cloud.server(guest)
        return shown["status"] == "ERROR" or Unmet(shown["status"])

    cloud.installation.until(refused)
    shown = cloud.server(guest)
    assert shown["fault"]["message"] == "No valid host was found."
    assert "cannot limit the processor time of its guests" in shown["fault"]["details"]
