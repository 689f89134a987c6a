"""Compute hosts that have a network namespace of their own, and what of ours is inside."""

from __future__ import annotations

import contextlib
import json
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cell_service.errors import WiringFailed
from cell_service.logs import about
from tools.companions.network.wiring.namespaces import Namespace, ProcessNamespace, start_ticks
from tools.companions.network.wiring.plan import NetworkPlan, PortPlan, WiringPlan
from tools.companions.network.wiring.rules import filters, uplink_name
from tools.companions.network.wiring.spoofing import frames

log = logging.getLogger(__name__)
_CHAIN = re.compile(r"^:(pc-[io]-[0-9a-f-]{11}) ", re.MULTILINE)


def living_hosts(directory: Path) -> dict[str, Namespace]:
    """Host name → its namespace, of those whose first process lives. A file that can't be read names no host."""
    found: dict[str, Namespace] = {}
    for path in sorted(directory.glob("*.json")):
        try:
            said = json.loads(path.read_text(encoding="utf-8"))
            name, namespace = str(said["host"]), Namespace(int(said["pid"]), int(said["started"]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            log.debug("no host", extra=about(None, file=path, reason=error))
            continue
        if start_ticks(namespace.pid) == namespace.started:
            found[name] = namespace
    return found


@dataclass(slots=True)
class HostWiring:
    """Our links and rules in one host's namespace, for as long as that host's process lives."""

    name: str
    namespace: Namespace
    _loaded: dict[str, str] = field(default_factory=dict)
    _joined: dict[str, ProcessNamespace] = field(default_factory=dict)
    """Network → the namespace that its uplink leads to."""
    _refused: dict[str, str] = field(default_factory=dict)
    """The link of a subport → why there is none."""

    def make(self, plan: WiringPlan, services: Mapping[str, ProcessNamespace], *, thorough: bool) -> frozenset[str]:
        """Make bridges, uplinks and rules as planned, rules first; remove what is ours and not planned.

        Answers the taps that are wired. `thorough`: rules are loaded also when they were loaded before.
        Raises WiringFailed.
        """
        networks = plan.on_host(self.name)
        ports = [port for network in networks for port in network.ports if self.name in port.hosts]
        links = self.namespace.links()
        self._load(plan, networks, [port for port in ports if port.up], again=thorough)
        for network in networks:
            self._bridge(network, links)
            own_namespace = services.get(network.id)
            uplink = links.get(uplink_name(network.id))
            plugged = uplink is not None and uplink.get("master") == network.bridge
            if own_namespace is not None and not (plugged and self._joined.get(network.id) is own_namespace):
                if uplink is not None:  # of an earlier process, about to go with its other end, or torn out
                    self._delete(uplink_name(network.id))
                self._joined.pop(network.id, None)
                self._uplink(network, own_namespace)
                self._joined[network.id] = own_namespace
            self._plug(network, links)
        self._trunk(networks, links)
        self._sweep(networks, ports, links)
        masters = {network.id: network.bridge for network in networks}
        return frozenset(
            port.tap for port in ports if links.get(port.tap, {}).get("master") == masters[port.network_id]
        )

    def _load(self, plan: WiringPlan, networks: list[NetworkPlan], ports: list[PortPlan], *, again: bool) -> None:
        """Load the groups first, then the rules that let the taps send at all."""
        texts = {version: filters(version, ports, networks, plan.rules or {}, plan.members or {}) for version in (4, 6)}
        if again or any(self._loaded.get(str(version)) != text for version, text in texts.items()):
            if again or not self._loaded:
                self._filter_bridged()
            for version, command in ((4, "iptables"), (6, "ip6tables")):
                before = None if again else self._loaded.get(str(version))
                if before == texts[version]:
                    continue
                saved = self.namespace.run((f"{command}-save",)) if before is None else before
                hooks = _hooks(saved) if before is None else ""
                self._loaded.pop(str(version), None)
                text = filters(version, ports, networks, plan.rules or {}, plan.members or {}, _CHAIN.findall(saved))
                self.namespace.run((f"{command}-restore", "--noflush"), hooks + text)
                self._loaded[str(version)] = texts[version]
        text = frames(ports)
        if again or self._loaded.get("frames") != text:
            self._loaded.pop("frames", None)
            self.namespace.run(("nft", "-f", "-"), text)
            self._loaded["frames"] = text

    def _filter_bridged(self) -> None:
        """Have frames on bridges pass iptables; the setting is the namespace's own."""
        names = ("bridge-nf-call-iptables", "bridge-nf-call-ip6tables")
        self.namespace.run(("sh", "-c", 'for f; do echo 1 >"/proc/sys/net/bridge/$f" || exit 1; done', "sh", *names))

    def _bridge(self, network: NetworkPlan, links: Mapping[str, Mapping[str, Any]]) -> None:
        name, there = network.bridge, links.get(network.bridge)
        if there is None:
            quiet = ("stp_state", "0", "forward_delay", "0", "mcast_snooping", "0")
            self.namespace.run(("ip", "link", "add", name, "type", "bridge", *quiet))
            self.namespace.run(("ip", "link", "set", name, "addrgenmode", "none"))
        if there is None or there.get("mtu") != network.mtu or "UP" not in there.get("flags", ()):
            self.namespace.run(("ip", "link", "set", name, "mtu", str(network.mtu), "up"))

    def _uplink(self, network: NetworkPlan, own_namespace: ProcessNamespace) -> None:
        """A pair of links from the network's namespace to the bridge here."""
        here, there = uplink_name(network.id), f"to{self.namespace.pid}"
        with self.namespace.opened() as fd:
            pair = ("link", "add", there, "type", "veth", "peer", "name", here, "netns", f"/proc/self/fd/{fd}")
            self._add_pair(own_namespace, pair, fd)
        own_namespace.namespace.batch((("link", "set", there, "mtu", str(network.mtu), "master", "br0", "up"),))
        self.namespace.batch(
            (
                ("link", "set", here, "addrgenmode", "none"),
                ("link", "set", here, "mtu", str(network.mtu), "master", network.bridge, "up"),
            )
        )

    def _plug(self, network: NetworkPlan, links: Mapping[str, Mapping[str, Any]]) -> None:
        """Put taps that lost their bridge into it again."""
        for port in network.ports:
            if self.name in port.hosts and port.tap in links and not links[port.tap].get("master"):
                self.namespace.run(("ip", "link", "set", port.tap, "master", network.bridge))

    def _trunk(self, networks: list[NetworkPlan], links: dict[str, dict[str, Any]]) -> None:
        """Give subports whose parent is plugged a link of their own, in the bridge of their own network: what the guest
        sends in their VLAN comes out of it untagged. Where the kernel has no such links, only the parent is wired."""
        refused: dict[str, str] = {}
        for network in networks:
            for port in network.ports:
                if port.trunk_tap is None or self.name not in port.hosts or port.trunk_tap not in links:
                    continue
                there = links.get(port.tap)
                if there is not None and (there.get("link"), _vlan(there)) != (port.trunk_tap, port.vlan):
                    self._delete(port.tap)
                    there = None
                if there is None:
                    try:
                        self._add_vlan(port, network)
                    except WiringFailed as error:
                        refused[port.tap] = str(error)
                    else:
                        links[port.tap] = {"master": network.bridge}
        for tap in refused.keys() - self._refused.keys():
            log.warning("subport not wired", extra=about(None, host=self.name, link=tap, reason=refused[tap]))
        self._refused = refused

    def _add_vlan(self, port: PortPlan, network: NetworkPlan) -> None:
        vlan = ("type", "vlan", "id", str(port.vlan))
        self.namespace.batch(
            (
                ("link", "add", "link", str(port.trunk_tap), "name", port.tap, *vlan),
                ("link", "set", port.tap, "addrgenmode", "none"),
                ("link", "set", port.tap, "master", network.bridge, "up"),
            )
        )

    @staticmethod
    def _add_pair(own_namespace: ProcessNamespace, pair: Sequence[str], fd: int) -> None:
        own_namespace.namespace.run(("ip", *pair), fds=(fd,))

    def _sweep(
        self, networks: list[NetworkPlan], ports: list[PortPlan], links: Mapping[str, Mapping[str, Any]]
    ) -> None:
        """Remove taps of ports that aren't here any more, and bridges and uplinks of networks without one."""
        taps, bridges = {port.tap for port in ports}, {network.bridge for network in networks}
        uplinks = {uplink_name(network.id) for network in networks}
        for name, link in links.items():
            master = str(link.get("master") or "")
            stale = (
                (name.startswith("tap") and master.startswith("brq") and name not in taps)
                or (name.startswith("brq") and name not in bridges)
                or (name.startswith("veq") and name not in uplinks)
            )
            if stale:
                self._delete(name)

    def _delete(self, name: str) -> None:
        with contextlib.suppress(WiringFailed):  # a pair goes with its other end
            self.namespace.run(("ip", "link", "delete", name))
            log.info("stale link removed", extra=about(None, host=self.name, link=name))


def _vlan(link: Mapping[str, Any]) -> int | None:
    """The VLAN that a link is for."""
    info = link.get("linkinfo") or {}
    return int(info["info_data"]["id"]) if info.get("info_kind") == "vlan" else None


def _hooks(saved: str) -> str:
    """Make our chains the first in the kernel's, once."""
    text = ""
    for table, chain in (("filter", "FORWARD"), ("raw", "PREROUTING")):
        part = saved.partition(f"*{table}\n")[2].partition("COMMIT")[0]
        text += f"*{table}\n:polycell - [0:0]\n"
        text += "" if f"-A {chain} -j polycell\n" in part else f"-I {chain} 1 -j polycell\n"
        text += "COMMIT\n"
    return text
