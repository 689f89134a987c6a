"""Security groups of one host as texts for iptables-restore, stateful. Pure.

Chains: `polycell` checks first what the sending port may send, then what the receiving port may get; a port's chain
ends in DROP, and to return from it is to be allowed. Connections are followed apart for each network (`CT --zone`),
since two networks may use the same addresses. Answers pass always, and what the side that opened a connection sends
needs a rule for each packet: so a connection ends when its rule is removed.
"""

from __future__ import annotations

import zlib
from collections.abc import Collection, Iterable, Mapping
from ipaddress import ip_network

from tools.companions.network.wiring.plan import FilterRule, NetworkPlan, PortPlan

NUMBERS = {
    "icmp": 1, "igmp": 2, "ipip": 4, "tcp": 6, "egp": 8, "udp": 17, "dccp": 33, "ipv6-encap": 41, "ipv6-route": 43,
    "ipv6-frag": 44, "rsvp": 46, "gre": 47, "esp": 50, "ah": 51, "icmpv6": 58, "ipv6-icmp": 58, "ipv6-nonxt": 59,
    "ipv6-opts": 60, "ospf": 89, "vrrp": 112, "pgm": 113, "sctp": 132, "udplite": 136,
}  # fmt: skip
_MATCHED = {6: "tcp", 17: "udp"}
_MULTIPORT = (33, 132, 136)
_ICMP = {4: 1, 6: 58}
_TO_GUEST = (130, 131, 132, 134, 135, 136)
_FROM_GUEST = (131, 132, 133, 135, 136, 143)
PREFIX = "pc-"


def zone(network_id: str) -> int:
    return zlib.crc32(network_id.encode()) % 65535 + 1


def uplink_name(network_id: str) -> str:
    """The host's end of the pair of links that leads to the network's own namespace."""
    return f"veq{network_id[:11]}"


def filters(
    version: int,
    ports: Collection[PortPlan],
    networks: Collection[NetworkPlan],
    rules: Mapping[str, tuple[FilterRule, ...]],
    members: Mapping[str, tuple[str, ...]],
    stale: Iterable[str] = (),
) -> str:
    """The tables as they should be; chains named in `stale` and not needed are removed. Use with --noflush."""
    secured = [port for port in ports if port.secured]
    chains = [chain for port in secured for chain in (_chain("o", port), _chain("i", port))]
    gone = sorted(set(stale) - set(chains))
    servers = {network.id: _servers(network, version) for network in networks}
    bridged = "-m physdev --physdev-is-bridged"
    lines = ["*filter", ":polycell - [0:0]"]
    lines += [f":{chain} - [0:0]" for chain in (*chains, *gone)]
    lines += [f"-A polycell {bridged} --physdev-in {port.tap} -j {_chain('o', port)}" for port in secured]
    lines += [f"-A polycell {bridged} --physdev-out {port.tap} -j {_chain('i', port)}" for port in secured]
    for port in secured:
        own = [rule for group in port.groups for rule in rules.get(group, ()) if rule.version == version]
        for letter, direction, always in (
            ("o", "egress", _sent(version)),
            ("i", "ingress", _got(version, servers.get(port.network_id, ()))),
        ):
            head = f"-A {_chain(letter, port)}"
            matches = [match for rule in own if rule.direction == direction for match in _matches(rule, members)]
            lines.append(f"{head} -m conntrack --ctstate ESTABLISHED --ctdir REPLY -j RETURN")
            lines.append(f"{head} -m conntrack --ctstate RELATED -j RETURN")
            lines += [f"{head} {match} -j RETURN" for match in always]
            lines.append(f"{head} -m conntrack --ctstate INVALID -j DROP")
            lines += [f"{head}{f' {match}' if match else ''} -j RETURN" for match in dict.fromkeys(matches)]
            lines.append(f"{head} -j DROP")
    lines += [f"-X {chain}" for chain in gone]
    lines += ["COMMIT", "*raw", ":polycell - [0:0]"]
    for network in networks:
        links = [port.tap for port in ports if port.network_id == network.id] + [uplink_name(network.id)]
        lines += [f"-A polycell -m physdev --physdev-in {link} -j CT --zone {zone(network.id)}" for link in links]
    return "\n".join((*lines, "COMMIT", ""))


def _chain(letter: str, port: PortPlan) -> str:
    return f"{PREFIX}{letter}-{port.id[:11]}"


def _servers(network: NetworkPlan, version: int) -> tuple[str, ...]:
    found = [subnet.gateway for subnet in network.subnets if subnet.gateway]
    if network.dhcp_port is not None:
        found += [one.text for one in network.dhcp_port.fixed]
    return tuple(dict.fromkeys(text for text in found if ip_network(text).version == version))


def _sent(version: int) -> list[str]:
    """The rules for packets that every guest may send: requests for an address, and the search for neighbours."""
    if version == 4:
        return ["-p 17 -m udp --sport 68 --dport 67"]
    return [*(f"-p 58 -m icmp6 --icmpv6-type {kind}" for kind in _FROM_GUEST), "-p 17 -m udp --sport 546 --dport 547"]


def _got(version: int, servers: Iterable[str]) -> list[str]:
    """The rules for packets that every guest gets: answers of its network's own DHCP server, and neighbours."""
    if version == 4:
        return [f"-s {server} -p 17 -m udp --sport 67 --dport 68" for server in servers]
    return [*(f"-p 58 -m icmp6 --icmpv6-type {kind}" for kind in _TO_GUEST),
            "-s fe80::/10 -p 17 -m udp --sport 547 --dport 546"]  # fmt: skip


def _matches(rule: FilterRule, members: Mapping[str, tuple[str, ...]]) -> list[str]:
    """Matches of one rule; several for a group with several members, none for what can't be said here."""
    protocol = _protocol(rule)
    if rule.closed or protocol is None:
        return []
    flag = "-s" if rule.direction == "ingress" else "-d"
    if rule.remote_group is not None:
        peers = [text for text in members.get(rule.remote_group, ()) if ip_network(text).version == rule.version]
        wheres = [f"{flag} {text}" for text in sorted(set(peers))]
    elif rule.prefix is not None:
        wheres = [f"{flag} {ip_network(rule.prefix, strict=False)}"]
    else:
        wheres = [""]
    return [f"{where} {protocol}".strip() for where in wheres]


def _protocol(rule: FilterRule) -> str | None:
    """The protocol's number; None for one that isn't known: 0 would mean all of them."""
    if rule.protocol is None:
        return ""
    name = rule.protocol
    number = int(name) if name.isascii() and name.isdigit() else NUMBERS.get(name, 0)
    if number == 1 and rule.version == 6 and name == "icmp":
        number = 58
    if not 0 < number <= 255:
        return None
    text = f"-p {number}"
    if rule.low is None and rule.high is None:
        return text
    low, high = rule.low, rule.high
    if number == _ICMP[rule.version]:
        kind = "-m icmp --icmp-type" if rule.version == 4 else "-m icmp6 --icmpv6-type"
        if low is None or low > 255 or (high or 0) > 255:
            return None
        return f"{text} {kind} {low}{'' if high is None else f'/{high}'}"
    low, high = 0 if low is None else low, 65535 if high is None else high
    span = str(low) if low == high else f"{low}:{high}"
    if number in _MATCHED:
        return f"{text} -m {_MATCHED[number]} --dport {span}"
    return f"{text} -m multiport --dports {span}" if number in _MULTIPORT else None
