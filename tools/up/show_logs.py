"""`polycell logs`: the logs of a cloud, or what they say of one service, cell or host."""

from __future__ import annotations

import time
from collections import deque
from pathlib import Path

from cell_service.errors import Invalid
from tools.up.record import LAUNCHER_LOG

POLL_SECONDS = 0.3


def show(state: Path, name: str, lines: int, *, follow: bool) -> int:
    """Print the last lines, and with `follow` all that come, until Ctrl-C. 0 shown. Raises Invalid."""
    chosen, word = _chosen(state, name)
    for path in chosen:
        with path.open(encoding="utf-8", errors="replace") as log:
            _print(path, deque((line for line in log if word in line), maxlen=lines), len(chosen) > 1)
    if follow:
        _follow(chosen, word)
    return 0


def _chosen(state: Path, name: str) -> tuple[list[Path], str]:
    """The files, and the word that lines must have ("": all). A service without a file of its own is in the launcher's
    log. Raises Invalid."""
    found = sorted((state / "logs").glob("*.log"))
    if not found:
        raise Invalid(reason=f"{state} has no cloud: there are no logs")
    if not name:
        return found, ""
    own = [path for path in found if name in (path.stem, *path.stem.split("-")) or path.stem.endswith(f"-{name}")]
    launcher = [path for path in found if path.name == LAUNCHER_LOG]
    if own:
        return own, ""
    return launcher, name


def _print(path: Path, lines: deque[str], named: bool) -> None:
    if named and lines:
        print(f"==> {path.name} <==")
    print("".join(lines), end="", flush=True)


def _follow(paths: list[Path], word: str) -> None:
    at = {path: path.stat().st_size for path in paths}
    while True:
        time.sleep(POLL_SECONDS)
        for path in paths:
            if path.stat().st_size < at[path]:  # it was rotated
                at[path] = 0
            with path.open("rb") as log:
                log.seek(at[path])
                new = log.read()
            at[path] += len(new)
            lines = new.decode(errors="replace").splitlines(keepends=True)
            _print(path, deque(line for line in lines if word in line), len(paths) > 1)
