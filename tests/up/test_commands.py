"""What the commands of `polycell` say besides `up`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from dataclasses import asdict
from pathlib import Path

import pytest

from cell_service.errors import Invalid
from tests.real.databases import free_port, wait_until
from tools import policy
from tools.manage import main as manage
from tools.manage import status as manage_status
from tools.up import configs, record, show_logs
from tools.up import main as polycell
from tools.up import status as up_status
from tools.up.plan import Options, plan_of


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """Where a cloud was that is stopped."""
    state = tmp_path / "state"
    for name in ("logs", "db"):
        (state / name).mkdir(parents=True)
    (state / "logs" / "polycell.log").write_text("a launcher\nhost=cell1-host1 spawned\nrole=api began\n")
    for name in ("compute-cell1-host1", "compute-cell2-host1", "conductor-cell1", "api"):
        (state / "logs" / f"{name}.log").write_text("".join(f"{name} {number}\n" for number in range(9)))
    document = {
        "state": str(state), "driver": "simulated", "networking": "records", "why_not_more": "", "mode": "one process",
        "endpoints": {"compute": f"http://127.0.0.1:{free_port()}/v2.1"}, "cells": [], "processes": [],
        "launcher": None,
    }  # fmt: skip
    (state / "polycell.json").write_text(json.dumps(document))
    return state


@pytest.mark.parametrize("program", [polycell.main, manage.main, manage_status.main, policy.main])
def test_every_program_says_its_version(program: object, capsys: pytest.CaptureFixture[str]) -> None:
    assert callable(program)
    with pytest.raises(SystemExit) as ended:
        program(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.split()[-1][0].isdigit()


@pytest.mark.parametrize(
    ("name", "files"),
    [
        ("", ["api", "compute-cell1-host1", "compute-cell2-host1", "conductor-cell1", "polycell"]),
        ("compute", ["compute-cell1-host1", "compute-cell2-host1"]),
        ("cell1", ["compute-cell1-host1", "conductor-cell1"]),
        ("cell1-host1", ["compute-cell1-host1"]),
    ],
)
def test_logs_are_those_of_a_role_a_cell_or_a_host(
    state: Path, capsys: pytest.CaptureFixture[str], name: str, files: list[str]
) -> None:
    assert show_logs.show(state, name, 2, follow=False) == 0
    printed = capsys.readouterr().out.splitlines()
    named = [line.split()[1].removesuffix(".log") for line in printed if line.startswith("==>")]
    assert (named or files) == files
    if name:
        assert printed[-2:] == [f"{files[-1]} 7", f"{files[-1]} 8"]


def test_what_has_no_log_of_its_own_is_found_in_the_launchers(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in (state / "logs").glob("co*.log"):
        path.unlink()
    show_logs.show(state, "cell1-host1", 50, follow=False)
    assert capsys.readouterr().out == "host=cell1-host1 spawned\n"
    with pytest.raises(Invalid):
        show_logs.show(state / "elsewhere", "", 50, follow=False)


def test_logs_are_followed_until_ctrl_c(state: Path) -> None:
    command = [sys.executable, "-m", "tools.up.main", "logs", "api", "-f", "-n", "1", "--state", str(state)]
    command = ["env", "--default-signal=INT", *command]  # who started the tests may have it ignored
    told: list[str] = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as following:
        assert following.stdout is not None
        reader = threading.Thread(target=lambda: told.extend(following.stdout or ()))
        reader.start()
        try:
            wait_until(lambda: told == ["api 8\n"], "the last line never came", 60)
            with (state / "logs" / "api.log").open("a") as log:
                log.write("api 9\n")
            wait_until(lambda: told[1:] == ["api 9\n"], "the new line never came", 60)
            following.send_signal(signal.SIGINT)
            assert following.wait(60) == 130
        finally:
            following.kill()
            reader.join()
        assert following.stderr is not None
        assert following.stderr.read() == "polycell: stopping\n"


def test_down_deletes_what_is_a_cloud_and_nothing_else(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert polycell.main(["down", "--state", str(state)]) == 0
    assert state.is_dir()
    assert polycell.main(["down", "--delete", "--state", str(state / "logs")]) == 0
    assert (state / "logs" / "api.log").is_file()
    assert polycell.main(["down", "--delete", "--state", str(state)]) == 0
    assert not state.exists()
    assert f"deleted {state}" in capsys.readouterr().out


def test_status_says_where_things_are_and_what_comes_next(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert polycell.main(["status", "--state", str(state)]) == up_status.DOWN
    printed = capsys.readouterr().out
    assert f"Next: polycell up --state {state}" in printed
    assert f"Logs: {state}/logs" in printed
    assert "/v2.1/docs" in printed


def test_status_waits_until_it_is_healthy(monkeypatch: pytest.MonkeyPatch, state: Path) -> None:
    looks = [up_status.DOWN, up_status.DEGRADED, up_status.HEALTHY]
    monkeypatch.setattr(up_status, "POLL_SECONDS", 0)
    monkeypatch.setattr(up_status.Seen, "code", property(lambda _seen: looks[0] if len(looks) == 1 else looks.pop(0)))
    assert up_status.status(state, "json", wait_seconds=60) == up_status.HEALTHY


def test_who_sources_the_account_finds_the_client(tmp_path: Path) -> None:
    plan = plan_of(Options(tmp_path))
    configs.write_clients(plan)
    done = subprocess.run(
        ["/bin/sh", "-c", f". '{tmp_path}/openrc' && command -v openstack && echo $OS_USERNAME $POLYCELL_CONFIG_FILES"],
        capture_output=True, text=True, check=True, env={"PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    files = f"{tmp_path}/etc/nova.conf:{tmp_path}/etc/global.conf"
    assert done.stdout.split() == [str(Path(sys.executable).parent / "openstack"), "admin", files]


@pytest.fixture
def running(state: Path) -> Path:
    """The same, and its launcher lives: it is this process."""
    document = json.loads((state / "polycell.json").read_text())
    document["launcher"] = asdict(record.this_process("launcher"))
    (state / "polycell.json").write_text(json.dumps(document))
    configs.write_clients(plan_of(Options(state)))
    return state


def shell(state: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tools.up.main", "shell", "--state", str(state), *words]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, input="exit 9\n", env={**os.environ, **environment}
    )


def test_a_command_has_the_clouds_account_and_its_exit_code_is_passed_on(running: Path) -> None:
    said = 'echo "$OS_USERNAME" "$(command -v openstack)" "$OS_CLOUD" "$1"; exit 7'
    done = shell(running, "--", "sh", "-c", said, "sh", "a b", OS_CLOUD="another")
    assert done.returncode == 7
    assert done.stdout == f"admin {configs.programs() / 'openstack'}  a b\n"
    assert shell(running, "there-is-no-such-command").returncode == 127


def test_without_a_command_it_is_the_users_shell(running: Path) -> None:
    assert shell(running, SHELL="/bin/sh").returncode == 9


def test_a_shell_needs_a_cloud_that_runs(state: Path) -> None:
    for where, said in ((state, f"no cloud runs in {state}"), (state / "db", "has no cloud")):
        done = shell(where, "--", "echo", "run")
        assert (done.returncode, done.stdout) == (1, "")
        assert said in done.stderr
        assert len(done.stderr.splitlines()) == 1
