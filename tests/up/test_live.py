"""What running processes say of themselves: stacks, metrics, and what they take up without a restart."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.real.databases import is_stopped, wait_until
from tools.up import live, record


@contextmanager
def service(directory: Path, more: str = "") -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """A service that runs, with its configuration."""
    conf = directory / "nova.conf"
    conf.write_text(f"[DEFAULT]\ntransport_url = local://{directory}/q\n{more}[oslo_reports]\nlog_dir = {directory}\n")
    words = [sys.executable, "-m", "tools.up.main", "service", "queue", "--config-file", str(conf)]
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as process:
        try:
            await_line(process, " started ")
            yield process, conf
        finally:
            process.send_signal(signal.SIGCONT)
            process.kill()


def await_line(process: subprocess.Popen[str], words: str) -> str:
    """The first line of its log that has these words."""
    assert process.stderr is not None
    found = next((line for line in iter(process.stderr.readline, "") if words in line), "")
    assert found, f"it has ended without {words!r}"
    return found


def document(*processes: record.Running) -> dict[str, Any]:
    return {"launcher": None, "processes": [asdict(each) for each in processes]}


def test_the_stacks_of_all_processes_are_had_and_a_frozen_one_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = [tmp_path / name for name in ("well", "frozen")]
    for each in places:
        each.mkdir()
    with service(places[0]) as (well, _), service(places[1]) as (frozen, _):
        frozen.send_signal(signal.SIGSTOP)
        wait_until(lambda: is_stopped(frozen.pid), "it does not stop")
        known = document(*(record.of_process(each.pid, "queue", "cell1") for each in (well, frozen)))
        monkeypatch.setattr(live, "STACK_SECONDS", 2.0)
        wait_until(lambda: any(part.text for part in live.stacks(known, places[0])), "no report was written", 120)
        named = [part for part in live.stacks(known, places[1]) if str(frozen.pid) in part.file]
    assert [part.note for part in named] == ["queue cell1 wrote no report within 2 s: is it frozen?"]


def test_a_process_that_has_no_handler_is_left_alone(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as plain:
        assert list(live.stacks(document(record.of_process(plain.pid, "hypervisor")), tmp_path)) == []
        plain.communicate(b"\n")
    assert plain.returncode == 0


def test_each_process_that_serves_an_api_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    turns = itertools.cycle(("7", "7", "8"))

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            process = next(turns)
            self.send_response(200)
            self.send_header(live.PROCESS, process)
            self.end_headers()
            self.wfile.write(f"of {process}".encode())

        def log_message(self, *_words: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        workers = [record.Running("api", None, None, pid) for pid in (7, 8)]
        monkeypatch.setattr(record, "living", lambda _document: workers)
        parts = live.metrics({"endpoints": {"compute": f"{url}/v2.1", "placement": url}})
        found = {part.file: (part.text, part.note) for part in parts}
        server.shutdown()
    assert found["metrics/compute-7.txt"] == ("of 7", "")
    assert found["metrics/compute-8.txt"] == ("of 8", "")
    assert found["metrics/placement-7.txt"] == ("of 7", "")


def test_sighup_takes_up_what_is_reloadable(tmp_path: Path) -> None:
    with service(tmp_path, "debug = false\n") as (process, conf):
        conf.write_text(conf.read_text().replace("debug = false", "debug = true\nreport_interval = 7"))
        process.send_signal(signal.SIGHUP)
        assert "report_interval" in await_line(process, "immutable")
        assert "changed=[DEFAULT]debug" in await_line(process, "configuration reloaded")
        conf.write_text("no section = at all\n")
        process.send_signal(signal.SIGHUP)
        await_line(process, "configuration not reloaded")
        os.kill(process.pid, 0)
        process.terminate()
        assert process.wait(60) == 0
