"""The demonstrations of the documents do what they show."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.real.databases import free_ports

DEMOS = Path(__file__).parents[2] / "docs" / "demo"
FREE = 100
"""How many ports above the first one a demonstration may take."""


@pytest.mark.faults
@pytest.mark.timeout(450)
def test_the_life_of_a_cell(tmp_path: Path) -> None:
    if shutil.which("mariadbd") is None:
        pytest.skip("mariadbd is not installed")
    script = subprocess.Popen(
        ["sh", str(DEMOS / "cells.sh"), str(tmp_path / "demo"), str(Path(sys.executable).parent)],
        env={**os.environ, "PORT_BASE": str(free_ports(FREE))},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        shown, _ = script.communicate(timeout=400)
    finally:
        script.terminate()  # what it has started ends with it
        script.wait(60)
    assert script.returncode == 0, shown
    parts = {part.splitlines()[0]: part for part in shown.split("\n== ")[1:]}
    dead = next(part for title, part in parts.items() if title.startswith("cell3 dies"))
    assert dead.count("UNKNOWN") == 3
    assert dead.count("ACTIVE") == 2
    assert "exit code 2" in dead
    refused = next(part for title, part in parts.items() if title.startswith("A server of the dead cell"))
    assert "503" in refused
    back = next(part for title, part in parts.items() if title.startswith("cell3 is back"))
    assert "UNKNOWN" not in back
    assert "web-5" not in back
    drained = next(part for title, part in parts.items() if title.startswith("cell3 is drained"))
    assert "cell3-host" not in drained
    last = next(part for title, part in parts.items() if title.startswith("cell3 is deleted"))
    assert last.count("ACTIVE") == 9
    assert "Cell cell3 is deleted." in last
