"""The whole command set of the installed openstack client, as far as it is compute's."""

from __future__ import annotations

import shlex
from pathlib import Path
from uuid import uuid4

import pytest

from tests.clients.commands import SCENARIOS
from tests.clients.libraries import connection
from tests.clients.stage import Stage, play
from tests.clients.stock import Shell, command_of, compute_commands

pytestmark = pytest.mark.clients

NOT_DRIVEN = {
    "server_ssh": "starts the machine's own ssh towards a guest; simulated guests have no network",
}
SSH_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGjW2DMVvlm6bKzj5LnHGBJYQCXSm8xGLBOCyOnGxJSP ann@example\n"


@pytest.mark.parametrize("name", SCENARIOS)
def test_commands_do_what_they_say(name: str, shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "key.pub").write_text(SSH_KEY, encoding="utf-8")
    mark = uuid4().hex[:8]
    names = {"name": f"{name}-{mark}", "id": str(uuid4()), "vm": f"vm-{mark}", "directory": str(tmp_path),
             "public_key": str(tmp_path / "key.pub")}  # fmt: skip
    if name == "shares":
        names["share"] = _share(shell, f"share-{mark}")
    play(Stage(shell, names), SCENARIOS[name])


def _share(shell: Shell, name: str) -> str:
    """The name of a new share: the commands that make one are another client's."""
    sdk = connection(dict(shell.environment), "2.97")
    sdk.shared_file_system.create_share(name=name, share_protocol="NFS", size=1)
    sdk.close()
    return name


def test_every_compute_command_is_driven_or_has_a_reason_why_not() -> None:
    lines = [shlex.split(step.line) for steps in SCENARIOS.values() for step in steps]
    driven = {command_of(words) for words in lines}
    assert compute_commands() - driven == set(NOT_DRIVEN)
