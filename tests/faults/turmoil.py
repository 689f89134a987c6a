"""What strikes an installation at random, and is made good a moment later."""

from __future__ import annotations

import heapq
import itertools
import logging
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable

from bench.target import MANAGE_FILES
from tests.faults.installation import ROOT, Installation
from tools.up.record import is_ours

log = logging.getLogger(__name__)

KINDS = {
    "super-conductor killed": 5,
    "super-conductor frozen": 3,
    "conductor killed": 3,
    "conductor frozen": 2,
    "compute killed": 5,
    "compute frozen": 2,
    "api killed": 2,
    "placement killed": 1,
    "network killed": 1,
    "cell database killed": 3,
    "cell database frozen": 2,
    "global database killed": 1,
    "broker killed": 1,
    "broker frozen": 1,
    "cache killed": 1,
}
"""What may happen, and how often in proportion."""


class Spare:
    """A second super-conductor, which the launcher knows nothing of."""

    def __init__(self, cloud: Installation) -> None:
        self._cloud = cloud
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """None while it is dead."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    def start(self) -> None:
        """It runs, perhaps already."""
        if self.pid is None:
            files = [word for name in MANAGE_FILES for word in ("--config-file", str(self._cloud.state / name))]
            with (self._cloud.state / "logs" / "spare.log").open("ab") as output:
                self._process = subprocess.Popen(
                    [sys.executable, "-m", "tools.up.main", "service", "super-conductor", "--title", "spare", *files],
                    cwd=ROOT, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
                    env=self._cloud.environment,
                )  # fmt: skip

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(timeout=20)


class Turmoil:
    """Strikes one thing after the other. `counted`: what has happened, by kind."""

    def __init__(self, cloud: Installation, spare: Spare, chance: random.Random) -> None:
        self._cloud, self._spare, self._chance = cloud, spare, chance
        self._mends: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._struck: set[str] = set()
        self.counted: Counter[str] = Counter()

    def strike(self) -> None:
        """One more thing is dead or frozen, for a moment."""
        done = False
        while not done:
            self.mend()
            kind = self._chance.choices(list(KINDS), list(KINDS.values()))[0]
            what, how = kind.rsplit(" ", 1)
            done = self._server(what, how) if self._is_server(what) else self._process(what, how)
        self.counted[kind] += 1

    def mend(self, *, everything: bool = False) -> None:
        """Make good what is due."""
        while self._mends and (everything or self._mends[0][0] <= time.monotonic()):
            heapq.heappop(self._mends)[2]()
        self._spare.start()

    def _is_server(self, what: str) -> bool:
        return what.endswith("database") or what in ("broker", "cache")

    def _server(self, what: str, how: str) -> bool:
        """False: it is struck down already."""
        cloud = self._cloud
        if what in self._struck:
            return False
        self._struck.add(what)
        if what == "cache":
            cloud.memcached.stop()
            self._later(2.0, cloud.memcached.start, what)
            return True
        name = "api" if what == "global database" else self._chance.choice(["cell1", "cell2"])
        server = cloud.rabbitmq if what == "broker" else cloud.databases[name]
        log.info("%s %s %s", what, "" if what == "broker" else name, how)
        (server.kill if how == "killed" else server.freeze)()
        self._later(self._chance.uniform(0.5, 4.0), server.revive, what)
        return True

    def _process(self, role: str, how: str) -> bool:
        """False: none of that role lives just now."""
        alive = [
            (each["pid"], each["started"], each["host"] or each["cell"])
            for each in self._cloud.document["processes"]
            if each["role"] == role and is_ours(each["pid"], each["started"])
        ]
        if role == "super-conductor" and (spare := self._spare.pid) is not None:
            alive.append((spare, None, "spare"))
        if not alive:
            return False
        pid, started, name = self._chance.choice(alive)
        log.info("%s %s %s", role, name, how)
        if how == "killed":
            os.kill(pid, signal.SIGKILL)
            return True
        os.kill(pid, signal.SIGSTOP)

        def thaw() -> None:
            lives = self._spare.pid == pid if started is None else is_ours(pid, started)
            if lives:
                os.kill(pid, signal.SIGCONT)

        self._later(self._chance.choice([1.0, 5.0, 18.0, 25.0]), thaw)
        return True

    def _later(self, seconds: float, mend: Callable[[], None], what: str = "") -> None:
        def work() -> None:
            mend()
            self._struck.discard(what)

        heapq.heappush(self._mends, (time.monotonic() + seconds, next(self._numbers), work))
