"""`polycell up --detach`: the launcher in the background, and who started it, waiting until it is READY."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import IO

from cell_service import logs
from cell_service.errors import PolycellError

READY, FAILED, INTERRUPTED = 0, 1, 130
_STANDARD_ERROR = 2


def run(launch: Callable[[IO[str]], int], log_file: Path) -> int:
    """Launch in the background; the caller waits until it is READY, and prints what the background prints until then.
    What it writes on standard error is in the log. 0 it is READY; 1 it has failed; 130 it was interrupted."""
    reading, writing = os.pipe()
    if child := os.fork():
        os.close(writing)
        return _follow(child, reading)
    os.close(reading)
    os.setsid()
    _leave_terminal(log_file)
    out = os.fdopen(writing, "w", encoding="utf-8")
    status = FAILED
    try:
        status = launch(out)
    except PolycellError as error:
        with contextlib.suppress(ValueError, OSError):
            print(f"polycell: {logs.masked(str(error))}", file=out, flush=True)
    except BaseException as error:
        with contextlib.suppress(ValueError, OSError):
            print(f"polycell: {type(error).__name__}: {logs.masked(str(error))}", file=out, flush=True)
        raise
    finally:
        os._exit(status)


def _follow(child: int, reading: int) -> int:
    """Print what comes. SIGTERM and Ctrl-C end the background, which stops what it has started."""
    interrupted = False

    def stop(_number: int, _frame: FrameType | None) -> None:
        nonlocal interrupted
        interrupted = True
        os.write(_STANDARD_ERROR, b"polycell: stopping\n")  # no buffer: a signal may interrupt one
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGTERM)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    ready = failed = False
    with os.fdopen(reading, encoding="utf-8") as lines:
        for line in lines:
            failed = failed or line.startswith("polycell: ")
            print(line, end="", file=sys.stderr if failed else sys.stdout, flush=True)
            ready = ready or line.startswith("READY")
    if ready:
        return READY
    return INTERRUPTED if interrupted else FAILED


def _leave_terminal(log_file: Path) -> None:
    nothing = os.open(os.devnull, os.O_RDONLY)
    output = os.open(log_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for source, target in ((nothing, 0), (output, 1), (output, 2)):
        os.dup2(source, target)
