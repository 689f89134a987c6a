"""The texts that are loaded: nothing here needs rights."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_interface, ip_network
from pathlib import Path

import pytest

from tools.companions.network.wiring.dhcp import arguments, hosts_text, options_text
from tools.companions.network.wiring.plan import (
    FilterRule,
    Fixed,
    Limit,
    NetworkPlan,
    Pair,
    PortPlan,
    SubnetPlan,
    _label,
    _pair,
)
from tools.companions.network.wiring.rules import filters
from tools.companions.network.wiring.spoofing import frames

SUBNET = SubnetPlan("s", ip_network("10.9.0.0/24"), "10.9.0.1", True, ("9.9.9.9",), (("10.8.0.0/16", "10.9.0.9"),),
                    None, None)  # fmt: skip
PORT = PortPlan(
    id="aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee", network_id="n1", project_id="p", mac="fa:16:3e:00:00:01",
    fixed=(Fixed("s", ip_interface("10.9.0.5/24")),), hosts=("h1",), device_id="d", device_owner="compute:nova",
    secured=True, up=True, groups=("g",), pairs=(), hostname="",
)  # fmt: skip
NETWORK = NetworkPlan("n1", 1450, (SUBNET,), (PORT,), frozenset({"h1"}))


def rule(**more: object) -> FilterRule:
    plain = FilterRule("ingress", 4, None, None, None, None, None)
    return replace(plain, **more)  # type: ignore[arg-type]


def own_lines(one: FilterRule, version: int = 4) -> list[str]:
    """What one rule adds to the ports' chains."""

    def lines(*rules: FilterRule) -> list[str]:
        members = {"g": ("10.9.0.5", "10.9.0.6", "fd00::6")}
        return filters(version, [PORT], [NETWORK], {"g": rules}, members).splitlines()

    bare = lines()
    return [line.partition("aaaaaaaa-bb ")[2] for line in lines(one) if line not in bare]


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (rule(), ["-j RETURN"]),
        (rule(protocol="tcp", low=22, high=22), ["-p 6 -m tcp --dport 22 -j RETURN"]),
        (rule(protocol="17", low=1, high=9), ["-p 17 -m udp --dport 1:9 -j RETURN"]),
        (rule(protocol="sctp", low=1, high=9), ["-p 132 -m multiport --dports 1:9 -j RETURN"]),
        (rule(protocol="icmp", low=8, high=0), ["-p 1 -m icmp --icmp-type 8/0 -j RETURN"]),
        (rule(protocol="icmp", low=8), ["-p 1 -m icmp --icmp-type 8 -j RETURN"]),
        (rule(protocol="icmp"), ["-p 1 -j RETURN"]),
        (rule(prefix="10.0.0.0/8"), ["-s 10.0.0.0/8 -j RETURN"]),
        (rule(direction="egress", prefix="10.0.0.0/8"), ["-d 10.0.0.0/8 -j RETURN"]),
        (rule(remote_group="g"), ["-s 10.9.0.5 -j RETURN", "-s 10.9.0.6 -j RETURN"]),
        (rule(remote_group="nobody"), []),
        (rule(protocol="hopopt"), []),
        (rule(protocol="0"), []),
        (rule(protocol="no such"), []),
        (rule(protocol="gre", low=1, high=2), []),
        (rule(closed=True), []),
        (rule(version=6), []),
    ],
)
def test_a_rule_says_what_it_lets_pass_and_nothing_when_unsure(given: FilterRule, wanted: list[str]) -> None:
    assert own_lines(given) == wanted


def test_ping_of_version_six_is_another_protocol() -> None:
    six = rule(version=6, protocol="icmp", low=128)
    assert own_lines(six, 6) == ["-p 58 -m icmp6 --icmpv6-type 128 -j RETURN"]
    assert own_lines(rule(version=6, remote_group="g"), 6) == ["-s fd00::6 -j RETURN"]


def test_chains_end_closed_and_stale_ones_go() -> None:
    lines = filters(4, [PORT], [NETWORK], {}, {}, ["pc-i-aaaaaaaa-bb", "pc-i-bbbbbbbb-bb"]).splitlines()
    for letter in "io":
        [*_, last] = [line for line in lines if line.startswith(f"-A pc-{letter}-aaaaaaaa-bb")]
        assert last == f"-A pc-{letter}-aaaaaaaa-bb -j DROP"
    assert [line for line in lines if line.startswith("-X")] == ["-X pc-i-bbbbbbbb-bb"]


def test_a_port_without_security_has_no_chains() -> None:
    free = replace(PORT, secured=False)
    assert "pc-" not in filters(4, [free], [NETWORK], {}, {})
    text = frames([free])
    assert '"tapaaaaaaaa-bb"' in text
    assert "jump" not in text


def test_frames_are_the_ports_own_or_of_its_pairs() -> None:
    pairs = (Pair(ip_network("10.9.0.0/28"), "fa:16:3e:00:00:02"), Pair(ip_network("fd00::/64"), PORT.mac))
    text = frames([replace(PORT, pairs=pairs)])
    assert "ether saddr != { fa:16:3e:00:00:01, fa:16:3e:00:00:02 } drop" in text
    assert "ip saddr { 10.9.0.0/28 } return" in text  # the port's own address is inside
    assert "@th,64,64 0xfd00000000000000" in text
    anything = frames([replace(PORT, pairs=(Pair(ip_network("0.0.0.0/0"), PORT.mac),))])
    assert "    ether type ip return" in anything


@pytest.mark.parametrize(
    "bad", [None, "x", {}, {"ip_address": "10.0.0.1; drop"}, {"ip_address": "::1", "mac_address": "a b"},
            {"ip_address": "10.0.0.1", "mac_address": "fa:16:3e:00:00:0}"}],
)  # fmt: skip
def test_a_pair_that_is_none_is_left_out(bad: object) -> None:
    assert _pair(bad, {"mac_address": PORT.mac}) is None


@pytest.mark.parametrize("name", ["a,b", "a\nb", "-a", "ä", "a" * 64, "a_b", "$(x)"])
def test_a_name_that_is_no_host_name_is_not_written(name: str) -> None:
    assert _label(name) == ""


def test_dnsmasq_is_told_addresses_routes_and_mtu() -> None:
    assert hosts_text(NETWORK) == "fa:16:3e:00:00:01,10.9.0.5,host-10-9-0-5\n"
    assert options_text(NETWORK).splitlines() == [
        "tag:s0,option:router,10.9.0.1",
        "tag:s0,option:classless-static-route,169.254.169.254/32,10.9.0.1,10.8.0.0/16,10.9.0.9,0.0.0.0/0,10.9.0.1",
        "tag:s0,option:dns-server,9.9.9.9",
        "tag:s0,option:mtu,1450",
    ]
    assert "--dhcp-range=set:s0,10.9.0.0,static,255.255.255.0,86400s" in arguments(NETWORK, Path("d"))


def test_a_policy_limits_and_marks() -> None:
    limits = (Limit("egress", 1000, 800), Limit("ingress", 5, 4))
    new = [line for line in frames([replace(PORT, limits=limits, dscp=26)]).splitlines()
           if line not in frames([PORT]).splitlines()]  # fmt: skip
    assert [line.strip() for line in new] == [
        'iifname "tapaaaaaaaa-bb" limit rate over 1000 bytes/second burst 800 bytes drop',
        'oifname "tapaaaaaaaa-bb" limit rate over 5 bytes/second burst 4 bytes drop',
        'iifname "tapaaaaaaaa-bb" ip dscp set 26',
        'iifname "tapaaaaaaaa-bb" ip6 dscp set 26',
    ]
