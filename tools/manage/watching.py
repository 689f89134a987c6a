"""`--watch`: a command that only reads is run again and again, and what it shows takes the place of what it showed."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

from cell_service.context import Clock
from tools.manage.command import Args
from tools.manage.out import Out

_HOME, _REST_OF_LINE, _REST_OF_SCREEN = "\033[H", "\033[K", "\033[J"


def watch(once: Callable[[Out], int], args: Args, out: Out, title: str, clock: Clock) -> int:
    """Run `once` every `args.watch` seconds until Ctrl-C, or `args.watch_count` times. In place on a terminal, without
    one below each other. Returns what the last run has returned."""
    code, runs = 0, 0
    try:
        while True:
            code = _shown(once, out, f"Every {args.watch:g} s: {title}", clock.now())
            runs += 1
            if runs == args.watch_count:
                return code
            clock.wait(threading.Event(), args.watch)
    except KeyboardInterrupt:
        return code


def _shown(once: Callable[[Out], int], out: Out, title: str, now: datetime) -> int:
    if not out.stdout.isatty():
        code = once(out)
        if not out.for_programs:
            print(file=out.stdout)
        out.stdout.flush()
        return code
    screen, warnings = _Screen(), io.StringIO()
    code = once(replace(out, stdout=screen, stderr=warnings, stdin=None))
    shown = (screen.getvalue() + warnings.getvalue()).splitlines()
    lines = [f"{title}   {now:%Y-%m-%d %H:%M:%S} UTC", "", *shown]
    print(_HOME + "".join(f"{line}{_REST_OF_LINE}\n" for line in lines) + _REST_OF_SCREEN, end="", file=out.stdout,
          flush=True)  # fmt: skip
    return code


class _Screen(io.StringIO):
    """The output of a run, gathered, and made as for a terminal."""

    def isatty(self) -> bool:
        return True
