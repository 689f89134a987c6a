"""A process on which an operator looks by a signal says what it does, and goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tools.services import report


@pytest.fixture
def _handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in report.SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("_handlers")
@pytest.mark.parametrize("number", report.SIGNALS)
def test_each_thread_is_reported_with_its_stack(number: signal.Signals, capfd: pytest.CaptureFixture[str]) -> None:
    ended = threading.Event()
    waiting = threading.Thread(target=ended.wait, name="one-that-waits")
    waiting.start()
    report.on_signal("conductor cell1")
    try:
        os.kill(os.getpid(), number)
    finally:
        ended.set()
        waiting.join()
    said = capfd.readouterr().err
    assert said.startswith("==== Report of conductor cell1: ")
    assert "---- Thread one-that-waits ----" in said
    assert "test_each_thread_is_reported" in said


@pytest.mark.usefixtures("_handlers")
def test_it_is_a_file_where_a_directory_is_configured(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    report.on_signal("conductor cell1", str(tmp_path))
    os.kill(os.getpid(), signal.SIGUSR2)
    (file,) = tmp_path.iterdir()
    assert file.name.startswith("conductor-cell1_gurumeditation_20")
    assert file.name.endswith(f"_{os.getpid()}")
    assert file.read_text("utf-8").endswith("==== End of report ====\n")
    assert capfd.readouterr().err == ""


def test_a_service_goes_on_after_it(tmp_path: Path) -> None:
    conf = tmp_path / "nova.conf"
    conf.write_text(f"[DEFAULT]\ntransport_url = local://{tmp_path}/q\n", encoding="utf-8")
    words = [sys.executable, "-m", "tools.up.main", "service", "queue", "--config-file", str(conf)]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    said = iter(process.stderr.readline, "")
    assert any(" started " in line for line in said)
    process.send_signal(signal.SIGUSR2)
    assert any("End of report" in line for line in said)
    process.terminate()
    assert process.wait(timeout=60) == 0
    process.stderr.close()
