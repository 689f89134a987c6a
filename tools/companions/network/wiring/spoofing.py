"""The rules for what a guest may send at all, how much, and with which mark: an nftables text for the bridges of one
host. Pure.

Taps that aren't named here pass nothing, in either direction: a guest that starts before its rules has no network.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from ipaddress import IPv6Network, ip_network

from tools.companions.network.addresses import from_mac
from tools.companions.network.wiring.plan import PortPlan

TABLE = "table bridge polycell"
_LINK_LOCAL = IPv6Network("fe80::/64")
_FROM_NOWHERE = "nd-neighbor-solicit, nd-router-solicit, mld-listener-report, mld2-listener-report"


def frames(ports: Sequence[PortPlan]) -> str:
    """The text that replaces the table as a whole, in one transaction."""
    known = ", ".join(f'"{port.tap}"' for port in ports)
    secured = [port for port in ports if port.secured]
    lines = [
        TABLE,
        f"delete {TABLE}",
        f"{TABLE} {{",
        f"  set known {{ type ifname; {f'elements = {{ {known} }}' if known else ''} }}",
        "  chain forward {",
        "    type filter hook forward priority -200; policy accept;",
        '    iifname "tap*" iifname != @known drop',
        '    oifname "tap*" oifname != @known drop',
        *(f'    iifname "{port.tap}" jump {_chain(port)}' for port in secured),
        *(f'    oifname "{port.tap}" ether type != {{ arp, ip, ip6, 0x8035 }} drop' for port in secured),
        *(line for port in ports for line in _policy(port)),
        "  }",
        "  chain input {",
        "    type filter hook input priority -200; policy accept;",
        '    iifname "tap*" drop',
        "  }",
        *(line for port in secured for line in _of(port)),
        "}",
    ]
    return "\n".join(lines) + "\n"


def _policy(port: PortPlan) -> Iterable[str]:
    """The port's QoS policy."""
    for limit in port.limits:
        link = f'{"iifname" if limit.direction == "egress" else "oifname"} "{port.tap}"'
        yield f"    {link} limit rate over {limit.bytes_a_second} bytes/second burst {limit.burst_bytes} bytes drop"
    if port.dscp is not None:
        yield f'    iifname "{port.tap}" ip dscp set {port.dscp}'
        yield f'    iifname "{port.tap}" ip6 dscp set {port.dscp}'


def _chain(port: PortPlan) -> str:
    return f"from_{port.id[:11].replace('-', '_')}"


def _of(port: PortPlan) -> Iterable[str]:
    macs = sorted({port.mac, *(pair.mac for pair in port.pairs)})
    nets = {ip_network(one.text) for one in port.fixed} | {pair.net for pair in port.pairs}
    fours = sorted(str(net).removesuffix("/32") for net in nets if net.version == 4 and net.prefixlen)
    all_fours = any(net.version == 4 and not net.prefixlen for net in nets)
    sixes = sorted({str(net).removesuffix("/128") for net in nets if net.version == 6 and net.prefixlen}
                   | {str(from_mac(_LINK_LOCAL, mac)) for mac in macs})  # fmt: skip
    all_sixes = any(net.version == 6 and not net.prefixlen for net in nets)
    own = ", ".join(macs)
    yield f"  chain {_chain(port)} {{"
    yield f"    ether saddr != {{ {own} }} drop"
    yield f"    ether type arp arp saddr ether != {{ {own} }} drop"
    yield "    ether type arp arp operation request arp saddr ip 0.0.0.0 return"
    if all_fours:
        yield "    ether type arp return"
    elif fours:
        yield f"    ether type arp arp saddr ip {_set(fours)} return"
    yield "    ether type ip udp sport 67 udp dport 68 drop"
    yield "    ether type ip ip saddr 0.0.0.0 udp sport 68 udp dport 67 return"
    if all_fours:
        yield "    ether type ip return"
    elif fours:
        yield f"    ether type ip ip saddr {_set(fours)} return"
    yield "    ether type ip6 udp sport 547 udp dport 546 drop"
    yield "    ether type ip6 icmpv6 type { nd-router-advert, nd-redirect } drop"
    yield f"    ether type ip6 ip6 saddr :: icmpv6 type {{ {_FROM_NOWHERE} }} return"
    if all_sixes:
        yield "    ether type ip6 return"
    else:
        for text in sixes:
            yield f"    ether type ip6 icmpv6 type nd-neighbor-advert {_target(text)} ip6 saddr {_set(sixes)} return"
        yield "    ether type ip6 icmpv6 type nd-neighbor-advert drop"
        yield f"    ether type ip6 ip6 saddr {_set(sixes)} return"
    yield "    ether type 0x8035 return"
    yield "    drop"
    yield "  }"


def _set(texts: Iterable[str]) -> str:
    """The networks as an nftables set; one that is part of another is left out, since nftables refuses overlaps."""
    nets = [ip_network(text) for text in texts]
    least = [net for net in dict.fromkeys(nets) if not any(net != o and net.subnet_of(o) for o in nets)]  # type: ignore[arg-type]
    return "{ " + ", ".join(str(net).removesuffix(f"/{net.max_prefixlen}") for net in least) + " }"


def _target(text: str) -> str:
    """The address that a neighbour advertisement is about: 8 bytes into its ICMPv6 header."""
    net = ip_network(text)
    return f"@th,64,{net.prefixlen} 0x{int(net.network_address) >> (128 - net.prefixlen):x}"
