"""A private memcached for one test."""

from __future__ import annotations

import os
import pwd
import signal
import socket
import subprocess
from collections.abc import Iterator

import pytest

from tests.real.databases import free_port, is_stopped, wait_until


class Memcached:
    def __init__(self) -> None:
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        """It answers afterwards, and is empty."""
        user = pwd.getpwuid(os.getuid()).pw_name
        self._process = subprocess.Popen(["memcached", "-l", "127.0.0.1", "-p", str(self.port), "-m", "16", "-u", user])
        wait_until(self._answers, "memcached does not start")

    def freeze(self) -> None:
        assert self._process is not None
        process = self._process.pid
        self._process.send_signal(signal.SIGSTOP)
        wait_until(lambda: is_stopped(process), "memcached does not freeze")

    def thaw(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait(timeout=20)
            self._process = None

    def flush(self) -> None:
        """Forget everything."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=20) as asking:
            asking.sendall(b"flush_all\r\n")
            assert asking.recv(100) == b"OK\r\n"

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, "memcached has ended"
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as asking:
                asking.sendall(b"version\r\n")
                return asking.recv(100).startswith(b"VERSION")
        except OSError:
            return False


@pytest.fixture
def memcached() -> Iterator[Memcached]:
    server = Memcached()
    server.start()
    try:
        yield server
    finally:
        server.stop()
