"""What guests see: addresses, each other, and nothing that they may not."""

from __future__ import annotations

import contextlib
import hmac
import os
import signal
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from cell_service.errors import WiringFailed
from tests.real.databases import wait_until
from tests.wiring import frames
from tests.wiring.conftest import Guest, Lab
from tests.wiring.frames import arrives, connected
from tools.companions.network.wiring.namespaces import ProcessNamespace

pytestmark = pytest.mark.real


def pids_of(lab: Lab) -> list[int]:
    """The dnsmasq processes of the companion."""
    mine = f"--pid-file={lab.state}".encode()
    return [int(path.parent.name) for path in Path("/proc").glob("[0-9]*/cmdline") if mine in content(path)]


def content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def answering(seen: list[dict[str, str]]) -> ThreadingHTTPServer:
    """A metadata service that writes down who asks."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(dict(self.headers))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(f"answered {self.path}".encode())

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


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


def test_groups_close_and_open_at_once_and_what_is_established_survives(lab: Lab) -> None:
    lab.host("h1")
    lab.host("h2")
    network = lab.network()
    closed = lab.ask("POST", "security-groups", security_group={"name": "closed"})
    one = lab.started(network, "h1", security_groups=[closed["id"]])
    same, other = lab.started(network, "h1"), lab.started(network, "h2")
    assert same.reaches(other.address)  # the default group lets its own in
    assert other.reaches(same.address)
    assert one.reaches(same.address) is False  # not a member
    assert same.reaches(one.address) is False
    assert one.reaches("10.9.0.1")  # answers come back
    rule = lab.allow(one.port, protocol="icmp", remote_ip_prefix=f"{same.address}/32")
    wait_until(lambda: same.reaches(one.address), "the rule does not open")
    assert other.reaches(one.address) is False
    lab.ask("DELETE", f"security-group-rules/{rule['id']}")
    wait_until(lambda: not same.reaches(one.address), "the rule does not close")


def test_a_connection_ends_with_its_rule_and_others_go_on(lab: Lab) -> None:
    lab.host("h1")
    lab.host("h2")
    network = lab.network()
    group = lab.ask("POST", "security-groups", security_group={"name": "served"})
    served = lab.started(network, "h1", security_groups=[group["id"]])
    near, far = lab.started(network, "h1"), lab.started(network, "h2")
    ways = ((near, served), (far, served), (served, near))
    rules = [
        lab.allow(there.port, protocol="tcp", port_range_min=4000, port_range_max=4002,
                  remote_ip_prefix=f"{caller.address}/32")
        for caller, there in ways
    ]  # fmt: skip
    with contextlib.ExitStack() as stack:
        near_line, far_line, own_line = (
            stack.enter_context(connected(caller, there, 4000 + number)) for number, (caller, there) in enumerate(ways)
        )
        assert all(line.carries() for line in (near_line, far_line, own_line))
        lab.ask("DELETE", f"security-group-rules/{rules[1]['id']}")
        wait_until(lambda: not far_line.carries(0.5), "the connection does not end")
        assert far_line.carries(1) is False
        assert near_line.carries()
        assert own_line.carries()


def test_a_guest_sends_only_as_itself(lab: Lab) -> None:
    lab.host()
    network = lab.network()
    bad, peer = lab.started(network), lab.started(network)
    assert bad.reaches(peer.address)
    bad.run("ip", "address", "add", "10.9.0.77/24", "dev", "eth0")
    assert bad.run("busybox", "ping", "-c", "1", "-W", "1", "-I", "10.9.0.77", peer.address, check=False).count(
        "0 packets received"
    )
    mac = "fa:16:3e:99:99:99"
    assert arrives(frames.arp(bad, bad.address), bad, peer)
    assert not arrives(frames.arp(bad, "10.9.0.1"), bad, peer)
    assert not arrives(frames.arp(bad, bad.address, mac=mac), bad, peer)
    assert not arrives(frames.arp(bad, bad.address, claimed=mac), bad, peer)
    assert not arrives(frames.tagged(bad), bad, peer)
    assert arrives(frames.udp(bad, bad.address, sport=1067, dport=1068), bad, peer)
    assert not arrives(frames.udp(bad, bad.address, sport=67, dport=68), bad, peer)
    assert not arrives(frames.udp(bad, "10.9.0.1", sport=1067, dport=1068), bad, peer)
    assert not arrives(frames.router_advertisement(bad), bad, peer)
    lab.ask("PUT", f"ports/{bad.port['id']}", port={"allowed_address_pairs": [{"ip_address": "10.9.0.77"}]})
    command = ("busybox", "ping", "-c", "1", "-W", "1", "-I", "10.9.0.77", peer.address)
    wait_until(lambda: "1 packets received" in bad.run(*command, check=False), "the pair is not allowed")


def test_a_tap_without_a_port_here_passes_nothing(lab: Lab) -> None:
    host = lab.host()
    network = lab.network()
    guest = lab.started(network)
    lab.ask("DELETE", f"ports/{guest.port['id']}")
    wait_until(lambda: lab.links() == set(), "something is left")
    assert "polycell" in host.namespace.run(("nft", "list", "ruleset"))
    wait_until(lambda: "pc-" not in host.namespace.run(("iptables-save",)), "chains are left")


def test_two_networks_with_the_same_addresses_do_not_mix(lab: Lab) -> None:
    lab.host()
    first, second = lab.network(), lab.network()
    guests = [lab.started(network) for network in (first, second)]
    assert guests[0].address == guests[1].address
    peer = lab.started(first)
    assert peer.reaches(guests[0].address)
    assert guests[1].reaches(peer.address) is False


def test_dnsmasq_and_the_namespace_come_back(lab: Lab) -> None:
    lab.host()
    network = lab.network()
    guest = lab.started(network)
    [first] = pids_of(lab)
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: pids_of(lab) not in ([first], []), "no other dnsmasq")
    guest.run("ip", "address", "flush", "dev", "eth0")
    assert guest.dhcp() == guest.address
    lab.companion.drain(2)
    assert pids_of(lab) == []
    wait_until(lambda: not any(name.startswith("veq") for name in lab.links()), "the uplink is left")
    lab.restart()
    wait_until(lambda: guest.reaches("10.9.0.1"), "a living host is not wired again")


def test_metadata_is_asked_for_whom_the_address_belongs_to(lab: Lab) -> None:
    lab.companion.drain(2)
    seen: list[dict[str, str]] = []
    service = answering(seen)
    lab.settings = replace(lab.settings, metadata_url=f"http://127.0.0.1:{service.server_port}", secret="s3cret")
    lab.restart()
    lab.host()
    network = lab.network()
    guest = lab.started(network)
    requested = (
        "busybox",
        "wget",
        "-q",
        "-O",
        "-",
        "--header",
        "X-Instance-ID: other",
        "http://169.254.169.254/latest/x",
    )
    assert guest.run(*requested) == "answered /latest/x"
    [headers] = seen
    device = guest.port["device_id"]
    assert headers["X-Forwarded-For"] == guest.address
    assert (headers["X-Instance-ID"], headers["X-Tenant-ID"]) == (device, "p1")
    assert headers["X-Instance-ID-Signature"] == hmac.new(b"s3cret", device.encode(), "sha256").hexdigest()
    lab.ask("PUT", f"ports/{guest.port['id']}", port={"device_owner": "", "device_id": ""})
    assert "404" in guest.run("sh", "-c", f"{' '.join(requested[:5])} http://169.254.169.254/ 2>&1", check=False)
    assert len(seen) == 1
    service.shutdown()
    service.server_close()


def test_a_binding_that_cannot_be_made_real_has_failed(lab: Lab) -> None:
    host = lab.host()
    network = lab.network()
    lab.port(network)
    name = f"brq{network['id'][:11]}"
    in_its_place = ("link", "add", name, "type", "veth", "peer", "name", "x")
    wait_until(lambda: replaced(host, ("link", "delete", name), in_its_place), "the bridge stays")
    port = lab.port(network)
    assert (port["binding:vif_type"], port["status"]) == ("binding_failed", "DOWN")
    host.namespace.run(("ip", "link", "delete", "x"))
    again = lab.ask("PUT", f"ports/{port['id']}", port={"name": "again"})
    assert again["binding:vif_type"] == "bridge"
    assert lab.guest(again).dhcp()


def test_a_bridge_that_was_removed_is_made_again_with_all_that_was_in_it(lab: Lab) -> None:
    host = lab.host()
    network = lab.network()
    one, other = (lab.guest(lab.port(network)) for _ in range(2))
    assert one.dhcp()
    assert other.dhcp()
    host.namespace.run(("ip", "link", "delete", f"brq{network['id'][:11]}"))
    wait_until(lambda: one.reaches(other.address), "guests are cut off")


def replaced(host: Any, *steps: tuple[str, ...]) -> bool:
    """Whether all of it went through, at once; the wiring may have been faster."""
    try:
        host.namespace.batch(steps)
    except WiringFailed:
        return False
    return True


def test_version_six_by_router_advertisements(lab: Lab) -> None:
    lab.host()
    network = lab.network("fd00:9::/64", ipv6_ra_mode="slaac", ipv6_address_mode="slaac")
    one, other = (lab.guest(lab.port(network)) for _ in range(2))
    for guest in (one, other):
        wait_until(lambda g=guest: f"{g.address}/64" in g.own_namespace.namespace.addresses("eth0"), "no address")  # type: ignore[misc]
    wait_until(lambda: one.reaches("fd00:9::1"), "the gateway is not reached")
    wait_until(lambda: one.reaches(other.address), "a member of the same group is not reached")
    lab.ask("PUT", f"ports/{other.port['id']}", port={"security_groups": []})
    wait_until(lambda: not one.reaches(other.address), "a port without groups is open")


def test_a_port_without_security_is_free(lab: Lab) -> None:
    lab.host()
    network = lab.network()
    free, peer = lab.started(network, port_security_enabled=False), lab.started(network)
    assert arrives(frames.arp(free, "10.9.0.99"), free, peer)
    assert peer.reaches(free.address)


def test_a_guest_that_moves_is_wired_on_both_hosts(lab: Lab) -> None:
    lab.host("h1")
    lab.host("h2")
    network = lab.network()
    port = lab.port(network)
    lab.ask("PUT", f"ports/{port['id']}", port={"binding:profile": {"migrating_to": "h2"}})
    assert port["binding:vif_details"]["bridge_name"] in lab.links("h2")
    moved = lab.ask("PUT", f"ports/{port['id']}", port={"binding:host_id": "h2", "binding:profile": {}})
    assert moved["binding:vif_type"] == "bridge"
    assert lab.guest(moved, "h2").dhcp() == port["fixed_ips"][0]["ip_address"]
    wait_until(lambda: lab.links("h1") == set(), "something is left on the first host")


def has_vlans(host: ProcessNamespace) -> bool:
    try:
        vlan = ("type", "vlan", "id", "1")
        host.namespace.batch((("link", "add", "link", "lo", "name", "try", *vlan), ("link", "delete", "try")))
    except WiringFailed:
        return False
    return True


def in_vlan(guest: Guest, subport: Any, vlan: int) -> Guest:
    """The guest as it is on the subport's network: a link of its own for the VLAN, with the subport's addresses."""
    mac, address = subport["mac_address"], subport["fixed_ips"][0]["ip_address"]
    guest.run("ip", "link", "add", "link", "eth0", "name", "inside", "address", mac, "type", "vlan", "id", str(vlan))
    guest.run("ip", "address", "add", f"{address}/24", "dev", "inside")
    guest.run("ip", "link", "set", "inside", "up")
    return replace(guest, port=subport)


def trunked(lab: Lab, outer: Any, inner: Any) -> tuple[Guest, Any, str]:
    """A guest on a trunk's parent, the subport, and the trunk."""
    subport = lab.ask("POST", "ports", port={"network_id": inner["id"]})
    parent = lab.ask("POST", "ports", port={"network_id": outer["id"]})
    segment = {"port_id": subport["id"], "segmentation_type": "vlan", "segmentation_id": 101}
    trunk = lab.ask("POST", "trunks", trunk={"port_id": parent["id"], "sub_ports": [segment]})
    bound = {"binding:host_id": "h1", "device_id": "a-server", "device_owner": "compute:nova"}
    guest = lab.guest(lab.ask("PUT", f"ports/{parent['id']}", port=bound))
    assert guest.dhcp() == guest.address
    return guest, subport, trunk["id"]


def test_a_trunk_is_degraded_where_the_kernel_has_no_vlans(lab: Lab) -> None:
    """Its parent is as any port, and no subport claims to be active."""
    if has_vlans(lab.host("h1")):
        pytest.skip("this kernel has VLANs")
    guest, subport, trunk = trunked(lab, lab.network(), lab.network("10.19.0.0/24"))
    wait_until(lambda: lab.ask("GET", f"trunks/{trunk}")["status"] == "DEGRADED", "never degraded")
    assert guest.reaches("10.9.0.1")
    shown = lab.ask("GET", f"ports/{subport['id']}")
    assert (shown["status"], shown["binding:host_id"]) == ("DOWN", "h1")


def test_a_subport_of_a_trunk_is_on_its_own_network(lab: Lab) -> None:
    if not has_vlans(lab.host("h1")):
        pytest.skip("this kernel has no VLANs")
    lab.host("h2")
    outer, inner = lab.network(), lab.network("10.19.0.0/24")
    guest, subport, trunk = trunked(lab, outer, inner)
    segment = {"port_id": subport["id"], "segmentation_type": "vlan"}
    near, far = lab.started(inner, "h1"), lab.started(inner, "h2")
    wait_until(lambda: lab.ask("GET", f"trunks/{trunk}")["status"] == "ACTIVE", "never active")
    inside = in_vlan(guest, subport, 101)
    for other in (near, far):
        assert inside.reaches(other.address)
        assert other.reaches(inside.address)
    guest.run("ip", "link", "set", "inside", "address", "fa:16:3e:99:99:99")
    assert not inside.reaches(near.address)  # as from any port: its own addresses only
    guest.run("ip", "link", "set", "inside", "address", subport["mac_address"])
    lab.ask("PUT", f"ports/{subport['id']}", port={"security_groups": []})
    wait_until(lambda: not near.reaches(inside.address), "open without a group")
    gone = {"sub_ports": [{"port_id": subport["id"]}]}
    lab.send("PUT", f"trunks/{trunk}/remove_subports", gone)
    wait_until(lambda: f"tap{subport['id'][:11]}" not in lab.links(), "the link stays")
    assert not inside.reaches(near.address)
    assert lab.ask("GET", f"ports/{subport['id']}")["status"] == "DOWN"
    lab.send("PUT", f"trunks/{trunk}/add_subports", {"sub_ports": [{**segment, "segmentation_id": 102}]})
    wait_until(lambda: lab.ask("GET", f"trunks/{trunk}")["status"] == "ACTIVE", "never active again")
    guest.run("ip", "link", "delete", "inside")
    assert in_vlan(guest, subport, 102).reaches(far.address)


def test_a_policy_limits_what_a_guest_sends_and_gets_and_marks_it(lab: Lab) -> None:
    """Also one that is given, or changed, while the guest runs."""
    lab.host()
    network = lab.network()
    one, other = lab.started(network), lab.started(network)
    policy = lab.ask("POST", "qos/policies", policy={"name": "p"})
    rules = f"qos/policies/{policy['id']}"
    lab.ask("PUT", f"ports/{one.port['id']}", port={"qos_policy_id": policy["id"]})
    assert (one.reaches(other.address), frames.first_byte_of_service(one, other)) == (True, 0)
    lab.ask("POST", f"{rules}/dscp_marking_rules", dscp_marking_rule={"dscp_mark": 26})
    wait_until(lambda: frames.first_byte_of_service(one, other) == 26 << 2, "not marked")
    assert frames.first_byte_of_service(other, one) == 0
    for direction in ("egress", "ingress"):
        limit = {"max_kbps": 1, "max_burst_kbps": 1, "direction": direction}
        made = lab.ask("POST", f"{rules}/bandwidth_limit_rules", bandwidth_limit_rule=limit)
        large = ("busybox", "ping", "-c", "1", "-W", "1", "-s", "1000", other.address)
        wait_until(lambda large=large: "1 packets received" not in one.run(*large, check=False), "not limited")
        lab.ask("DELETE", f"{rules}/bandwidth_limit_rules/{made['id']}")
        wait_until(lambda large=large: "1 packets received" in one.run(*large, check=False), "still limited")
    most = {"max_kbps": 2**31 - 1, "max_burst_kbps": 2**31 - 1}
    lab.ask("POST", f"{rules}/bandwidth_limit_rules", bandwidth_limit_rule=most)
    assert lab.started(network, qos_policy_id=policy["id"]).reaches(other.address)
