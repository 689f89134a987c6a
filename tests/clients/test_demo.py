"""docs/demo/first-hour.md is what happens."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.real.databases import free_ports

pytestmark = [pytest.mark.clients, pytest.mark.timeout(600)]

PAGE = Path(__file__).parents[2] / "docs" / "demo" / "first-hour.md"
PORT = 18700
"""The first port of the cloud in the page."""


def conversation(text: str) -> Iterator[tuple[str, str]]:
    """The commands of a page, each with the output that it has below."""
    for block in re.findall(r"^```console\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        yield from re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", block, re.MULTILINE)


def is_like(printed: str, written: str) -> bool:
    """Whether the output is the page's, where … stands for anything within a line."""
    return re.fullmatch(".*".join(re.escape(part) for part in written.split("…")), printed) is not None


def test_the_first_hour(tmp_path: Path) -> None:
    base = free_ports(9)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OS_", "POLYCELL_"))}
    environment = {**kept, "PATH": f"{Path(sys.executable).parent}:{kept['PATH']}", "COLUMNS": "200"}
    text = PAGE.read_text(encoding="utf-8")
    for place in range(9):
        text = text.replace(f"127.0.0.1:{PORT + place}", f"127.0.0.1:{base + place}")
    commands = list(conversation(text.replace("polycell up ", f"polycell up --port-base {base} ")))
    assert len(commands) > 8
    try:
        for command, output in commands:
            done = subprocess.run(
                shlex.split(command), cwd=tmp_path, env=environment, text=True, check=False, timeout=500,
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            )  # fmt: skip
            assert is_like(done.stdout, output), f"$ {command}\n{done.stdout}"
    finally:
        subprocess.run(["polycell", "down", "--delete"], cwd=tmp_path, env=environment, check=False,
                       capture_output=True)  # fmt: skip
    assert not (tmp_path / ".polycell").exists()


def test_another_output_is_noticed() -> None:
    assert is_like("READY in 3 s\nb\n", "READY in … s\nb\n")
    assert not is_like("READY in 3 s\nc\n", "READY in … s\nb\n")
    assert not is_like("READY in 3 s\nb\nmore\n", "READY in … s\nb\n")
    assert list(conversation("```console\n$ a b\nx\n$ c\n```\n")) == [("a b", "x\n"), ("c", "")]
