"""A report of a running process on a signal, as nova's services write one (its "Guru Meditation Report"): what each of
its threads does just now. The process goes on."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
import traceback
from pathlib import Path
from types import FrameType

from cell_service.logs import masked

SIGNALS = (signal.SIGUSR1, signal.SIGUSR2)
"""Later versions of nova use the second; the first is for operators who know earlier ones."""

_STANDARD_ERROR = 2


def on_signal(title: str, directory: str | None = None) -> None:
    """Write the report at each of these signals from now on: to a file in the directory, else to standard error. Called
    on the main thread."""

    def write(_number: int, _frame: FrameType | None) -> None:
        written = text(title).encode(errors="replace")
        with contextlib.suppress(OSError):  # the disk may be full, standard error closed
            if directory:
                _write_file(Path(directory), title, written)
            else:
                os.write(_STANDARD_ERROR, written)  # no buffer: a signal may interrupt one

    for number in SIGNALS:
        signal.signal(number, write)


def file_name(title: str, pid: int, moment: str) -> str:
    """As oslo.reports names its files, and the process's id."""
    return f"{title.replace(' ', '-')}_gurumeditation_{moment}_{pid}"


def _write_file(directory: Path, title: str, written: bytes) -> None:
    """A whole file, or none."""
    name = file_name(title, os.getpid(), time.strftime("%Y%m%d%H%M%S"))
    draft = directory / f".{name}"
    draft.write_bytes(written)
    draft.replace(directory / name)


def text(title: str) -> str:
    """The report: each thread by its name, with its stack."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    parts = [f"==== Report of {title}: {len(names)} threads ===="]
    for ident, frame in sys._current_frames().items():
        stack = "".join(traceback.format_stack(frame)).rstrip()
        parts.append(f"---- Thread {names.get(ident, ident)} ----\n{stack}")
    return masked("\n".join([*parts, "==== End of report ====\n"]))
