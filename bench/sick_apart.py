"""What a sick cell costs users of healthy cells, where every service is a process of its own.

    python -m bench.sick_apart [--sicknesses NAME …] [--pairs 10] [--seconds 1.5] [--out FILE]

`polycell up --processes` runs API, conductors and hosts of two cells, each cell with a MariaDB of its own; a proxy, in
this process, is in front of the second cell's. Two clients, again processes of their own, read a server of the
healthy cell (200 times a second at most) and for one of the sick cell (50 times). Windows of well and sick alternate.
Each window has a p99 of the healthy cell's answers, from the moment of falling sick on; `ratio` is the median of the
sick windows' p99 by that of the well ones, `pairs` the quartiles of the ratios of neighbouring windows, and
`pooled_ratio` the p99 of all answers in sick windows by that of all in well ones. `cpu` is what each kind of process
took of one processor in well and in sick windows, which is steadier than any p99 on a machine with neighbours. The
sickness `none` does all the same and nothing happens: its distance from 1.0 is the machine's own noise.
Milliseconds.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.load import milliseconds, percentile
from bench.sick_line import Lines, Mode
from tests.faults.installation import Installation, User

SICK = "cell2"
SICKNESSES: dict[str, tuple[Mode, float]] = {
    "none": (Mode.HEALTHY, 0.0),
    "frozen": (Mode.FROZEN, 0.0),
    "refused": (Mode.REFUSED, 0.0),
    "black-holed": (Mode.BLACK_HOLED, 0.0),
    "slow 0.1 s": (Mode.SLOW, 0.1),
    "slow 1 s": (Mode.SLOW, 1.0),
    "flapping": (Mode.FLAPPING, 0.0),
}
HEALTHY_PAUSE, SICK_PAUSE = 0.005, 0.02
REST_SECONDS = 0.5
TICKS = os.sysconf("SC_CLK_TCK")


class Apart(Installation):
    """Two cells of processes; `line` leads to the second one's database."""

    def _start_servers(self) -> None:
        super()._start_servers()
        self.line = self._stack.enter_context(Lines()).to(self.databases[SICK].port)
        self.urls[SICK] = self.line.url(self.urls[SICK])


class Client:
    """A process that reads one server again and again, from `with` on until its end."""

    def __init__(self, url: str, token: str, pause: float) -> None:
        words = [sys.executable, str(Path(__file__).with_name("asking.py")), url, token, str(pause)]
        self._process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.answers: list[tuple[float, float, int]] = []

    def __enter__(self) -> Client:
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n", "the client had no answer"
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        answered, _ = self._process.communicate("end\n")
        if error is None:
            self.answers = [(began, took, status) for began, took, status in json.loads(answered)]

    def between(self, window: Window) -> list[float]:
        """How long those took that were sent in the window, in seconds."""
        return [took for began, took, _ in self.answers if window.start <= began < window.end]


@dataclass(frozen=True, slots=True)
class Window:
    """`cpu`: processor seconds that were used in it, by kind of process."""

    start: float
    end: float
    cpu: Mapping[str, float]


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="What a healthy cell's users feel of a sick cell.")
    parser.add_argument("--sicknesses", nargs="+", choices=list(SICKNESSES), default=list(SICKNESSES))
    parser.add_argument("--pairs", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=1.5)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args(argv)
    rows = []
    with TemporaryDirectory(prefix="polycell-bench-", ignore_cleanup_errors=True) as directory:
        cloud = Apart(Path(directory))
        try:
            near, far = (_server_in(cloud, cell) for cell in ("cell1", SICK))
            for name in args.sicknesses:
                row = {"sickness": name, **_measured(cloud, name, near, far, args.pairs, args.seconds)}
                print(json.dumps(row), file=sys.stderr, flush=True)
                rows.append(row)
        finally:
            cloud.close()
    text = json.dumps({"bench": "sick_apart", "aim": {"ratio": 1.1}, "rows": rows}, indent=1)
    print(text)
    if args.out:
        args.out.write_text(text + "\n", encoding="utf-8")
    return 0


def _measured(cloud: Apart, name: str, near: str, far: str, pairs: int, seconds: float) -> dict[str, Any]:
    mode, delay = SICKNESSES[name]
    compute = str(cloud.document["endpoints"]["compute"])
    token = cloud.user.token
    well: list[Window] = []
    sick: list[Window] = []
    with (
        Client(f"{compute}/servers/{near}", token, HEALTHY_PAUSE) as healthy,
        Client(f"{compute}/servers/{far}", token, SICK_PAUSE) as other,
    ):
        time.sleep(REST_SECONDS)
        for _ in range(pairs):
            well.append(_window(cloud, seconds))
            cloud.line.set(mode, delay)
            sick.append(_window(cloud, seconds))
            cloud.line.set(Mode.HEALTHY)
            cloud.until(lambda: _status(cloud.user, far) == "ACTIVE")
            time.sleep(REST_SECONDS)
    before = [percentile(healthy.between(each), 99) for each in well]
    during = [percentile(healthy.between(each), 99) for each in sick]
    ratios = [late / early for early, late in zip(before, during, strict=True)]
    everything = [[took for each in windows for took in healthy.between(each)] for windows in (well, sick)]
    return {
        "p99_well_ms": milliseconds(statistics.median(before)),
        "p99_sick_ms": milliseconds(statistics.median(during)),
        "ratio": round(statistics.median(during) / statistics.median(before), 2),
        "pairs": [round(each, 2) for each in statistics.quantiles(ratios, n=4)],
        "pooled_ratio": round(percentile(everything[1], 99) / percentile(everything[0], 99), 2),
        "p50_ratio": round(percentile(everything[1], 50) / percentile(everything[0], 50), 2),
        "healthy_answers": [len(each) for each in everything],
        "healthy_errors": sum(status != 200 for _, _, status in healthy.answers),
        "cpu": {role: [_share(well, role), _share(sick, role)] for role in sorted(well[0].cpu)},
        "sick_answers": sum(len(other.between(each)) for each in sick),
    }


def _window(cloud: Apart, seconds: float) -> Window:
    before, start = _cpu(cloud), time.monotonic()
    time.sleep(seconds)
    end, after = time.monotonic(), _cpu(cloud)
    return Window(start, end, {role: after[role] - used for role, used in before.items()})


def _cpu(cloud: Apart) -> dict[str, float]:
    """Processor seconds that the services have used so far, by role and cell."""
    found: dict[str, float] = defaultdict(float)
    for each in cloud.document["processes"]:
        fields = Path(f"/proc/{each['pid']}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        found[" ".join(filter(None, (each["role"], each["cell"])))] += (int(fields[11]) + int(fields[12])) / TICKS
    return found


def _share(windows: Sequence[Window], role: str) -> float:
    return round(sum(each.cpu[role] for each in windows) / sum(each.end - each.start for each in windows), 3)


def _server_in(cloud: Apart, cell: str) -> str:
    """A server of that cell, up."""
    answer = cloud.user.post_server(f"in-{cell}", availability_zone=f"nova:{cell}-host1")
    assert answer.status_code == 202, answer.text
    server: str = answer.json()["server"]["id"]
    cloud.until(lambda: _status(cloud.user, server) == "ACTIVE")
    return server


def _status(user: User, server: str) -> str:
    answer = user.ask("GET", f"/servers/{server}")
    return str(answer.json()["server"]["status"]) if answer.status_code == 200 else ""


if __name__ == "__main__":
    sys.exit(main())
