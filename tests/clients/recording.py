"""Recordings in docs/demo: what is typed in them, what happens, and what comes back."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from tests.real.databases import free_ports
from tools.up.plan import RESERVED_PORTS

ROOT = Path(__file__).parents[2]
DEMOS = ROOT / "docs" / "demo"
PORT = 18700
"""The first port of the clouds in the pages."""
_SECONDS = 500
_PAUSE_SECONDS = 0.5

Event = Callable[[], object]


def conversation(text: str) -> Iterator[tuple[str, str]]:
    """The commands of a page, each with the output that it has below, and its events, lines that begin with `# `."""
    for block in re.findall(r"^```console\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        for typed, event, output in re.findall(r"^(?:\$ (.*)|(# .*))\n((?:(?![$#] ).*\n)*)", block, re.MULTILINE):
            yield typed or event, output


def is_like(printed: str, written: str) -> bool:
    """Whether the output is the page's, where … stands for anything within a line, and the widths of columns for
    nothing."""
    pattern = ".*".join(re.escape(part) for part in _narrow(written).split("…"))
    return re.fullmatch(pattern, _narrow(printed)) is not None


def _narrow(text: str) -> str:
    return re.sub(r"-{2,}", "--", re.sub(r" {2,}", " ", text))


class Terminal:
    """Where a page's commands are typed: a directory, and what is in the environment."""

    def __init__(
        self, directory: Path, environment: Mapping[str, str] | None = None, programs: Path | None = None
    ) -> None:
        """`programs`: a directory whose programs are found before others."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("OS_", "POLYCELL_"))}
        found_first = f"{programs}:" if programs is not None else ""
        path = f"{found_first}{Path(sys.executable).parent}:{kept['PATH']}"
        self._directory = directory
        ours = {"COLUMNS": "200", "PYTHONPATH": str(ROOT), "PATH": path}
        self._environment = {**kept, **(environment or {}), **ours}

    def type(self, command: str) -> str:
        """What the command prints, on both of its outputs."""
        done = subprocess.run(
            ["/bin/sh", "-c", command], cwd=self._directory, env=self._environment, text=True, check=False,
            timeout=_SECONDS, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        return done.stdout

    def play(self, lines: list[tuple[str, str]], events: Mapping[str, Event], is_look: Callable[[str], bool]) -> None:
        """Type the lines, and have the events happen. Each command prints what the page says: at once, or if it only
        looks, after a while."""
        assert len(lines) > 8
        for typed, output in lines:
            if typed.startswith("# "):
                events[typed.removeprefix("# ")]()
                continue
            until = time.monotonic() + (_SECONDS if is_look(typed) else 0)
            while not is_like(printed := self.type(typed), output):
                assert time.monotonic() < until, f"$ {typed}\n{printed}"
                time.sleep(_PAUSE_SECONDS)  # of what goes on in other processes no event tells


def lines_of(page: str, port_base: int) -> list[tuple[str, str]]:
    """The conversation of a page, whose cloud has its ports elsewhere."""
    text = (DEMOS / page).read_text(encoding="utf-8")
    for place in range(RESERVED_PORTS):
        text = text.replace(f"127.0.0.1:{PORT + place}", f"127.0.0.1:{port_base + place}")
    return list(conversation(text))


def free_port_base() -> int:
    return free_ports(RESERVED_PORTS)
