"""The wiring that the records require: the networks in use on hosts with a namespace, with all their ports."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv4Network, IPv6Interface, IPv6Network, ip_interface, ip_network
from typing import Any

from sqlalchemy import Connection

from tools.companions.network import store
from tools.companions.network.ports import DHCP_PORT
from tools.companions.network.qos import rules_by_port

Record = dict[str, Any]
Net = IPv4Network | IPv6Network
LEAST_MTU = 68
KILOBIT = 125
"""The bytes of a kilobit."""
LARGEST_RATE, LARGEST_BURST = 2**33, 2**32 - 1
"""The most that the kernel can count; no link here carries as much in a second."""


@dataclass(frozen=True, slots=True)
class Fixed:
    """An address of a port."""

    subnet_id: str
    address: IPv4Interface | IPv6Interface

    @property
    def text(self) -> str:
        return str(self.address.ip)


@dataclass(frozen=True, slots=True)
class Pair:
    """Addresses that a port may also send from, and the MAC that goes with them."""

    net: Net
    mac: str


@dataclass(frozen=True, slots=True)
class Limit:
    """The limit of a second's traffic, `egress` being what the guest sends; and how much more passes at once."""

    direction: str
    bytes_a_second: int
    burst_bytes: int


@dataclass(frozen=True, slots=True)
class PortPlan:
    """`hosts`: where its tap may be plugged in; two while the guest moves."""

    id: str
    network_id: str
    project_id: str
    mac: str
    fixed: tuple[Fixed, ...]
    hosts: tuple[str, ...]
    device_id: str
    device_owner: str
    secured: bool
    up: bool
    groups: tuple[str, ...]
    pairs: tuple[Pair, ...]
    hostname: str
    trunk_tap: str | None = None
    """The tap of its trunk's parent, for a subport, whose own link is in the tap's VLAN."""
    vlan: int | None = None
    limits: tuple[Limit, ...] = ()
    dscp: int | None = None
    """The mark that all that the guest sends gets."""

    @property
    def tap(self) -> str:
        return _tap(self.id)


@dataclass(frozen=True, slots=True)
class FilterRule:
    """A rule of a group. `closed`: it names something that isn't known here, so it lets nothing pass."""

    direction: str
    version: int
    protocol: str | None
    low: int | None
    high: int | None
    prefix: str | None
    remote_group: str | None
    closed: bool = False


@dataclass(frozen=True, slots=True)
class SubnetPlan:
    id: str
    net: Net
    gateway: str | None
    dhcp: bool
    dns: tuple[str, ...]
    routes: tuple[tuple[str, str], ...]
    ra_mode: str | None
    address_mode: str | None


@dataclass(frozen=True, slots=True)
class NetworkPlan:
    id: str
    mtu: int
    subnets: tuple[SubnetPlan, ...]
    ports: tuple[PortPlan, ...]
    hosts: frozenset[str]
    """Hosts with a namespace that a port of the network is bound to."""

    @property
    def bridge(self) -> str:
        return bridge_name(self.id)

    @property
    def dhcp_port(self) -> PortPlan | None:
        return next((port for port in self.ports if port.device_owner == DHCP_PORT), None)

    @property
    def unserved(self) -> bool:
        """Whether the DHCP server lacks an address on a subnet that it serves."""
        own = self.dhcp_port
        has = {one.subnet_id for one in own.fixed} if own is not None else set()
        return any(subnet.dhcp and subnet.id not in has for subnet in self.subnets)


@dataclass(frozen=True, slots=True)
class WiringPlan:
    networks: tuple[NetworkPlan, ...] = ()
    rules: Mapping[str, tuple[FilterRule, ...]] | None = None
    """Group → its rules."""
    members: Mapping[str, tuple[str, ...]] | None = None
    """Group → addresses and prefixes of its ports."""

    def on_host(self, host: str) -> list[NetworkPlan]:
        return [network for network in self.networks if host in network.hosts]


def bridge_name(network_id: str) -> str:
    return f"brq{network_id[:11]}"


def read_plan(tx: Connection, hosts: Collection[str]) -> WiringPlan:
    """The networks that have a port on one of these hosts."""
    ports = store.search(tx, "port")
    parents = _parents(tx, ports)
    used: dict[str, set[str]] = {}
    for port in ports:
        for host in set(_hosts_of(parents[port["id"]][0] if port["id"] in parents else port)) & set(hosts):
            used.setdefault(port["network_id"], set()).add(host)
    if not used:
        return WiringPlan()
    fixed = store.fixed_ips_of(tx, [port["id"] for port in ports])
    subnets = store.search(tx, "subnet")
    lengths = {subnet["id"]: ip_network(subnet["cidr"]).prefixlen for subnet in subnets}
    policies = rules_by_port(tx, ports)
    planned = [
        _port(port, fixed.get(port["id"], []), lengths, parents.get(port["id"]), policies[port["id"]]) for port in ports
    ]
    networks = tuple(
        NetworkPlan(
            id=network["id"],
            mtu=max(LEAST_MTU, min(int(network.get("mtu") or 1500), 65535)),
            subnets=tuple(_subnet(subnet) for subnet in subnets if subnet["network_id"] == network["id"]),
            ports=tuple(port for port in planned if port.network_id == network["id"]),
            hosts=frozenset(used[network["id"]]),
        )
        for network in store.search(tx, "network", id=sorted(used))
    )
    rules: dict[str, tuple[FilterRule, ...]] = {}
    for rule in store.search(tx, "security_group_rule"):
        group_id = rule["security_group_id"]
        rules[group_id] = (*rules.get(group_id, ()), _rule(rule))
    members: dict[str, tuple[str, ...]] = {}
    for member in planned:
        texts = (*(one.text for one in member.fixed), *(str(pair.net) for pair in member.pairs))
        for group_id in member.groups:
            members[group_id] = (*members.get(group_id, ()), *texts)
    return WiringPlan(networks, rules, members)


def _hosts_of(port: Record) -> tuple[str, ...]:
    moving = (port.get("binding:profile") or {}).get("migrating_to")
    names = (port.get("binding:host_id"), moving)
    return tuple(dict.fromkeys(name for name in names if isinstance(name, str) and name))


def _parents(tx: Connection, ports: list[Record]) -> dict[str, tuple[Record, int]]:
    """Subport → the parent of its trunk, and its VLAN."""
    by_id = {port["id"]: port for port in ports}
    return {
        one["port_id"]: (by_id[trunk["port_id"]], one["segmentation_id"])
        for trunk in store.search(tx, "trunk")
        if trunk["port_id"] in by_id
        for one in trunk["sub_ports"]
    }


def _tap(port_id: str) -> str:
    return f"tap{port_id[:11]}"


def _port(
    port: Record,
    fixed: list[dict[str, str]],
    lengths: Mapping[str, int],
    parent: tuple[Record, int] | None,
    policy: list[Record],
) -> PortPlan:
    return PortPlan(
        id=port["id"],
        network_id=port["network_id"],
        project_id=port["project_id"],
        mac=port["mac_address"],
        fixed=tuple(
            Fixed(entry["subnet_id"], ip_interface(f"{entry['ip_address']}/{lengths[entry['subnet_id']]}"))
            for entry in fixed
            if entry["subnet_id"] in lengths
        ),
        hosts=_hosts_of(port if parent is None else parent[0]),
        device_id=port.get("device_id") or "",
        device_owner=port.get("device_owner") or "",
        secured=port.get("port_security_enabled") is not False,
        up=bool(port.get("admin_state_up")),
        groups=tuple(port.get("security_groups") or ()),
        pairs=tuple(pair for entry in port.get("allowed_address_pairs") or () if (pair := _pair(entry, port))),
        hostname=_label(port.get("dns_name") or ""),
        trunk_tap=None if parent is None else _tap(parent[0]["id"]),
        vlan=None if parent is None else parent[1],
        limits=tuple(_limit(rule) for rule in policy if rule["type"] == "bandwidth_limit" and rule["max_kbps"]),
        dscp=next((rule["dscp_mark"] for rule in policy if rule["type"] == "dscp_marking"), None),
    )


def _limit(rule: Record) -> Limit:
    """The limit of a rule. Without a burst in the rule, it is four fifths of the limit, as the network service's agents
    have it."""
    burst = rule["max_burst_kbps"] or rule["max_kbps"] * 4 // 5
    rate = min(rule["max_kbps"] * KILOBIT, LARGEST_RATE)
    return Limit(rule["direction"], rate, min(burst * KILOBIT, LARGEST_BURST))


def _pair(entry: Any, port: Record) -> Pair | None:
    """The pair of addresses; None for what isn't one: the records keep pairs as they were given."""
    try:
        net = ip_network(str(entry["ip_address"]), strict=False)
        mac = str(entry.get("mac_address") or port["mac_address"]).lower()
        parts = [int(part, 16) for part in mac.split(":") if len(part) == 2]
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    if len(parts) != 6 or len(mac) != 17:
        return None
    return Pair(net, ":".join(f"{part:02x}" for part in parts))


def _label(name: str) -> str:
    """The name, if it may be written into a configuration file, or nothing."""
    label = name.split(".")[0].lower()
    fine = label.isascii() and label.replace("-", "").isalnum() and label.strip("-") == label
    return label if fine and len(label) <= 63 else ""


def _subnet(subnet: Record) -> SubnetPlan:
    return SubnetPlan(
        id=subnet["id"],
        net=ip_network(subnet["cidr"]),
        gateway=_address(subnet.get("gateway_ip")),
        dhcp=bool(subnet.get("enable_dhcp")),
        dns=tuple(found for entry in subnet.get("dns_nameservers") or () if (found := _address(entry))),
        routes=tuple(route for entry in subnet.get("host_routes") or () if (route := _route(entry))),
        ra_mode=subnet.get("ipv6_ra_mode"),
        address_mode=subnet.get("ipv6_address_mode"),
    )


def _address(text: object) -> str | None:
    try:
        return str(ip_interface(str(text)).ip) if text else None
    except ValueError:
        return None


def _route(entry: Any) -> tuple[str, str] | None:
    try:
        return str(ip_network(str(entry["destination"]), strict=False)), str(ip_interface(str(entry["nexthop"])).ip)
    except (ValueError, KeyError, TypeError):
        return None


def _rule(rule: Record) -> FilterRule:
    return FilterRule(
        direction=rule["direction"],
        version=6 if rule["ethertype"] == "IPv6" else 4,
        protocol=rule["protocol"],
        low=rule["port_range_min"],
        high=rule["port_range_max"],
        prefix=rule["remote_ip_prefix"] or None,
        remote_group=rule["remote_group_id"] or None,
        closed=bool(rule.get("remote_address_group_id")),
    )
