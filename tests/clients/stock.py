"""The stock openstack client inside the test's process: as it is installed, without a Python start for each command."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from cliff.lister import Lister
from cliff.show import ShowOne
from openstackclient.common.clientmanager import ClientManager
from openstackclient.shell import OpenStackShell
from osc_lib.clientmanager import ClientCache

COMPUTE = "openstack.compute.v2"
GROUPS = (COMPUTE, "openstack.common", "openstack.image.v2", "openstack.network.v2", "openstack.volume.v3")
"""Where the commands are that scenarios use."""


def openrc(state: Path) -> dict[str, str]:
    """What a cloud's openrc exports for the client."""
    lines = (state / "openrc").read_text(encoding="utf-8").splitlines()
    pairs = (line.removeprefix("export ").split("=", 1) for line in lines if line.startswith("export OS_"))
    return {name: value.strip("'") for name, value in pairs}


def compute_commands() -> frozenset[str]:
    """Every command of the installed client that belongs to compute, as its entry points name it."""
    return frozenset(entry.name for entry in entry_points(group=COMPUTE))


def command_of(words: Sequence[str]) -> str | None:
    """The command that these words begin with, None for one that is not known."""
    known = _entries()
    found = ("_".join(words[:count]).replace("-", "_") for count in range(min(len(words), 5), 0, -1))
    return next((name for name in found if name in known), None)


class Refused(Exception):
    """The command ended with another code than 0; what it printed."""


@dataclass(frozen=True, slots=True)
class Shell:
    """A shell whose user has sourced this environment."""

    environment: Mapping[str, str]

    def run(self, *words: str, version: str = "2.96") -> Any:
        """What the command prints, as data where it gives data. No version: the client's own. Raises Refused."""
        form = ["-f", "json"] if _gives_data(command_of(words)) else []
        speaking = ["--os-compute-api-version", version] if version else []
        out, err = io.StringIO(), io.StringIO()
        with _as_if(self.environment, out, err):
            try:
                code = OpenStackShell().run([*speaking, *words, *form])
            except SystemExit as exited:  # words that the client's parser does not know
                code = int(exited.code or 0)
        printed = out.getvalue()
        if code:
            raise Refused(f"openstack {' '.join(words)} ({code})\n{printed}{err.getvalue()}")
        return json.loads(printed) if form and printed.startswith(("{", "[")) else printed


@cache
def _entries() -> dict[str, EntryPoint]:
    return {entry.name: entry for group in GROUPS for entry in entry_points(group=group)}


@cache
def _gives_data(command: str | None) -> bool:
    return command is not None and issubclass(_entries()[command].load(), (Lister, ShowOne))


@contextmanager
def _as_if(environment: Mapping[str, str], out: io.StringIO, err: io.StringIO) -> Iterator[None]:
    """The process's surroundings as a shell's: the client looks nowhere else. Not for several threads at once."""
    kept, streams = dict(os.environ), (sys.stdin, sys.stdout, sys.stderr)
    os.environ.update(environment)
    sys.stdin, sys.stdout, sys.stderr = io.StringIO(), out, err
    for kept_client in (value for kind in ClientManager.__mro__ for value in vars(kind).values()):
        if isinstance(kept_client, ClientCache):
            kept_client._handle = None  # else the next command would speak at this one's version
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(kept)
        sys.stdin, sys.stdout, sys.stderr = streams
