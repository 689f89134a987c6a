"""`polycell shell`: a shell, or one command, with a cloud's client and credentials."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from cell_service.errors import Invalid
from tools.up import record

_SOURCED = """. "$1" && shift && exec "$@\""""
"""Of /bin/sh: the first argument is sourced, the others are the command."""


def replace_by(state: Path, command: Sequence[str]) -> NoReturn:
    """Make this process the command, or without one $SHELL, in the environment that openrc of the cloud gives. What the
    caller's environment has for another cloud is removed. Raises Invalid when no cloud runs there."""
    openrc = state / "openrc"
    if not record.living(record.read(state)) or not openrc.is_file():
        raise Invalid(reason=f"no cloud runs in {state}: `polycell up --detach --state {state}` starts it")
    given = command[1:] if command[:1] == ["--"] else command
    words = list(given) or [os.environ.get("SHELL") or "/bin/sh"]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OS_")}
    os.execve("/bin/sh", ["polycell", "-c", _SOURCED, "polycell", str(openrc), *words], kept)
