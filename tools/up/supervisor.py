"""The services of a cloud, running: all in this process, or each in one of its own, started again when it dies."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from cell_service.backoff import Backoff
from tools.services.compose import Composer
from tools.services.part import Part
from tools.up import record
from tools.up.plan import HYPERVISOR, Plan, Process
from tools.up.record import Running

log = logging.getLogger(__name__)

LONGEST_PAUSE_SECONDS = 10.0
_PAUSES = Backoff(first=0.2, longest=LONGEST_PAUSE_SECONDS, spread=(1, 1))
STOP_SECONDS = 20.0


class Services(Protocol):
    """However they run."""

    def start(self) -> None: ...

    def stop(self) -> None: ...

    def running(self) -> list[Running]: ...


class InProcess:
    """Everything in this process but private hypervisors; compute hosts of a cell share threads."""

    def __init__(self, plan: Plan, changed: Callable[[], None]) -> None:
        self._plan = plan
        self._parts: list[tuple[Process, Part]] = []
        self._hypervisors = Children(plan, [each for each in plan.processes() if each.role == HYPERVISOR], changed)

    def start(self) -> None:
        self._hypervisors.start()
        composers: dict[tuple[Path, ...], Composer] = {}
        fleets: dict[str, list[str]] = {}
        for process in self._own():
            composer = composers.setdefault(process.files, Composer([str(path) for path in process.files]))
            if process.role == "compute":
                assert process.cell is not None
                assert process.host is not None
                fleets.setdefault(process.cell, []).append(process.host)
                continue
            self._begin(process, composer.part(process.role, port=process.port))
        for cell, hosts in fleets.items():
            files = (self._plan.config("nova"), self._plan.config(cell))
            self._begin(Process("compute", files, cell=cell), composers[files].fleet(hosts))

    def stop(self) -> None:
        for process, part in reversed(self._parts):
            part.stop(STOP_SECONDS / 2)
            log.info("stopped", extra={"about": {"role": process.role, "cell": process.cell}})
        self._hypervisors.stop()

    def running(self) -> list[Running]:
        inside = [record.this_process(each.role, each.cell, each.host) for each in self._own()]
        return self._hypervisors.running() + inside

    def _own(self) -> list[Process]:
        return [each for each in self._plan.processes() if each.role != HYPERVISOR]

    def _begin(self, process: Process, part: Part) -> None:
        part.start()
        self._parts.append((process, part))


def _service(process: Process) -> list[str]:
    command = [sys.executable, "-m", "tools.up.main", "service", process.role, "--title", process.title]
    for path in process.files:
        command += ["--config-file", str(path)]
    if process.host:
        command += ["--host", process.host]
    if process.port:
        command += ["--port", str(process.port)]
    return command


@dataclass(slots=True)
class _Child:
    process: Process
    popen: subprocess.Popen[bytes]
    deaths: int = 0
    again_at: float = 0.0
    born: float = 0.0


class Children:
    """A process for each service. One that dies is started again, later each time it dies young."""

    def __init__(self, plan: Plan, processes: Sequence[Process], changed: Callable[[], None]) -> None:
        self._plan, self._processes, self._changed = plan, processes, changed
        self._children: list[_Child] = []
        self._stopping = threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="watch-children", daemon=True)

    def start(self) -> None:
        for process in self._processes:
            self._children.append(_Child(process, self._spawn(process), born=time.monotonic()))
            if process.role == "queue":
                self._await_socket(process)
        self._watcher.start()

    def stop(self) -> None:
        self._stopping.set()
        if self._watcher.is_alive():
            self._watcher.join()
        last = [child for child in self._children if child.process.role in ("queue", HYPERVISOR)]
        others = [child for child in self._children if child not in last]
        for group in (others, last):
            for child in group:
                if child.popen.poll() is None and child.process.role == HYPERVISOR:
                    child.popen.kill()  # as good as asking: its guests end with it either way
                elif child.popen.poll() is None:
                    child.popen.terminate()
            until = time.monotonic() + STOP_SECONDS
            for child in group:
                try:
                    child.popen.wait(max(0.1, until - time.monotonic()))
                except subprocess.TimeoutExpired:
                    log.warning("killed, it did not stop", extra={"about": {"process": child.process.title}})
                    child.popen.kill()
                    child.popen.wait()

    def running(self) -> list[Running]:
        return [
            record.of_process(child.popen.pid, child.process.role, child.process.cell, child.process.host)
            for child in self._children
        ]

    def _spawn(self, process: Process) -> subprocess.Popen[bytes]:
        if process.role == HYPERVISOR:
            command = self._plan.private_host(str(process.host)).prepare()
        else:
            command = _service(process)
        logs = self._plan.state / "logs"
        with (logs / f"{process.title.replace(' ', '-')}.log").open("ab") as output:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                env={"MALLOC_ARENA_MAX": "2", **os.environ},  # many threads would each keep memory of their own
            )

    def _await_socket(self, process: Process) -> None:
        """The others can wait for a queue, but start sooner when it is there."""
        url = self._plan.transports["api" if process.cell == "global" else str(process.cell)]
        path = url.removeprefix("local://")
        until = time.monotonic() + 5
        while not os.path.exists(path) and time.monotonic() < until:
            self._stopping.wait(0.02)

    def _watch(self) -> None:
        while not self._stopping.wait(0.2):
            changed = False
            for child in self._children:
                if child.popen.poll() is None:
                    continue
                changed = self._revive(child) or changed
            if changed:
                self._changed()

    def _revive(self, child: _Child) -> bool:
        now = time.monotonic()
        if not child.again_at:
            child.deaths = 1 if now - child.born > 30 else child.deaths + 1
            child.again_at = now + _PAUSES.pause(child.deaths)
            about = {"process": child.process.title, "status": child.popen.returncode}
            log.warning("a process has ended, it is started again", extra={"about": about})
        if now < child.again_at:
            return False
        child.popen, child.born, child.again_at = self._spawn(child.process), now, 0.0
        return True
