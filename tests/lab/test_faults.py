"""Hosts on which something dies, and images that lie: nothing is left, nothing is lost, the host goes on."""

from __future__ import annotations

import os
import signal
import struct
from collections.abc import Callable

import pytest

from tests.faults.installation import Unmet
from tests.lab.lab import Guest, Lab
from tools.up.tiny_image import tiny_qcow2

pytestmark = [pytest.mark.real, pytest.mark.faults, pytest.mark.timeout(900)]


def with_backing_file() -> bytes:
    image = bytearray(tiny_qcow2())
    name = b"/etc/passwd"
    struct.pack_into(">QI", image, 8, 1024, len(name))
    image[1024 : 1024 + len(name)] = name
    return bytes(image)


LIARS = {
    "a backing file": (with_backing_file, "qcow2"),
    "no qcow2 at all": (lambda: b"MZ" * 4096, "qcow2"),
    "a qcow2 that claims to be raw": (tiny_qcow2, "raw"),
}


def test_images_that_lie_are_refused_with_the_reason_and_leave_nothing(cloud: Lab) -> None:
    guests = {
        what: cloud.boot("liar", cloud.hosts[0], image=cloud.upload(what, make(), disk_format))
        for what, (make, disk_format) in LIARS.items()
    }
    for what, guest in guests.items():
        shown = cloud.until_status(guest, "ERROR")
        assert "unacceptable" in shown["fault"]["message"].lower(), (what, shown["fault"])
    assert cloud.directories(cloud.hosts[0]) == []
    assert cloud.domains(cloud.hosts[0]) == {}
    cloud.installation.until_healthy()


def has_files(cloud: Lab, guest: Guest) -> bool:
    return guest.uuid in cloud.directories(guest.host)


def has_domain(cloud: Lab, guest: Guest) -> bool:
    return guest.uuid in cloud.domains(guest.host)


def kill_agent(cloud: Lab, host: str) -> None:
    cloud.installation.kill("compute", host=host)


def kill_libvirtd(cloud: Lab, host: str) -> None:
    os.kill(cloud.libvirtd(host), signal.SIGKILL)


@pytest.mark.parametrize("kill", [kill_agent, kill_libvirtd])
@pytest.mark.parametrize("moment", [has_files, has_domain])
def test_whoever_dies_during_a_spawn_there_is_a_whole_guest_or_none_and_a_reason(
    cloud: Lab, kill: Callable[[Lab, str], None], moment: Callable[[Lab, Guest], bool]
) -> None:
    guest = cloud.boot("survivor", cloud.hosts[0])
    cloud.installation.until(lambda: moment(cloud, guest) or Unmet(cloud.server(guest)))
    kill(cloud, guest.host)

    def ended() -> str | Unmet:
        shown = cloud.server(guest)
        return shown["status"] if shown["status"] in ("ACTIVE", "ERROR") else Unmet(shown["status"])

    status = cloud.installation.until(ended, 120)
    cloud.installation.until_healthy()
    if status == "ACTIVE":
        assert cloud.domains(guest.host) == {guest.uuid: True}
        assert has_files(cloud, guest)
    else:
        assert cloud.server(guest)["fault"]["message"]
        cloud.installation.until(lambda: not (left := cloud.left_on(guest.host)) or Unmet(left), 400)


@pytest.mark.parametrize("kill", [kill_agent, kill_libvirtd])
def test_whoever_dies_during_a_delete_nothing_is_left(cloud: Lab, kill: Callable[[Lab, str], None]) -> None:
    guest = cloud.boot("goes", cloud.hosts[1])
    cloud.until_status(guest, "ACTIVE")
    cloud.ask("DELETE", f"/servers/{guest.uuid}")
    kill(cloud, guest.host)
    cloud.demand_nothing()


def test_after_a_power_cut_the_guests_that_ran_run_again(cloud: Lab) -> None:
    ran, off = cloud.boot("ran", cloud.hosts[0]), cloud.boot("off", cloud.hosts[0])
    cloud.until_status(ran, "ACTIVE")
    cloud.until_status(off, "ACTIVE")
    cloud.until_ready(ran)
    cloud.act(off, "os-stop")
    cloud.until_status(off, "SHUTOFF")
    before = cloud.private(ran.host).pid()
    cloud.installation.kill("hypervisor", host=ran.host)
    cloud.installation.until(lambda: cloud.private(ran.host).pid() not in (None, before) or Unmet("host is not back"))
    cloud.until_ready(ran, times=2)
    assert cloud.domains(ran.host) == {ran.uuid: True, off.uuid: False}
    cloud.installation.until_healthy()
    assert cloud.server(ran)["status"] == "ACTIVE"
    assert cloud.server(off)["status"] == "SHUTOFF"


def test_addresses_are_given_again_after_the_dhcp_server_was_killed(cloud: Lab) -> None:
    early = cloud.boot("early", cloud.hosts[0])
    cloud.until_ready(early)
    killed = cloud.dnsmasq()
    os.kill(killed, signal.SIGKILL)
    guest = cloud.boot("late", cloud.hosts[0])
    assert cloud.until_ready(guest) == cloud.address(guest)
    assert cloud.dnsmasq() != killed
