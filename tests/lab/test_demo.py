"""docs/demo/guests.md is what happens."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.clients.recording import DEMOS, Terminal, conversation
from tests.clients.stock import openrc
from tests.lab.lab import Lab

pytestmark = [pytest.mark.real, pytest.mark.faults, pytest.mark.timeout(2400)]


SSH = """#!/bin/sh
for each in /proc/[0-9]*; do
    tr '\\0' ' ' < $each/cmdline 2>/dev/null | grep -q '^[^ ]*dnsmasq .*{state}/' &&
        exec nsenter --net=$each/ns/net {ssh} "$@"
done
exit 255
"""
"""ssh from within the cloud's network: clouds of several tests may have the same addresses at once."""


def only_looks(command: str) -> bool:
    """Also of a guest that is not up yet."""
    return command.startswith(("sh inside", "sh marker", "openstack server show", "openstack volume show"))


def test_the_life_of_a_guest(cloud: Lab, tmp_path: Path) -> None:
    directory, programs = tmp_path / "empty", tmp_path / "programs"
    directory.mkdir()
    programs.mkdir()
    ssh = programs / "ssh"
    ssh.write_text(SSH.format(state=cloud.installation.state, ssh=shutil.which("ssh")), encoding="utf-8")
    ssh.chmod(0o755)
    account = {**openrc(cloud.installation.state), "OS_COMPUTE_API_VERSION": "2.96"}
    terminal = Terminal(directory, account, programs)
    lines = list(conversation((DEMOS / "guests.md").read_text(encoding="utf-8")))
    terminal.play(lines, {}, is_look=only_looks)
