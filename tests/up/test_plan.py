"""The launcher's decisions, before anything is started; and its files."""

from __future__ import annotations

import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from cell_service.config import load, read
from cell_service.errors import Invalid
from cell_service.peers.settings import KeystoneAuthtoken, NeutronSettings
from tests.real.databases import free_port, free_ports
from tools.companions.volume.settings import NBD, NONE, VolumeSettings
from tools.up import configs, record
from tools.up.drivers import BRIDGED, RECORDS, USER, Choice
from tools.up.plan import RESERVED_PORTS, Options, plan_of
from tools.up.tiny_image import CLUSTER, VIRTUAL_BYTES, tiny_qcow2


def up(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tools.up.main", "up", "--driver", "simulated", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--database", "nonsense"], "--database nonsense must have {cell}"),
        (["--database", "oracle://x/{cell}"], "not SQLite, MySQL/MariaDB or PostgreSQL"),
        (["--transport", "carrier-pigeon://{cell}"], "Invalid transport URL"),
        (["--cache", "redis://localhost"], "--cache"),
        (["--auth", "nobody"], "--auth"),
        (["--driver", "libvirt", "--libvirt-uri", "xen:///"], "--libvirt-uri"),
        (["--driver", "hyperv"], "--driver"),
        (["--cells", "0"], "--cells must be at least 1"),
        (["--port-base", "99999"], "--port-base"),
        (["--tls-cert", "/nothing"], "--tls-cert /nothing can't be used"),
        (["--tls-key", "/nothing"], "need --tls-cert"),
        (["--workers", "2"], "--workers needs --processes"),
        (["--database", "mysql://root:s3cret@h/one"], "must have {cell}"),
    ],
)
def test_what_cannot_be_is_one_clear_line(tmp_path: Path, words: list[str], said: str) -> None:
    done = up("--state", str(tmp_path / "state"), *words)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert done.stderr.startswith("polycell: ")
    assert said in done.stderr
    assert "s3cret" not in done.stderr


@pytest.mark.parametrize("detach", [[], ["--detach"]])
def test_a_port_in_use_is_one_clear_line(tmp_path: Path, detach: list[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = up("--state", str(tmp_path / "state"), "--port-base", str(port), *detach)
    assert done.returncode == 1
    assert f"port {port} for compute can't be used" in done.stderr
    first, *others = done.stderr.splitlines()  # others: a program has one of the ports that follow, too
    assert all("can't be used: Address already in use" in line for line in others or [first]), done.stderr


@pytest.mark.parametrize("detach", [[], ["--detach"]])
def test_each_line_of_a_failure_is_an_error(tmp_path: Path, detach: list[str]) -> None:
    base = free_ports(RESERVED_PORTS)
    with socket.create_server(("127.0.0.1", base)), socket.create_server(("127.0.0.1", base + 1)):
        done = up("--state", str(tmp_path / "state"), "--port-base", str(base), *detach)
    assert done.returncode == 1
    assert done.stderr.splitlines()[0] == "polycell: 2 things are in the way:"
    assert len(done.stderr.splitlines()) == 3
    assert "can't be used" not in done.stdout


def test_a_directory_that_cannot_be_written_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = up("--state", str(tmp_path / "file" / "state"))
    assert done.returncode == 1
    assert "can't be written" in done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr


def test_a_database_that_does_not_answer_is_one_clear_line(tmp_path: Path) -> None:
    port = free_port()
    url = f"mysql://root:s3cret@127.0.0.1:{port}/{{cell}}"
    done = up("--state", str(tmp_path / "state"), "--port-base", str(free_ports(RESERVED_PORTS)), "--database", url)
    assert done.returncode == 1
    assert "the database of" in done.stderr
    assert "s3cret" not in done.stderr + done.stdout


def test_each_cell_may_have_a_url_of_its_own(tmp_path: Path) -> None:
    values = ("mysql://u@h/{cell}", "cell1=postgresql://u@other/nova")
    plan = plan_of(Options(tmp_path, database=values))
    assert plan.databases == {
        "api": "mysql://u@h/api",
        "cell0": "mysql://u@h/cell0",
        "cell1": "postgresql://u@other/nova",
        "cell2": "mysql://u@h/cell2",
    }


def test_two_cells_never_share_a_database(tmp_path: Path) -> None:
    with pytest.raises(Invalid):
        plan_of(Options(tmp_path, database=("mysql://u@h/{cell}", "cell1=mysql://u@h/cell2")))


def test_the_files_say_what_was_planned_and_are_the_owners_alone(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    plan = plan_of(Options(tmp_path, cache="memcached://127.0.0.1:11311"))
    configs.write_configs(plan)
    configs.write_clients(plan)
    conf = load([str(plan.config("nova")), str(plan.config("cell1"))])
    assert read(conf, KeystoneAuthtoken).account["password"] == plan.passwords["nova"]
    assert read(conf, NeutronSettings).endpoint_override == plan.endpoint("network")
    for path in (*(tmp_path / "etc").iterdir(), tmp_path / "openrc", tmp_path / "clouds.yaml"):
        assert path.stat().st_mode & 0o077 == 0, path


@pytest.mark.parametrize(
    ("choice", "export"),
    [(Choice("simulated", RECORDS), NONE), (Choice("libvirt", BRIDGED), NBD),
     (Choice("libvirt", USER, libvirt_uri="qemu:///session"), NBD)],
)  # fmt: skip
def test_only_real_hosts_reach_what_is_in_volumes(tmp_path: Path, choice: Choice, export: str) -> None:
    (tmp_path / "etc").mkdir()
    plan = replace(plan_of(Options(tmp_path)), choice=choice)
    configs.write_configs(plan)
    settings = read(load([str(plan.config("nova"))]), VolumeSettings)
    assert (settings.volume_export, settings.volume_export_group) == (export, "")


def test_passwords_stay_the_same(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    first = plan_of(Options(tmp_path))
    configs.write_configs(first)
    assert plan_of(Options(tmp_path)).passwords == first.passwords


def test_a_pid_that_was_used_again_is_not_ours() -> None:
    mine = record.this_process("api")
    assert record.is_ours(mine.pid, mine.started)
    assert not record.is_ours(mine.pid, mine.started - 1)


def test_the_tiny_image_is_a_qcow2() -> None:
    image = tiny_qcow2()
    assert image[:8] == b"QFI\xfb\x00\x00\x00\x02"
    assert int.from_bytes(image[24:32], "big") == VIRTUAL_BYTES
    assert len(image) == 4 * CLUSTER
