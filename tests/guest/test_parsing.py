"""What the guest reads with awk: JSON, and the config drive's description of its network."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tools.guest.image import SOURCES

BUSYBOX = shutil.which("busybox")
AWK = [BUSYBOX, "awk"] if BUSYBOX else ["awk"]
"""The guest's own awk where it is here; the scripts keep to what every awk has."""
pytestmark = pytest.mark.skipif(not BUSYBOX and not shutil.which("awk"), reason="neither busybox nor awk is here")


def awk(script: str, text: str) -> tuple[list[str], int]:
    command = [*AWK, "-f", str(SOURCES / script)]
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False, timeout=20)
    return done.stdout.splitlines(), done.returncode


def flattened(value: Any, path: str = "") -> list[str]:
    if isinstance(value, dict):
        return [line for name, each in value.items() for line in flattened(each, f"{path}.{name}")]
    if isinstance(value, list):
        return [line for number, each in enumerate(value) for line in flattened(each, f"{path}[{number}]")]
    return [f"{path}\t{'' if value is None else value if isinstance(value, str) else json.dumps(value)}"]


WORDS = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=12)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | WORDS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS, inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=25, deadline=None)
@given(VALUES, st.sampled_from([None, 2]))
def test_json_is_flattened_a_line_a_value(value: Any, indent: int | None) -> None:
    assert awk("json.awk", json.dumps(value, indent=indent)) == (flattened(value), 0)


def test_a_line_end_in_a_string_stays_escaped_and_other_letters_become_marks() -> None:
    assert awk("json.awk", '{"a": "x\\ny\\u00e9\\u0041\\/\\\\"}') == ([".a\tx\\ny?A/\\"], 0)


@pytest.mark.parametrize("count", [0, 1, 12])
def test_files_of_a_drive_are_paired_with_their_paths(count: int) -> None:
    files = [{"content_path": f"/content/{number:04d}", "path": f"/etc/a b/{number}"} for number in range(count)]
    lines, _ = awk("json.awk", json.dumps({"uuid": "x", "files": files, "meta": {"files[0].path": "no"}}))
    pairs, _ = awk("files.awk", "\n".join(lines) + "\n")
    assert pairs == [f"{each['content_path']}\t{each['path']}" for each in files]


@pytest.mark.parametrize("text", ["", "{", '{"a"', '{"a":', '{"a": "b', "[1,", "[1 2]", "{]", '{"a": 1} x', "<html>"])
def test_what_is_no_json_is_refused(text: str) -> None:
    assert awk("json.awk", text)[1] == 1


def plan(document: dict[str, Any]) -> list[str]:
    lines, code = awk("json.awk", json.dumps(document))
    assert code == 0
    return awk("network.awk", "\n".join(lines))[0]


LINKS = [
    {"id": "tap0", "vif_id": "v0", "type": "bridge", "mtu": 1450, "ethernet_mac_address": "FA:16:3E:00:00:01"},
    {"id": "tap1", "vif_id": "v1", "type": "bridge", "mtu": None, "ethernet_mac_address": "fa:16:3e:00:00:02"},
]


def test_a_network_with_dhcp_needs_no_address() -> None:
    networks = [{"id": "network0", "type": "ipv4_dhcp", "link": "tap0", "network_id": "n"}]
    assert plan({"links": LINKS, "networks": networks, "services": []}) == [
        "mtu fa:16:3e:00:00:01 1450",
        "dhcp fa:16:3e:00:00:01",
    ]


def test_static_addresses_of_two_links_with_routes_and_name_servers() -> None:
    networks = [
        {"id": "network0", "type": "ipv4", "link": "tap0", "ip_address": "10.0.0.5", "netmask": "255.255.255.0",
         "routes": [{"network": "0.0.0.0", "netmask": "0.0.0.0", "gateway": "10.0.0.1"},
                    {"network": "10.9.0.0", "netmask": "255.255.0.0", "gateway": "10.0.0.9"}],
         "services": [{"type": "dns", "address": "9.9.9.9"}]},
        {"id": "network1", "type": "ipv6", "link": "tap1", "ip_address": "fd00::5", "netmask": "ffff:ffff:ffff:ffff::",
         "routes": [{"network": "::", "netmask": "::", "gateway": "fd00::1"}]},
    ]  # fmt: skip
    services = [{"type": "dns", "address": "9.9.9.9"}, {"type": "ntp", "address": "10.0.0.3"}]
    assert plan({"links": LINKS, "networks": networks, "services": services}) == [
        "mtu fa:16:3e:00:00:01 1450",
        "address fa:16:3e:00:00:01 10.0.0.5/255.255.255.0",
        "route fa:16:3e:00:00:01 0.0.0.0/0.0.0.0 10.0.0.1",
        "route fa:16:3e:00:00:01 10.9.0.0/255.255.0.0 10.0.0.9",
        "dns 9.9.9.9",
        "address fa:16:3e:00:00:02 fd00::5/ffff:ffff:ffff:ffff::",
        "route fa:16:3e:00:00:02 ::/:: fd00::1",
    ]


@pytest.mark.parametrize(
    ("given_mask", "bits"),
    [
        ("10.0.0.5/255.255.255.0", "10.0.0.5/24"),
        ("10.0.0.5/255.255.254.0", "10.0.0.5/23"),
        ("0.0.0.0/0.0.0.0", "0.0.0.0/0"),
        ("10.0.0.5/24", "10.0.0.5/24"),
        ("10.0.0.5", "10.0.0.5/32"),
        ("fd00::5/ffff:ffff:ffff:ffff::", "fd00::5/64"),
        ("::/::", "::/0"),
        ("fd00::5", "fd00::5/128"),
    ],
)
def test_masks_become_bits(given_mask: str, bits: str) -> None:
    assert awk("prefix.awk", given_mask + "\n") == ([bits], 0)


@pytest.mark.parametrize("script", ["init", "lease", "power", "build.sh"])
def test_scripts_are_shell(script: str) -> None:
    shell = [BUSYBOX, "ash"] if BUSYBOX else ["sh"]
    subprocess.run([*shell, "-n", str(Path(SOURCES, script))], check=True, timeout=20)
