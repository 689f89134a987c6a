"""One dnsmasq for a network: its files, made from the plan, and its process."""

from __future__ import annotations

import contextlib
import signal
import subprocess
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from tools.companions.network.addresses import AUTOMATIC
from tools.companions.network.ports import DHCP_PORT
from tools.companions.network.wiring.namespaces import Namespace, end, spawn
from tools.companions.network.wiring.plan import NetworkPlan, SubnetPlan

LEASE_SECONDS = 86400
METADATA = "169.254.169.254"


def wanted(network: NetworkPlan) -> bool:
    """Whether the network's guests need a DHCP server: for addresses, or for routers."""
    return any(subnet.dhcp or subnet.ra_mode for subnet in network.subnets)


def arguments(network: NetworkPlan, directory: Path) -> list[str]:
    """dnsmasq's arguments, but for the files that it reads again by itself."""
    ranges = []
    for number, subnet in enumerate(network.subnets):
        if (text := _range(number, subnet)) is not None:
            ranges.append(f"--dhcp-range={text}")
    return [
        "dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--user=root", "--group=root", "--port=0",
        "--interface=br0", "--bind-dynamic", "--dhcp-authoritative", "--log-facility=-", "--no-ping",
        f"--dhcp-lease-max={max(1000, len(network.ports) * 2)}",
        f"--pid-file={directory / 'pid'}", f"--dhcp-leasefile={directory / 'leases'}",
        f"--dhcp-hostsfile={directory / 'hosts'}", f"--dhcp-optsfile={directory / 'options'}",
        *(["--enable-ra"] if any(subnet.ra_mode for subnet in network.subnets) else []),
        *ranges,
    ]  # fmt: skip


def _range(number: int, subnet: SubnetPlan) -> str | None:
    net = subnet.net
    if net.version == 4:
        return f"set:s{number},{net[0]},static,{net.netmask},{LEASE_SECONDS}s" if subnet.dhcp else None
    if net.prefixlen < 64:
        return None
    match subnet.ra_mode, subnet.address_mode:
        case "slaac" | "dhcpv6-stateless" as mode, _:
            return f"set:s{number},{net[0]},{'ra-only' if mode == 'slaac' else 'ra-stateless'},{net.prefixlen}"
        case _ if subnet.dhcp and subnet.address_mode not in AUTOMATIC:
            return f"set:s{number},{net[0]},static,{net.prefixlen},{LEASE_SECONDS}s"
    return None


def hosts_text(network: NetworkPlan) -> str:
    """The address for each MAC; other MACs get none."""
    served = {subnet.id for subnet in network.subnets if subnet.dhcp}
    lines, seen = [], set()
    for port in network.ports:
        if port.device_owner == DHCP_PORT or not port.up:
            continue
        for one in port.fixed:
            version = one.address.version
            if one.subnet_id not in served or (port.mac, one.subnet_id) in seen:
                continue
            seen.add((port.mac, one.subnet_id))
            name = port.hostname or "host-" + one.text.replace(".", "-").replace(":", "-")
            lines.append(f"{port.mac},{one.text if version == 4 else f'[{one.text}]'},{name}")
    return "".join(f"{line}\n" for line in lines)


def options_text(network: NetworkPlan) -> str:
    """Routers, routes, name servers and MTU, by subnet. Without a router, one is given for metadata alone."""
    lines = []
    server = network.dhcp_port
    for number, subnet in enumerate(network.subnets):
        if not subnet.dhcp:
            continue
        tag = f"tag:s{number}"
        if subnet.net.version == 6:
            if subnet.dns:
                lines.append(f"{tag},option6:dns-server,{','.join(f'[{one}]' for one in subnet.dns)}")
            continue
        here = next(
            (one.text for one in (server.fixed if server else ()) if one.subnet_id == subnet.id), subnet.gateway
        )
        routes = [route for route in subnet.routes if ip_address(route[1]).version == 4]
        if here is not None and all(route[0] != f"{METADATA}/32" for route in routes):
            routes.insert(0, (f"{METADATA}/32", here))
        if subnet.gateway:
            lines.append(f"{tag},option:router,{subnet.gateway}")
            routes.append(("0.0.0.0/0", subnet.gateway))
        else:
            lines.append(f"{tag},option:router")
        if routes:
            text = ",".join(f"{destination},{hop}" for destination, hop in routes)
            lines.append(f"{tag},option:classless-static-route,{text}")
        dns = [one for one in subnet.dns if ip_address(one).version == 4]
        lines.append(f"{tag},option:dns-server" + (f",{','.join(dns)}" if dns else ""))
        lines.append(f"{tag},option:mtu,{network.mtu}")
    return "".join(f"{line}\n" for line in lines)


@dataclass(slots=True)
class Dhcp:
    """The dnsmasq of a network, in that network's namespace."""

    directory: Path
    namespace: Namespace
    _child: subprocess.Popen[bytes] | None = None
    _arguments: tuple[str, ...] = ()
    _hosts: str = ""
    _options: str = ""

    @property
    def pid(self) -> int | None:
        return None if self._child is None or self._child.poll() is not None else self._child.pid

    def make(self, network: NetworkPlan) -> None:
        """Run the server as the plan says. Where an address has changed its owner, the old lease is forgotten."""
        if not wanted(network):
            self.close()
            return
        given, hosts, options = tuple(arguments(network, self.directory)), hosts_text(network), options_text(network)
        if (given, hosts, options) == (self._arguments, self._hosts, self._options) and self.pid is not None:
            return
        lost = set(self._hosts.splitlines()) - set(hosts.splitlines())
        if self.pid is None or given != self._arguments or lost:
            self.close()
        self.directory.mkdir(parents=True, exist_ok=True)
        (self.directory / "hosts").write_text(hosts, encoding="ascii")
        (self.directory / "options").write_text(options, encoding="ascii")
        if self.pid is None:
            self._forget(hosts)
            self._start(given)
        elif self._child is not None:
            self._child.send_signal(signal.SIGHUP)
        self._arguments, self._hosts, self._options = given, hosts, options

    def _start(self, given: tuple[str, ...]) -> None:
        with self.namespace.opened() as fd, (self.directory / "log").open("wb") as log:
            command = ("nsenter", f"--net=/proc/self/fd/{fd}", *given)
            self._child = spawn(command, (fd,), log.fileno())

    def _forget(self, hosts: str) -> None:
        """Drop the leases that aren't the plan's from the file."""
        owners = {(line.split(",")[0], line.split(",")[1]) for line in hosts.splitlines()}
        path = self.directory / "leases"
        with contextlib.suppress(FileNotFoundError):
            lines = path.read_text(encoding="ascii", errors="replace").splitlines()
            kept = [line for line in lines if tuple(line.split()[1:3]) in owners]
            path.write_text("".join(f"{line}\n" for line in kept), encoding="ascii")

    def close(self) -> None:
        """End the server, and wait for its end."""
        if self._child is not None:
            end(self._child)
            self._child = None
