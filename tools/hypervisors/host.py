"""One private host: a libvirtd with its own network, mounts, processes and name, and nothing left when it ends.

The host lives as long as its first process, which dies with the process that started it. Its files have the same paths
inside and outside, so an agent outside works on the same images and disks; its unix socket crosses the namespaces.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from cell_service.errors import Invalid

INIT = Path(__file__).with_name("init.sh")
SOCKET = "libvirt-sock"
LONGEST_NAME = 24
LONGEST_STATE_BYTES = 45
"""The most bytes of a state directory's path: the kernel takes about a hundred bytes for a socket's path, with all that
comes after."""

_LIBVIRTD = """\
listen_tls = 0
listen_tcp = 0
auth_unix_rw = "none"
auth_unix_ro = "none"
unix_sock_group = "{group}"
unix_sock_rw_perms = "0770"
host_uuid = "{uuid}"
log_outputs = "2:file:/var/log/libvirt/libvirtd.log"
max_clients = 200
keepalive_interval = 5
keepalive_count = 3
"""
_QEMU = """\
user = "{user}"
group = "{group}"
security_driver = "none"
security_default_confined = 0
namespaces = []
cgroup_controllers = []
stdio_handler = "file"
remember_owner = {owned}
dynamic_ownership = {owned}
swtpm_user = "{user}"
swtpm_group = "{group}"
"""


@dataclass(frozen=True, slots=True)
class PrivateHost:
    """The paths of a private host. `state` is the installation's directory; `cache` may be shared by hosts. `user` and
    `group`: as which its guests run, and who may use its libvirtd."""

    name: str
    state: Path
    hide_kvm: bool = True
    user: str = "root"
    group: str = "root"

    @property
    def directory(self) -> Path:
        return self.state / "hypervisors" / self.name

    @property
    def cache(self) -> Path:
        """The file in which libvirt keeps its findings about QEMU: they take a second or two, and are the same for all
        hosts."""
        return self.state / "hypervisors" / "cache"

    @property
    def run(self) -> Path:
        """The directory with the host's socket, whose path must be short."""
        if len(str(self.state).encode()) <= LONGEST_STATE_BYTES:
            return self.directory / "run"
        mark = hashlib.sha256(str(self.state).encode()).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"polycell-{mark}-{self.name}"

    @property
    def uri(self) -> str:
        return f"qemu+unix:///system?socket={self.run / SOCKET}"

    @property
    def record(self) -> Path:
        return self.state / "run" / "hypervisors" / f"{self.name}.json"

    def prepare(self) -> list[str]:
        """Write the host's files. Answers the command that is the host, to be run by root as a child process.

        Raises Invalid for a name that can't be a host's.
        """
        if not self.name.replace("-", "").isalnum() or len(self.name) > LONGEST_NAME:
            raise Invalid(reason=f"{self.name} is not a host name")
        for name in ("lib", "log", "etc", "etc/qemu"):
            (self.directory / name).mkdir(parents=True, exist_ok=True)
        for path in (self.run, self.cache, self.record.parent):
            path.mkdir(parents=True, exist_ok=True)
        self.record.unlink(missing_ok=True)
        etc = self.directory / "etc"
        uuid = self.directory / "uuid"
        if not uuid.exists():
            uuid.write_text(str(uuid4()), encoding="ascii")
        etc.joinpath("libvirtd.conf").write_text(
            _LIBVIRTD.format(uuid=uuid.read_text("ascii"), group=self.group), "ascii"
        )
        qemu = _QEMU.format(user=self.user, group=self.group, owned=int(self.user != "root"))
        etc.joinpath("qemu.conf").write_text(qemu, "ascii")
        etc.joinpath("libvirt.conf").touch()
        words = (self.name, self.directory, self.run, self.cache, self.record, self.uri, int(self.hide_kvm))
        return [
            "setpriv", "--pdeathsig", "KILL",
            "unshare", "--net", "--mount", "--uts", "--ipc", "--pid", "--fork", "--kill-child=KILL",
            "bash", str(INIT), *map(str, words),
        ]  # fmt: skip

    def pid(self) -> int | None:
        """The host's first process, by its id outside; None while it is not up. Its network namespace is
        /proc/<pid>/ns/net."""
        try:
            return int(json.loads(self.record.read_text(encoding="ascii"))["pid"])
        except (OSError, ValueError, KeyError):
            return None

    def remove(self) -> None:
        """Forget the host. It must have ended."""
        self.record.unlink(missing_ok=True)
        for path in (self.run, self.directory):
            shutil.rmtree(path, ignore_errors=True)
