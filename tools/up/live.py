"""Reports of a cloud's processes of themselves: metrics of each that serves an API, and the stacks of all."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import requests

from api_cell.edge.metrics import PATH, PROCESS
from tools.services.report import file_name
from tools.up import record
from tools.up.bundle import Part

STACK_SECONDS = 10.0
"""A process that has written no report by then is frozen, or busy in foreign code."""
_APIS = {"compute": "api", "placement": "placement"}
"""Service → the role of the processes that serve it; several may share its port."""
_TRIES = 16
"""Connections for each process: the kernel chooses which of them gets one."""


def metrics(document: dict[str, Any]) -> Iterator[Part]:
    """Yield the metrics of each process of an API, a file a process."""
    for service, role in _APIS.items():
        url = "/".join(document["endpoints"][service].split("/", 3)[:3]) + PATH
        awaited = {each.pid for each in record.living(document) if each.role == role} or {0}
        found: dict[str, str] = {}
        note = ""
        for _ in range(_TRIES * len(awaited)):
            try:
                answer = requests.get(url, timeout=5, verify=document.get("cafile") or True)
            except requests.RequestException as error:
                note = f"{url} does not answer: {type(error).__name__}"
                break
            found[answer.headers.get(PROCESS, "0")] = answer.text
            if len(found) >= len(awaited):
                break
        if not note and len(found) < len(awaited):
            note = f"{len(awaited) - len(found)} of {len(awaited)} processes got none of our connections"
        yield from (Part(f"metrics/{service}-{pid}.txt", text) for pid, text in found.items())
        if note:
            yield Part(f"metrics/{service}.txt", note=note)


def stacks(document: dict[str, Any], directory: Path) -> Iterator[Part]:
    """Yield the stacks of each process, which it writes on SIGUSR2 into the directory."""
    awaited = {each.pid: each for each in record.living(document) if _takes_signal(each.pid)}
    for pid in awaited:
        for path in directory.glob(file_name("*", pid, "*")):  # it came too late for who wanted it
            path.unlink()
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGUSR2)
    until = time.monotonic() + STACK_SECONDS
    while awaited and time.monotonic() < until:
        for pid in list(awaited):
            for path in sorted(directory.glob(file_name("*", pid, "*"))):
                yield Part(f"stacks/{path.name}.txt", path.read_text(encoding="utf-8", errors="replace"))
                path.unlink()
                awaited.pop(pid, None)
        time.sleep(0.05)
    for pid, each in awaited.items():
        title = " ".join(filter(None, (each.role, each.host or each.cell)))
        yield Part(f"stacks/{pid}.txt", note=f"{title} wrote no report within {STACK_SECONDS:.0f} s: is it frozen?")


def _takes_signal(pid: int) -> bool:
    """Whether the process has a handler of SIGUSR2: another one, or one that just begins, would end by it."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return False
    caught = next((line.split()[1] for line in lines if line.startswith("SigCgt:")), "0")
    return bool(int(caught, 16) & 1 << (signal.SIGUSR2 - 1))
