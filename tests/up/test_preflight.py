"""What a cloud is to use is tried first: every problem is named at once, and Ctrl-C is noticed meanwhile."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from cell_service.errors import Invalid
from tests.real.databases import free_port, free_ports
from tools.companions.identity.service import IdentitySettings, Seed, make_identity, seed
from tools.up import preflight
from tools.up.plan import RESERVED_PORTS, Options, plan_of

QUICK = IdentitySettings(password_rounds=4)


@pytest.fixture
def silent() -> Iterator[int]:
    """A port whose server accepts connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as server:
        yield server.getsockname()[1]


def refused(options: Options) -> str:
    with pytest.raises(Invalid) as error:
        preflight.check(plan_of(options), print, threading.Event())
    return str(error.value.fields["reason"])


def test_one_problem_is_one_line(tmp_path: Path) -> None:
    port = free_port()
    said = refused(Options(tmp_path, cache=f"127.0.0.1:{port}", port_base=free_ports(RESERVED_PORTS)))
    assert said.startswith(f"the cache at 127.0.0.1:{port} can't be used: ")
    assert "\n" not in said


def test_every_problem_is_named_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OS_USERNAME", raising=False)
    port, base = free_port(), free_ports(RESERVED_PORTS)
    options = Options(
        tmp_path, cells=1, port_base=base, cache=f"127.0.0.1:{port}", auth=f"http://127.0.0.1:{port}/v3",
        transport=(f"rabbit://user:s3cret@127.0.0.1:{port}/{{cell}}",),
        database=(f"mysql+pymysql://user:s3cret@127.0.0.1:{port}/{{cell}}",),
    )  # fmt: skip
    with socket.create_server(("127.0.0.1", base)), socket.create_server(("127.0.0.1", base + 4)):
        said = refused(options)
    assert said.startswith("9 things are in the way:\n")
    queues = [f"the queue of {name} can't be used: " for name in ("api", "cell1")]
    bases = [f"the database of {name} can't be used: " for name in ("api", "cell0", "cell1")]
    ports = [f"port {base} for compute", f"port {base + 4} for network"]
    for words in (*ports, *queues, *bases, "the cache at ", "OS_USERNAME"):
        assert words in said
    assert "s3cret" not in said


def test_a_keystone_is_tried_with_the_account_of_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seed(tmp_path, Seed({"admin": "pw"}, {"identity": "http://keystone/v3"}), QUICK)
    identity = make_identity(tmp_path, QUICK)
    identity.start(0)
    for name, value in {"USERNAME": "admin", "PASSWORD": "pw", "PROJECT_NAME": "admin"}.items():
        monkeypatch.setenv(f"OS_{name}", value)
    options = Options(tmp_path, auth=f"{identity.url}/v3", port_base=free_ports(RESERVED_PORTS))
    try:
        preflight.check(plan_of(options), print, threading.Event())
        monkeypatch.setenv("OS_PASSWORD", "another")
        said = refused(options)
    finally:
        identity.drain()
    assert said.startswith(f"the Keystone at {options.auth} does not let admin in: ")


def test_a_keystone_that_does_not_answer_is_one_short_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("USERNAME", "PASSWORD", "PROJECT_NAME"):
        monkeypatch.setenv(f"OS_{name}", "x")
    url = f"http://127.0.0.1:{free_port()}/v3"
    said = refused(Options(tmp_path, auth=url, port_base=free_ports(RESERVED_PORTS)))
    assert "Unable to establish connection" in said
    assert "HTTPConnectionPool" not in said


@pytest.mark.parametrize("detach", [True, False])
def test_ctrl_c_is_noticed_while_a_queue_says_nothing(tmp_path: Path, silent: int, detach: bool) -> None:
    words = ["up", "--driver", "simulated", "--state", str(tmp_path / "state"), *(["--detach"] if detach else [])]
    words += [
        "--port-base",
        str(free_ports(RESERVED_PORTS)),
        "--transport",
        f"rabbit://u:p@127.0.0.1:{silent}/{{cell}}",
    ]
    command = ["env", "--default-signal=INT", sys.executable, "-c", HANGING, *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as starting:
        assert starting.stdout is not None
        assert any("trying" in line for line in iter(starting.stdout.readline, ""))
        starting.send_signal(signal.SIGINT)
        printed, said = starting.communicate(timeout=300)
    assert starting.returncode == 130
    assert "stopping" in printed + said
    assert "Traceback" not in printed + said


HANGING = """
import sys
from tools.up import main, preflight
preflight.SECONDS = 3600.0
sys.exit(main.main(sys.argv[1:]))
"""
"""`polycell`, whose checks never end by themselves."""
