"""Every command of docs/user-guide.md works, in the order in which it is there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from tests.clients.stock import Refused, Shell
from tests.real.databases import wait_until

pytestmark = [pytest.mark.clients, pytest.mark.timeout(900)]

PAGE = Path(__file__).parents[2] / "docs" / "user-guide.md"
SECONDS = 120


def commands() -> list[str]:
    return re.findall(r"^    openstack (.*)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)


def test_the_users_guide(environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # a key is written there
    shell = Shell(environment)
    lines = commands()
    assert len(lines) > 50
    for line in lines:
        refused: list[Refused] = []

        def accepted(line: str = line, refused: list[Refused] = refused) -> bool:
            """Whether it is; what came before may not be done yet."""
            try:
                shell.run(*shlex.split(line))
            except Refused as error:
                refused[:] = [error]
                return False
            return True

        try:
            wait_until(accepted, "never accepted", SECONDS)
        except AssertionError:
            raise AssertionError(f"openstack {line}\n{refused}") from None
        wait_until(lambda: _at_rest(shell), f"a task does not end after: openstack {line}", SECONDS)


def _at_rest(shell: Shell) -> bool:
    return all(each["Task State"] is None for each in shell.run("server", "list", "--long"))
