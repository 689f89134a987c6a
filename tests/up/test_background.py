"""`polycell up --detach` that is interrupted before it is READY."""

from __future__ import annotations

import io
import logging
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.real.databases import free_ports
from tools.up import launch, record
from tools.up.plan import RESERVED_PORTS


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_says_that_it_stops_and_leaves_nothing_running(tmp_path: Path, number: signal.Signals) -> None:
    words = ["up", "--detach", "--driver", "simulated", "--cells", "1", "--state", str(tmp_path / "state")]
    words += ["--port-base", str(free_ports(RESERVED_PORTS))]
    command = ["env", "--default-signal=INT", sys.executable, "-m", "tools.up.main", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as starting:
        assert starting.stdout is not None
        assert any("syncing" in line for line in iter(starting.stdout.readline, ""))
        starting.send_signal(number)
        printed, said = starting.communicate(timeout=120)
    assert (starting.returncode, said) == (130, "polycell: stopping\n")
    assert printed.splitlines()[-1].endswith("stopping")
    assert "READY" not in printed
    assert record.living(record.read(tmp_path / "state")) == []


def test_what_it_says_after_ready_is_in_its_log(caplog: pytest.LogCaptureFixture) -> None:
    out = io.StringIO()
    out.close()
    with caplog.at_level(logging.INFO):
        launch._ClosingProgress(out).say("stopping")
    assert caplog.messages == ["stopping"]
