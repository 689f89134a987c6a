"""Network namespaces: entering those of other processes for one command, and keeping those of our own.

Nothing here keeps a namespace of another process open: when its last process ends, it is gone with all its links.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cell_service.errors import WiringFailed

COMMAND_SECONDS = 20.0
_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


def start_ticks(pid: int) -> int | None:
    """When a living process was started, in clock ticks since boot; None when there is none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else int(fields[19])


@dataclass(frozen=True, slots=True)
class Namespace:
    """The network namespace of a process, named by its id and start so that no later process is taken for it."""

    pid: int
    started: int

    @contextlib.contextmanager
    def opened(self) -> Iterator[int]:
        """A descriptor of it for a short time. Raises WiringFailed when the process has ended."""
        try:
            fd = os.open(f"/proc/{self.pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise WiringFailed(reason=f"namespace of process {self.pid}: {error.strerror}") from error
        try:
            if start_ticks(self.pid) != self.started:
                raise WiringFailed(reason=f"process {self.pid} that held a namespace has ended")
            yield fd
        finally:
            os.close(fd)

    def run(self, command: Sequence[str], text: str = "", fds: Sequence[int] = ()) -> str:
        """The command's output, run inside. Raises WiringFailed with what it prints of its failure."""
        with self.opened() as fd:
            return run(("nsenter", f"--net=/proc/self/fd/{fd}", *command), text, (fd, *fds))

    def links(self) -> dict[str, dict[str, Any]]:
        """All links, by name."""
        return {link["ifname"]: link for link in json.loads(self.run(("ip", "-j", "-d", "link", "show")) or "[]")}

    def addresses(self, link: str) -> set[str]:
        """Addresses of a link with their prefix length, but those of the link itself."""
        shown = json.loads(self.run(("ip", "-j", "address", "show", "dev", link)) or "[]")
        infos = [info for one in shown for info in one.get("addr_info", ())]
        return {f"{info['local']}/{info['prefixlen']}" for info in infos if info.get("scope") != "link" or
                info["local"].startswith("169.254.")}  # fmt: skip

    def batch(self, lines: Sequence[Sequence[str]]) -> None:
        """Run `ip` once for all these lines of words. Raises WiringFailed at the first that fails."""
        if lines:
            self.run(("ip", "-batch", "-"), "".join(f"{' '.join(words)}\n" for words in lines))

    def listener(self, address: str, port: int) -> socket.socket:
        """A TCP socket that listens inside, for use anywhere."""
        made: list[socket.socket] = []
        failed: list[Exception] = []

        def inside() -> None:
            try:
                with self.opened() as fd:
                    if _libc.setns(fd, _CLONE_NEWNET) != 0:
                        raise OSError(ctypes.get_errno(), "setns")
                sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
                made.append(sock)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                sock.bind((address, port))
                sock.listen(64)
            except (OSError, WiringFailed) as error:
                failed.append(error)

        visitor = threading.Thread(target=inside, name="namespace-visit")  # its end takes the changed namespace along
        visitor.start()
        visitor.join()
        if failed:
            for sock in made:
                sock.close()
            raise WiringFailed(reason=f"listening on {address}:{port}: {failed[0]}")
        return made[0]


def run(command: Sequence[str], text: str = "", fds: Sequence[int] = ()) -> str:
    """The command's output. Raises WiringFailed."""
    try:
        done = subprocess.run(
            command, input=text, text=True, capture_output=True, timeout=COMMAND_SECONDS, pass_fds=fds, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise WiringFailed(reason=f"{command[0]}: {error}") from error
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip()[-400:]
        raise WiringFailed(reason=f"{' '.join(command[-6:])}: {said or done.returncode}")
    return done.stdout


def spawn(command: Sequence[str], fds: Sequence[int] = (), log_to: int = subprocess.DEVNULL) -> subprocess.Popen[bytes]:
    """A child that dies with the calling *thread*, so only call this from one that lives as long as the process."""
    return subprocess.Popen(
        ("setpriv", "--pdeathsig", "KILL", *command), stdin=subprocess.DEVNULL, stdout=log_to, stderr=log_to,
        pass_fds=fds, start_new_session=True,
    )  # fmt: skip


class ProcessNamespace:
    """A namespace of our own: it lives as long as its holder, which ends with the thread that made it."""

    def __init__(self) -> None:
        read, write = os.pipe()
        try:
            ready = "ip link set lo up && echo; exec >/dev/null 2>&1; exec sleep infinity"
            holder = ("unshare", "--net", "sh", "-c", ready)
            self._holder = spawn(holder, (), write)
            os.close(write)
            write = -1
            if not os.read(read, 1):
                raise WiringFailed(reason="no network namespace can be made here; are we root?")
        finally:
            os.close(read)
            if write >= 0:
                os.close(write)
        self.namespace = Namespace(self._holder.pid, start_ticks(self._holder.pid) or 0)

    @property
    def alive(self) -> bool:
        return self._holder.poll() is None

    def close(self) -> None:
        """End the holder; the namespace goes when nothing else is inside."""
        end(self._holder)


def end(child: subprocess.Popen[Any]) -> None:
    """End the child, and wait for its end."""
    if child.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            child.send_signal(signal.SIGKILL)
    child.wait()
