"""A private libvirtd, one for a test session, and drivers on it."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.real.databases import wait_until
from tools.hypervisors.host import PrivateHost

PROGRAMS = ("libvirtd", "qemu-system-x86_64", "qemu-img", "unshare", "setpriv", "ip", "mkswap", "mkfs.ext4")


def missing() -> str:
    """Why no private libvirtd can be had; empty when it can."""
    if os.geteuid() != 0:
        return "needs root, for namespaces"
    try:
        import libvirt
    except ImportError:
        return "needs libvirt-python"
    del libvirt
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    absent = [name for name in PROGRAMS if shutil.which(name, path=path) is None]
    if absent:
        return f"needs {', '.join(absent)}"
    tried = subprocess.run(["unshare", "--net", "--mount", "--pid", "--fork", "true"], capture_output=True, check=False)
    return "needs namespaces" if tried.returncode else ""


class PrivateLibvirtd:
    """A host of `tools.hypervisors`, and the processes in it."""

    def __init__(self, state: Path, name: str, *, user: str = "root", group: str = "root") -> None:
        self.host = PrivateHost(name, state, user=user, group=group)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def uri(self) -> str:
        return self.host.uri

    def start(self) -> None:
        """It answers afterwards."""
        log = self.host.state / "init.log"
        command = self.host.prepare()
        with log.open("ab") as file:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=file, stderr=file)
        wait_until(self.answers, f"libvirtd does not start, see {log}")

    def answers(self) -> bool:
        asked = ["virsh", "-q", "-c", self.uri, "hostname"]
        return subprocess.run(asked, capture_output=True, stdin=subprocess.DEVNULL, check=False).returncode == 0

    def kill_libvirtd(self) -> None:
        """The daemon is gone at once; the host starts it again by itself, and its guests run on."""
        init = self.host.pid()
        for line in Path(f"/proc/{init}/task/{init}/children").read_text().split():
            for child in _children(int(line)):
                if Path(f"/proc/{child}/comm").read_text().strip() == "libvirtd":
                    os.kill(child, signal.SIGKILL)

    def cut_power(self) -> None:
        """The host and all its guests end at once."""
        if self._process is None:
            return
        pid = self.host.pid()
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.kill()
        self._process.wait()
        self._process = None

    def stop(self) -> None:
        self.cut_power()
        self.host.remove()


def _children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.fixture(scope="session")
def libvirtd() -> Iterator[PrivateLibvirtd]:
    reason = missing()
    if reason:
        pytest.skip(reason)
    with tempfile.TemporaryDirectory(prefix="pcv-") as name:
        server = PrivateLibvirtd(Path(name), f"t{os.getpid()}")
        server.start()
        try:
            yield server
        finally:
            server.stop()
