"""Interfaces that come and go while guests run, as the guests see them."""

from __future__ import annotations

import json

import pytest

from tests.faults.installation import Unmet
from tests.lab.lab import Guest, Lab

pytestmark = [pytest.mark.real, pytest.mark.faults, pytest.mark.timeout(900)]
DATA = "timeout 30 wget -q -O - http://169.254.169.254/openstack/latest/network_data.json"


def cards(cloud: Lab, guest: Guest) -> set[str]:
    """The MAC addresses that the guest finds on its bus."""
    return set(cloud.ssh(guest, "cat /sys/class/net/eth*/address").split())


def described(cloud: Lab, guest: Guest) -> set[str]:
    """The MAC addresses of which the guest's metadata tell."""
    return {link["ethernet_mac_address"] for link in json.loads(cloud.ssh(guest, DATA))["links"]}


def test_a_guest_gets_and_gives_back_interfaces_while_it_runs(cloud: Lab) -> None:
    guest = cloud.boot("plugged", cloud.hosts[0])
    cloud.until_ready(guest)
    path = f"/servers/{guest.uuid}/os-interface"
    (own,) = cloud.ask("GET", path)["interfaceAttachments"]
    request = {"interfaceAttachment": {"net_id": own["net_id"]}}
    for _ in range(2):
        made = cloud.ask("POST", path, request)["interfaceAttachment"]
        both = {own["mac_addr"], made["mac_addr"]}
        assert cloud.until_done(guest, "attach_interface") == ""
        cloud.installation.until(lambda both=both: cards(cloud, guest) == both or Unmet("the guest does not see it"))
        assert described(cloud, guest) == both
        cloud.ask("DELETE", f"{path}/{made['port_id']}")
        assert cloud.until_done(guest, "detach_interface") == ""
        assert cards(cloud, guest) == {own["mac_addr"]}
        assert described(cloud, guest) == {own["mac_addr"]}
        assert len(cloud.taps(guest.host)) == 1
