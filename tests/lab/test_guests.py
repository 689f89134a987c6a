"""What users see of real guests, told by the guests themselves."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.clients.installed import Installed
from tests.faults.installation import Unmet
from tests.lab.lab import Guest, Lab

pytestmark = [pytest.mark.real, pytest.mark.faults, pytest.mark.timeout(900)]

SCRIPT = b"#!/bin/sh\necho POLYCELL-USER-DATA-RAN on $(hostname)\n"


def test_guests_of_both_cells_have_their_addresses_keys_user_data_and_metadata(cloud: Lab) -> None:
    guests = [
        cloud.boot(f"web{number}", host, user_data=SCRIPT, metadata={"role": "web", "odd": "<&\"'>"})
        for number, host in enumerate(cloud.hosts, 1)
    ]
    for guest in guests:
        shown = cloud.until_status(guest, "ACTIVE")
        assert shown["OS-EXT-SRV-ATTR:host"] == guest.host
        assert cloud.until_ready(guest) == cloud.address(guest)
        assert cloud.until_said(guest, r"POLYCELL-USER-DATA-RAN on (\S+)").group(1).startswith(guest.name)
    first, second = guests
    assert cloud.ssh(first, "hostname").strip().startswith(first.name)
    seen = cloud.ssh(first, "timeout 5 wget -q -O - http://169.254.169.254/openstack/latest/meta_data.json")
    assert f'"uuid": "{first.uuid}"' in seen.replace('":"', '": "')
    assert '"role"' in seen
    assert "0% packet loss" in cloud.ssh(first, f"ping -c 2 -W 5 {cloud.address(second)}")


def counts_on(cloud: Lab, guest: Guest, counted: int) -> int:
    """The counter in the guest's memory, which is not less than it was, and grows."""
    kept = cloud.count(guest)
    assert kept >= counted, "the guest's memory was lost"

    def grown() -> int | Unmet:
        now = cloud.count(guest)
        return now if now > kept else Unmet("the guest stands still")

    return int(cloud.installation.until(grown))


def test_power_verbs_reach_the_guest(cloud: Lab) -> None:
    guest = cloud.boot("verbs", cloud.hosts[0])
    cloud.until_status(guest, "ACTIVE")
    cloud.until_ready(guest)
    counted = cloud.count(guest)
    for there, back, status in (("pause", "unpause", "PAUSED"), ("suspend", "resume", "SUSPENDED")):
        cloud.act(guest, there)
        cloud.until_status(guest, status)
        cloud.act(guest, back)
        cloud.until_status(guest, "ACTIVE")
        counted = counts_on(cloud, guest, counted)
    cloud.act(guest, "os-stop")
    cloud.until_status(guest, "SHUTOFF")
    assert cloud.domains(guest.host) == {guest.uuid: False}
    cloud.act(guest, "os-start")
    cloud.until_status(guest, "ACTIVE")
    cloud.until_ready(guest, times=2)
    cloud.act(guest, "reboot", {"type": "SOFT"})
    cloud.until_status(guest, "ACTIVE")
    cloud.until_ready(guest, times=3)
    cloud.act(guest, "reboot", {"type": "HARD"})
    cloud.until_status(guest, "ACTIVE")
    assert cloud.until_ready(guest, times=4) == cloud.address(guest)


def test_kernel_images_firmware_and_config_drives(cloud: Lab) -> None:
    kernel = cloud.boot("kernel", cloud.hosts[0], image="polycell-guest-uec", config_drive=True, user_data=SCRIPT)
    ready = cloud.until_ready(kernel)
    assert ready == cloud.address(kernel)
    cloud.until_said(kernel, r"POLYCELL-GUEST config_drive=yes")
    assert cloud.ssh(kernel, "findfs LABEL=config-2").startswith("/dev/")
    assert cloud.server(kernel)["config_drive"] == "True"


def test_a_session_with_the_stock_client(cloud: Lab, tmp_path: Path) -> None:
    client = Installed(cloud.installation.state)
    script = tmp_path / "hello.sh"
    script.write_bytes(SCRIPT)
    made = client.openstack(
        "server", "create", "--flavor", "m1.micro", "--image", "polycell-guest", "--network", "private",
        "--key-name", "lab", "--user-data", str(script), "--wait", "session",
    )  # fmt: skip
    assert made["status"] == "ACTIVE"
    guest = Guest(made["id"], "session", made["OS-EXT-SRV-ATTR:host"])
    (address,) = client.server("session", "addresses")["private"]
    assert cloud.until_ready(guest) == address
    assert "POLYCELL-USER-DATA-RAN" in client.openstack("console", "log", "show", "session")
    assert cloud.ssh(guest, "hostname").strip() == "session"
    client.openstack("server", "delete", "--wait", "session", "#")


def test_a_guest_that_shuts_itself_down_is_shown_so(cloud: Lab) -> None:
    guest = cloud.boot("leaves", cloud.hosts[1])
    cloud.until_ready(guest)
    cloud.ssh(guest, "(sleep 1; poweroff -f) >/dev/null 2>&1 &")
    cloud.until_status(guest, "SHUTOFF")
