"""A private RabbitMQ for a test session, with a virtual host of its own for each test."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import socket
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.real.databases import free_port, is_stopped, wait_until

PROGRAMS = Path("/usr/lib/rabbitmq/bin")
PASSWORD = "s3cr/t"
EVAL_VHOST = (
    '_ = rabbit_vhost:add(<<"{0}">>, <<"t">>), '
    'rabbit_auth_backend_internal:set_permissions(<<"t">>, <<"{0}">>, <<".*">>, <<".*">>, <<".*">>, <<"t">>).'
)
EVAL_USER = 'rabbit_auth_backend_internal:add_user(<<"t">>, <<"{0}">>, <<"t">>).'


class RabbitMq:
    """A broker in a directory of its own, with a port, a cookie and a name server (epmd) of its own."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.port = free_port()
        self._node = f"t{uuid.uuid4().hex[:8]}@localhost"
        cookie = directory / ".erlang.cookie"
        cookie.write_text(uuid.uuid4().hex)
        cookie.chmod(0o600)
        (directory / "rabbitmq.conf").write_text(
            f"listeners.tcp.1 = 127.0.0.1:{self.port}\nloopback_users = none\nlog.file.level = warning\n"
            "disk_free_limit.absolute = 10MB\nvm_memory_high_watermark.absolute = 1GB\n"
        )
        (directory / "enabled_plugins").write_text("[].\n")
        self._environment = {
            "PATH": os.environ["PATH"],
            "LANG": "C.UTF-8",
            "HOME": str(directory),
            "ERL_EPMD_PORT": str(free_port()),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": self._node,
            "RABBITMQ_DIST_PORT": str(free_port()),
            "RABBITMQ_MNESIA_BASE": str(directory / "mnesia"),
            "RABBITMQ_LOG_BASE": str(directory / "log"),
            "RABBITMQ_CONFIG_FILE": str(directory / "rabbitmq.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(directory / "enabled_plugins"),
            "RABBITMQ_PID_FILE": str(directory / "pid"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 1:1 +sbwt none +sbwtdcpu none +sbwtdio none +A 4",
        }
        self._process: subprocess.Popen[bytes] | None = None
        self._epmd = subprocess.Popen(
            ["epmd", "-address", "127.0.0.1", "-port", self._environment["ERL_EPMD_PORT"]],
            env=self._environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip

    def start(self) -> None:
        """It answers afterwards."""
        wait_until(lambda: not self._listens(), "the port of the broker before is still open")
        with (self._directory / "output").open("ab") as output:
            self._process = subprocess.Popen(
                [str(PROGRAMS / "rabbitmq-server")],
                env=self._environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
            )  # fmt: skip
        wait_until(self._answers, f"RabbitMQ does not start, see {self._directory}", seconds=100)

    def add_user(self) -> None:
        self.control("eval", EVAL_USER.format(PASSWORD))

    def new_vhost(self) -> str:
        """An empty virtual host. Answers its URL."""
        name = f"t{uuid.uuid4().hex[:12]}"
        self.control("eval", EVAL_VHOST.format(name))
        return self.url(name)

    def url(self, vhost: str) -> str:
        return f"rabbit://t:{PASSWORD.replace('/', '%2F')}@127.0.0.1:{self.port}/{vhost}"

    def control(self, *words: str) -> str:
        command = [str(PROGRAMS / "rabbitmqctl"), "-q", "-n", self._node, *words]
        done = subprocess.run(command, env=self._environment, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def write_control(self, path: Path) -> None:
        """A program at `path` that is `rabbitmqctl` of this broker."""
        variables = " ".join(f"{name}={shlex.quote(value)}" for name, value in self._environment.items())
        path.write_text(f'#!/bin/sh\nexec env {variables} {PROGRAMS / "rabbitmqctl"} -n {self._node} "$@"\n')
        path.chmod(0o700)

    def freeze(self) -> None:
        """It keeps its port and its connections, and does nothing."""
        self._signal(signal.SIGSTOP)
        wait_until(lambda: all(map(is_stopped, self._processes())), "the broker does not freeze")

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        """As a power cut would."""
        if self._process is not None:
            self._signal(signal.SIGKILL)
            self._process.wait(timeout=60)
            wait_until(lambda: not self._listens(), "the killed broker still listens")

    def revive(self) -> None:
        """It answers afterwards, whatever was done to it."""
        if self._process is not None and self._process.poll() is None:
            self.thaw()
        else:
            self.start()

    def stop(self) -> None:
        self.kill()
        self._epmd.kill()
        self._epmd.wait(timeout=20)

    def _processes(self) -> list[int]:
        assert self._process is not None
        found, new = [], [self._process.pid]
        while new:
            found += new
            new = [child for process in new for child in _children(process)]
        return found

    def _signal(self, number: int) -> None:
        for process in self._processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, number)

    def _listens(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        except OSError:
            return False
        return True

    def _answers(self) -> bool:
        """It greets whoever says the protocol's name."""
        assert self._process is not None
        assert self._process.poll() is None, (self._directory / "output").read_text(errors="replace")[-2000:]
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as asking:
                asking.sendall(b"AMQP\x00\x00\x09\x01")
                return asking.recv(1) == b"\x01"
        except OSError:
            return False


def _children(process: int) -> list[int]:
    try:
        listed = Path(f"/proc/{process}/task/{process}/children").read_text(encoding="ascii")
    except OSError:
        return []
    return [int(number) for number in listed.split()]


@pytest.fixture(scope="session")
def rabbitmq() -> Iterator[RabbitMq]:
    """A broker of this session. Tests that freeze or kill it must revive it."""
    directory = Path(tempfile.mkdtemp(prefix="polycell-mq-"))
    broker = RabbitMq(directory)
    try:
        broker.start()
        broker.add_user()
        yield broker
    finally:
        broker.stop()
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def vhost_url(rabbitmq: RabbitMq) -> str:
    """The URL of an empty virtual host."""
    rabbitmq.revive()
    return rabbitmq.new_vhost()
