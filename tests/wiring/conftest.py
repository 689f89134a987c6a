"""A network companion that wires, with namespaces for hosts and namespaces with a veth for guests."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import requests

from api_cell.edge.auth import NoAuth
from tests.real.databases import wait_until
from tools.companions.app import Companion
from tools.companions.network.service import make_network
from tools.companions.network.wiring.namespaces import ProcessNamespace, start_ticks
from tools.companions.network.wiring.settings import WiringSettings

PROGRAMS = ("ip", "nft", "iptables-restore", "ip6tables-restore", "dnsmasq", "nsenter", "setpriv", "unshare", "busybox")
UDHCPC = """#!/bin/sh
[ "$1" = bound ] || exit 0
busybox ip address add $ip/$mask dev $interface
busybox ip link set $interface mtu ${mtu:-1500}
set -- $staticroutes
while [ $# -ge 2 ]; do busybox ip route add $1 via $2 dev $interface onlink; shift 2; done
"""


def requires() -> str:
    """What a test of real packets lacks here; empty when nothing."""
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if os.geteuid() != 0:
        return "real packets need root"
    return f"programs missing: {', '.join(missing)}" if missing else ""


@dataclass
class Guest:
    """A namespace whose `eth0` has its other end in a host, as a tap would be."""

    own_namespace: ProcessNamespace
    port: dict[str, Any]
    script: Path

    def run(self, *command: str, check: bool = True, seconds: float = 30) -> str:
        with self.own_namespace.namespace.opened() as fd:
            done = subprocess.run(
                ["nsenter", f"--net=/proc/self/fd/{fd}", *command],
                pass_fds=(fd,), text=True, capture_output=True, timeout=seconds, check=False,
            )  # fmt: skip
        if check:
            assert done.returncode == 0, (command, done.stdout, done.stderr)
        return done.stdout

    def dhcp(self, tries: int = 10) -> str:
        """The address that it gets, or nothing."""
        self.run("busybox", "udhcpc", "-i", "eth0", "-nqf", "-O", "mtu", "-O", "staticroutes", "-t", str(tries),
                 "-T", "1", "-s", str(self.script), check=False)  # fmt: skip
        found = [one.partition("/")[0] for one in self.own_namespace.namespace.addresses("eth0") if "." in one]
        return found[0] if found else ""

    def reaches(self, address: str) -> bool:
        return "1 packets received" in self.run("busybox", "ping", "-c", "1", "-W", "1", address, check=False)

    @property
    def address(self) -> str:
        return str(self.port["fixed_ips"][0]["ip_address"])


@dataclass
class Lab:
    """One companion over a directory, and hosts."""

    state: Path
    settings: WiringSettings
    companion: Companion
    hosts: dict[str, ProcessNamespace] = field(default_factory=dict)
    guests: list[Guest] = field(default_factory=list)

    def host(self, name: str = "h1") -> ProcessNamespace:
        own_namespace = self.hosts[name] = ProcessNamespace()
        pid = own_namespace.namespace.pid
        said = {"host": name, "pid": pid, "started": start_ticks(pid), "uri": "test"}
        draft = self.state / "draft.json"
        draft.write_text(json.dumps(said))
        draft.replace(Path(self.settings.hypervisors) / f"{name}.json")
        return own_namespace

    def ask(self, method: str, path: str, project: str = "p1", **body: Any) -> Any:
        said = self.send(method, path, body or None, project)
        return next(iter(said.values())) if said else None

    def send(self, method: str, path: str, body: Any = None, project: str = "p1") -> Any:
        """The answer's whole body."""
        headers = {"X-Auth-Token": f"admin:{project}"}
        url = f"{self.companion.url}/v2.0/{path}"
        answer = requests.request(method, url, json=body, headers=headers, timeout=60)
        assert answer.status_code < 300, (answer.status_code, answer.text)
        return answer.json() if answer.content else None

    def network(self, cidr: str = "10.9.0.0/24", **more: Any) -> Any:
        network = self.ask("POST", "networks", network={"name": "n", "mtu": 1450})
        subnet = {"network_id": network["id"], "cidr": cidr, "ip_version": 6 if ":" in cidr else 4, **more}
        self.ask("POST", "subnets", subnet=subnet)
        return network

    def port(self, network: Any, host: str = "h1", **more: Any) -> Any:
        given = {"network_id": network["id"], "binding:host_id": host, "device_id": str(uuid.uuid4()),
                 "device_owner": "compute:nova", **more}  # fmt: skip
        return self.ask("POST", "ports", port=given)

    def guest(self, port: Any, host: str = "h1") -> Guest:
        """Plugged in as the hypervisor does it."""
        guest = Guest(ProcessNamespace(), port, self.state / "udhcpc.sh")
        tap, there = f"tap{port['id'][:11]}", self.hosts[host].namespace
        with there.opened() as fd:
            pair = ("ip", "link", "add", "eth0", "address", port["mac_address"], "type", "veth", "peer", "name", tap)
            guest.own_namespace.namespace.run((*pair, "netns", f"/proc/self/fd/{fd}"), fds=(fd,))
        there.run(("ip", "link", "set", tap, "master", port["binding:vif_details"]["bridge_name"], "up"))
        guest.own_namespace.namespace.run(("ip", "link", "set", "eth0", "up"))
        self.guests.append(guest)
        return guest

    def started(self, network: Any, host: str = "h1", **more: Any) -> Guest:
        """A guest with its address."""
        guest = self.guest(self.port(network, host, **more), host)
        assert guest.dhcp() == guest.address
        return guest

    def links(self, host: str = "h1") -> set[str]:
        return {name for name in self.hosts[host].namespace.links() if name.startswith(("tap", "brq", "veq"))}

    def allow(self, port: Any, **rule: Any) -> Any:
        given = {"security_group_id": port["security_groups"][0], "direction": "ingress", **rule}
        return self.ask("POST", "security-group-rules", project=port["project_id"], security_group_rule=given)

    def restart(self) -> None:
        self.companion = started_companion(self.state, self.settings)

    def close(self) -> None:
        self.companion.drain(2)
        for own_namespace in (*(guest.own_namespace for guest in self.guests), *self.hosts.values()):
            own_namespace.close()


def started_companion(state: Path, settings: WiringSettings) -> Companion:
    companion = make_network(state / "data", NoAuth(), wiring_settings=settings)
    companion.start()
    return companion


@pytest.fixture
def settings(tmp_path: Path) -> WiringSettings:
    hypervisors = tmp_path / "hypervisors"
    hypervisors.mkdir()
    return WiringSettings(enabled=True, hypervisors=str(hypervisors), interval=0.3, name=f"t{uuid.uuid4().hex[:8]}")


@pytest.fixture
def lab(tmp_path: Path, settings: WiringSettings) -> Iterator[Lab]:
    if lacking := requires():
        pytest.skip(lacking)
    script = tmp_path / "udhcpc.sh"
    script.write_text(UDHCPC)
    script.chmod(0o755)
    made = Lab(tmp_path, settings, started_companion(tmp_path, settings))
    yield made
    made.close()


__all__ = ["Guest", "Lab", "wait_until"]
