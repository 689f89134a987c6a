"""A qemu-nbd: one process that serves one file at a unix socket."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

from cell_service.errors import DriverError, Invalid

PROGRAMS = ("qemu-nbd", "qemu-img", "setpriv")
LONGEST_SOCKET_BYTES = 107
START_SECONDS, END_SECONDS = 60.0, 10.0
_POLL_SECONDS = 0.005


def lacking() -> str:
    """The programs that are missing, in words; empty when none is."""
    return ", ".join(name for name in PROGRAMS if shutil.which(name) is None)


def start(path: Path, socket: Path, name: str, group: int | None) -> subprocess.Popen[bytes]:
    """Serve the raw file as the export `name`. The server listens, and ends with the thread that started it. `group`:
    see `socket_directory`. Raises DriverError, OSError."""
    ready, output = socket.with_suffix(".pid"), socket.with_suffix(".log")
    for old in (socket, ready):
        old.unlink(missing_ok=True)
    with output.open("wb") as said:
        process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "qemu-nbd", "--socket", socket, "--pid-file", ready,
             "--export-name", name, "--format", "raw", "--persistent", "--shared", "0",
             "--cache", "writeback", "--aio", "threads", "--discard", "unmap", path],
            stdin=subprocess.DEVNULL, stdout=said, stderr=said, umask=0o177, start_new_session=True,
        )  # fmt: skip
    until = time.monotonic() + START_SECONDS
    while process.poll() is None and not ready.exists() and time.monotonic() < until:
        time.sleep(_POLL_SECONDS)
    if process.poll() is not None or not ready.exists():
        _kill(process)
        words = output.read_text(encoding="utf-8", errors="replace").strip()[-300:]
        forget(socket)
        raise DriverError(reason=f"{name} is not served: {words or 'qemu-nbd does not listen'}")
    if group is not None:
        os.chown(socket, -1, group)
        socket.chmod(0o660)
    return process


def forget(socket: Path) -> None:
    """Remove the files of a server that has ended."""
    for ending in (".sock", ".pid", ".log"):
        socket.with_suffix(ending).unlink(missing_ok=True)


def socket_directory(state: Path, group: int | None) -> Path:
    """The directory of the sockets: in the state directory, unless paths are too long there, or others must reach it.
    Raises Invalid."""
    directory = state / "nbd"
    longest = len(os.fsencode(directory)) + len("/.sock") + 36
    if group is not None or longest > LONGEST_SOCKET_BYTES:
        mark = hashlib.sha256(os.fsencode(state)).hexdigest()[:16]
        directory = Path(tempfile.gettempdir()) / f"polycell-{mark}-nbd"
    directory.mkdir(mode=0o700, exist_ok=True)
    status = directory.lstat()
    if directory.is_symlink() or status.st_uid != os.geteuid():
        raise Invalid(reason=f"{directory} is another user's, so sockets of volumes can't be there.")
    if group is not None:
        os.chown(directory, -1, group)
    directory.chmod(0o700 if group is None else 0o710)
    return directory


def await_stop(process: subprocess.Popen[bytes]) -> None:
    """Returns when no thread of the process runs any more: what it was writing is written."""
    while process.poll() is None and not all(_is_stopped(task) for task in Path(f"/proc/{process.pid}/task").iterdir()):
        time.sleep(_POLL_SECONDS)


def _is_stopped(task: Path) -> bool:
    try:
        state = (task / "stat").read_text(encoding="ascii", errors="replace").rpartition(") ")[2][:1]
    except OSError:
        return True
    return state in ("T", "t", "Z", "X")


def stop(process: subprocess.Popen[bytes]) -> None:
    """End the server, which closes its file as it should, if it can."""
    if process.poll() is None:
        for number in (signal.SIGTERM, signal.SIGCONT):
            process.send_signal(number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(END_SECONDS)
    _kill(process)


def _kill(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.kill()
        process.wait()
