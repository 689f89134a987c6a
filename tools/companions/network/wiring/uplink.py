"""The way out: a pair of links from each network's namespace to the machine's own, with NAT and a route back.

All of it in the machine's namespace has this cloud's mark, and ends with this process: the links with the networks'
namespaces, the table with the `nft` that owns it. Only the forwarding switch stays after a kill, until the next start.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import subprocess
import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Network, ip_network
from pathlib import Path

from cell_service.errors import WiringFailed
from cell_service.logs import about
from tools.companions.network.wiring.namespaces import ProcessNamespace, end, run
from tools.companions.network.wiring.plan import NetworkPlan

log = logging.getLogger(__name__)
SHARED = IPv4Network("100.64.0.0/10")
INSIDE = "up0"
OWN_SECONDS = 5.0
_FORWARD = Path("/proc/sys/net/ipv4/ip_forward")


@dataclass(slots=True)
class Uplink:
    """`name`: of the cloud, so that two on one machine don't meet. `directory`: where is noted what to undo."""

    name: str
    directory: Path
    _owner: subprocess.Popen[str] | None = None
    _pairs: dict[str, IPv4Network] = field(default_factory=dict)

    @property
    def mark(self) -> str:
        return hashlib.sha256(self.name.encode()).hexdigest()[:4]

    @property
    def table(self) -> str:
        return f"polycell_{self.mark}"

    @property
    def space(self) -> IPv4Network:
        """The range from which this cloud's pairs have their addresses."""
        return IPv4Network((int(SHARED.network_address) + (int(self.mark, 16) % 1024 << 12), 20))

    def link(self, network_id: str) -> str:
        return f"pu{self.mark}-{network_id[:8]}"

    def sweep(self) -> None:
        """Remove what an earlier process left in the machine's namespace."""
        for link in json.loads(run(("ip", "-j", "link", "show")) or "[]"):
            if str(link["ifname"]).startswith(f"pu{self.mark}-"):
                with contextlib.suppress(WiringFailed):  # it may go by itself
                    run(("ip", "link", "delete", link["ifname"]))
        if (note := self._note).exists():
            _FORWARD.write_text("0", encoding="ascii")
            note.unlink()

    @property
    def _note(self) -> Path:
        return self.directory / "forwarding-was-off"

    def make(self, networks: Sequence[NetworkPlan], own_namespace: dict[str, ProcessNamespace]) -> dict[str, str]:
        """Make the way out of every network. Answers those that have none, by link, with why."""
        self._own()
        failed = {}
        for network_id in self._pairs.keys() - {network.id for network in networks}:
            del self._pairs[network_id]
        links = {link["ifname"] for link in json.loads(run(("ip", "-j", "link", "show")) or "[]")}
        for network in networks:
            try:
                if network.id in own_namespace:
                    if self.link(network.id) not in links:
                        self._connected(network, own_namespace[network.id])
                    self._route(network)
            except WiringFailed as error:
                failed[self.link(network.id)] = str(error)
        return failed

    def _own(self) -> None:
        """Make the table, owned by a child, and turn forwarding on."""
        if self._owner is not None and self._owner.poll() is None:
            return
        if _FORWARD.read_text(encoding="ascii").strip() == "0":
            self._note.touch()
            _FORWARD.write_text("1", encoding="ascii")
        ours = f'"pu{self.mark}-*"'
        lines = (
            f"add table ip {self.table} {{ flags owner; }}",
            f"add chain ip {self.table} out {{ type nat hook postrouting priority 100; }}",
            f"add rule ip {self.table} out ip saddr {self.space} oifname != {ours} masquerade",
            f"add chain ip {self.table} between {{ type filter hook forward priority 0; }}",
            f'add rule ip {self.table} between iifname {ours} oifname "pu*" drop',
            f"add chain ip {self.table} in {{ type filter hook input priority 0; }}",
            f"add rule ip {self.table} in iifname {ours} ct state established,related accept",
            f"add rule ip {self.table} in iifname {ours} ip protocol != icmp drop",
        )
        self._owner = subprocess.Popen(
            ("setpriv", "--pdeathsig", "KILL", "nft", "-i"), stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, text=True, start_new_session=True,
        )  # fmt: skip
        assert self._owner.stdin is not None
        self._owner.stdin.write("".join(f"{line}\n" for line in lines))
        self._owner.stdin.flush()
        until = time.monotonic() + OWN_SECONDS
        while "ip protocol" not in self._shown():
            if time.monotonic() > until or self._owner.poll() is not None:
                end(self._owner)
                raise WiringFailed(reason=f"table {self.table} can't be made")
            time.sleep(0.02)  # nft says nothing when it's done

    def _shown(self) -> str:
        try:
            return run(("nft", "list", "table", "ip", self.table))
        except WiringFailed:
            return ""

    def _pair(self, network_id: str) -> IPv4Network:
        pairs = list(self.space.subnets(new_prefix=30))
        first = zlib.crc32(network_id.encode())
        taken = set(self._pairs.values())
        free = (pairs[(first + step) % len(pairs)] for step in range(len(pairs)))
        found = self._pairs.get(network_id) or next((pair for pair in free if pair not in taken), None)
        if found is None:
            raise WiringFailed(reason="too many networks for one uplink")
        self._pairs[network_id] = found
        return found

    def _connected(self, network: NetworkPlan, own_namespace: ProcessNamespace) -> None:
        """Make the pair of links, wholly or not at all."""
        try:
            self._connect(network, own_namespace)
        except WiringFailed:
            with contextlib.suppress(WiringFailed):
                run(("ip", "link", "delete", self.link(network.id)))
            raise

    def _connect(self, network: NetworkPlan, own_namespace: ProcessNamespace) -> None:
        pair, here = self._pair(network.id), self.link(network.id)
        with own_namespace.namespace.opened() as fd:
            add = ("ip", "link", "add", here, "type", "veth", "peer", "name", INSIDE, "netns", f"/proc/self/fd/{fd}")
            run(add, fds=(fd,))
        run(("ip", "link", "set", here, "addrgenmode", "none"))
        run(("ip", "address", "add", f"{pair[1]}/30", "dev", here))
        run(("ip", "link", "set", here, "up"))
        own_namespace.namespace.batch(
            (
                ("address", "add", f"{pair[2]}/30", "dev", INSIDE),
                ("link", "set", INSIDE, "up"),
                ("route", "replace", "default", "via", str(pair[1])),
            )
        )
        nat = (
            "table ip polycell\ndelete table ip polycell\n"
            "table ip polycell {\n chain out {\n type nat hook postrouting priority 100;\n"
            f'oifname "{INSIDE}" ip saddr != {pair} masquerade\n }}\n}}\n'
        )
        own_namespace.namespace.run(("nft", "-f", "-"), nat)

    def _route(self, network: NetworkPlan) -> None:
        """Let the machine find the guests, unless the addresses mean something else to it: a project chooses them."""
        pair, here = self._pair(network.id), self.link(network.id)
        routes = json.loads(run(("ip", "-4", "-j", "route", "show")) or "[]")
        for subnet in network.subnets:
            if subnet.net.version != 4 or not subnet.net.is_private or not subnet.gateway:
                continue
            others = [route for route in routes if route["dst"] != "default" and route.get("dev") != here]
            if any(subnet.net.overlaps(ip_network(route["dst"], strict=False)) for route in others):
                log.debug("no route to a subnet", extra=about(None, network=network.id, cidr=subnet.net))
            elif all(route["dst"] != str(subnet.net) for route in routes):
                run(("ip", "route", "replace", str(subnet.net), "via", str(pair[2]), "dev", here))

    def close(self) -> None:
        """Remove all of ours from the machine's namespace."""
        if self._owner is not None:
            end(self._owner)
            self._owner = None
        self.sweep()
