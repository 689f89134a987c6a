"""What guests see: addresses, each other, and nothing that they may not."""

from __future__ import annotations

import pytest

from tests.real.databases import wait_until
from tests.wiring.conftest import Lab

pytestmark = pytest.mark.real


def test_a_guest_gets_the_address_of_its_port_and_becomes_active(lab: Lab) -> None:
    host = lab.host()
    network = lab.network()
    port = lab.port(network)
    assert (port["binding:vif_type"], port["status"]) == ("bridge", "DOWN")
    assert port["binding:vif_details"]["bridge_name"] in host.namespace.links()
    guest = lab.guest(port)
    assert guest.dhcp() == port["fixed_ips"][0]["ip_address"]
    assert guest.reaches("10.9.0.1")
    assert "mtu 1450" in guest.run("ip", "link", "show", "eth0")
    assert "169.254.169.254 via" in guest.run("ip", "route")
    wait_until(lambda: lab.ask("GET", f"ports/{port['id']}")["status"] == "ACTIVE", "never active")
