"""A config drive: a small disk with files on it, found by its label."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Collection, Sequence
from pathlib import Path, PurePosixPath

from cell_service.errors import DriverError, HostOutOfSpace
from compute_host.disk_space import from_os as from_os
from compute_host.virt.driver import DriveFile

LABEL = "config-2"
VFAT_BYTES = 64 * 2**20
TOOL_SECONDS = 120


def make(files: tuple[DriveFile, ...], target: Path, kind: str, mkisofs: str) -> None:
    """Write the drive, whole or not at all. `kind`: iso9660 or vfat. Raises DriverError, HostOutOfSpace."""
    part = target.with_name(f"{target.name}.part")
    try:
        with tempfile.TemporaryDirectory(prefix="drive-", dir=target.parent) as name:
            tree = Path(name) / "tree"
            _write_tree(files, tree)
            if kind == "vfat":
                _vfat(tree, part, sum(len(file.content) for file in files))
            else:
                run([mkisofs, "-o", part, "-ldots", "-allow-lowercase", "-allow-multidot", "-l", "-publisher",
                     "Polycell", "-quiet", "-J", "-r", "-V", LABEL, tree])  # fmt: skip
        os.replace(part, target)
    except OSError as error:
        raise from_os("the config drive cannot be written", error) from error
    finally:
        part.unlink(missing_ok=True)


_UNMEASURED, _MEASUREMENTS = "Unable to get accurate CPU usage", 20


def run(command: Sequence[str | Path], seconds: float = TOOL_SECONDS, *, accepted: Collection[int] = (0,)) -> str:
    """Run the command, which ends well with one of the `accepted` codes. Returns what it printed. Raises
    HostOutOfSpace, DriverError; a command that hangs is killed, and so is one whose agent is: it would go on writing
    to the files of the next try."""
    words = [str(word) for word in command]
    with_us, program = _found("setpriv"), _found(words[0])
    try:
        done = subprocess.run(
            [with_us, "--pdeathsig", "KILL", program, *words[1:]], capture_output=True, text=True, errors="replace",
            timeout=seconds, stdin=subprocess.DEVNULL, env={**os.environ, "LC_ALL": "C"}, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise DriverError(reason=f"{words[0]} did not end within {seconds:g} seconds.") from None
    if done.returncode not in accepted:
        said = (done.stderr or done.stdout).strip()[-300:]
        if "no space left" in said.lower():
            raise HostOutOfSpace(reason=f"The host has no space left ({words[0]}: {said})")
        raise DriverError(reason=f"{words[0]} failed: {said}")
    return done.stdout


def make_luks(command: Sequence[str | Path], seconds: float = TOOL_SECONDS) -> None:
    """Run a command of qemu-img's that makes a LUKS header. QEMU measures first how fast it is, by the processor time
    of a thread, and gives up where the machine counts that too coarsely to show any: then it is run again. Raises as
    `run`."""
    for attempt in range(1, _MEASUREMENTS + 1):
        try:
            run(command, seconds)
            return
        except DriverError as error:
            if _UNMEASURED not in str(error) or attempt == _MEASUREMENTS:
                raise


def _found(name: str) -> str:
    path = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if path is None:
        raise DriverError(reason=f"The program {name} is not installed on this host.")
    return path


def _write_tree(files: tuple[DriveFile, ...], tree: Path) -> None:
    tree.mkdir()
    for file in files:
        relative = PurePosixPath(file.path)
        if relative.is_absolute() or ".." in relative.parts or not relative.parts:
            raise DriverError(reason=f"{file.path!r} is no name of a file on a config drive.")
        path = tree / relative
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(file.content)


def _vfat(tree: Path, part: Path, content_bytes: int) -> None:
    with part.open("wb") as file:
        file.truncate(max(VFAT_BYTES, 2 * content_bytes))
    run(["mkfs.vfat", "-n", LABEL, part])
    entries = sorted(tree.iterdir())
    if entries:
        run(["mcopy", "-s", "-Q", "-i", part, *entries, "::"])
