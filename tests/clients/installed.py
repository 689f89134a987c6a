"""A cloud that `polycell up` made, and the stock openstack client for it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.clients.hop import Hop
from tests.clients.stock import Shell, openrc
from tests.real.databases import free_ports


class Installed:
    """A cloud in a directory, and a shell that has sourced its openrc.

    With `misfits` a hop stands before its compute API and adds to them what is not answered as published.
    """

    def __init__(self, state: Path, misfits: list[str] | None = None) -> None:
        self.state = state
        self.hop = None if misfits is None else Hop(misfits)
        self.port_base = free_ports(9)

    def polycell(self, *words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "tools.up.main", *words, "--state", str(self.state)]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)

    def up(self, *words: str) -> str:
        done = self.polycell("up", "--driver", "simulated", "--port-base", str(self.port_base), "--detach", *words)
        assert done.returncode == 0, done.stdout + done.stderr
        environment = openrc(self.state)
        if self.hop is not None and "OS_AUTH_URL" in environment:
            self.hop.stand_before(environment)
        return done.stdout

    def openstack(self, *words: str) -> Any:
        """What the command prints, as data where it can."""
        environment = {**os.environ, **openrc(self.state)}
        program = shutil.which("openstack", path=os.path.dirname(sys.executable))
        assert program is not None
        form = ["-f", "json"] if words[-1] not in QUIET and words[:2] not in PLAIN else []
        words = tuple(word for word in words if word not in QUIET)
        done = subprocess.run([program, *words, *form], capture_output=True, text=True, env=environment, timeout=120)
        assert done.returncode == 0, f"openstack {' '.join(words)}\n{done.stdout}{done.stderr}"
        return json.loads(done.stdout) if form else done.stdout

    def typed(self, *words: str) -> Any:
        """The same from inside this process, which need not start the client first."""
        return Shell(openrc(self.state)).run(*words, version="")

    def server(self, name: str, column: str) -> Any:
        return self.typed("server", "show", name)[column]


QUIET = ("#",)
"""Behind a command that prints nothing."""
PLAIN = (("console", "log"),)
