"""What a sick server costs: the first request that meets it, those after it, the healthy cells, and the recovery.

    python -m bench.sick_cell [--quick] [--parts PART …] [--out FILE]

One process runs the federation, the API over HTTP, and both clients; three cells on private MariaDBs and RabbitMQs. One
client reads a server of a healthy cell without pause. The other requests, fifty times a second, something that needs
the server which falls sick: a show (cell database), a console log (cell broker), a server that there is not
(memcached), a flavor (global database). Both do so before, during and after: `healthy_p99_ratio` compares the time of
sickness with as much time around it. `first_ms` is the longest answer in the first second, `extra_ms` the median of all
later ones, less the usual one. The sickness `none` shows how much of all this is the machine's own noise. Times are
milliseconds.
"""

from __future__ import annotations

import argparse
import json
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.load import milliseconds, percentile
from bench.sick_line import Mode
from tests.edge.client import Client, Reply
from tests.faults.sick import SICK, Part, SickCloud

Fall = Callable[[SickCloud, Part], None]

PAUSE = 0.02
SETTLED_SECONDS = 1.0
"""After so long a sick server is known to be sick; what costs more is not the first contact any more."""
AIMS = {"first_ms": 500.0, "extra_ms": 5.0, "healthy_p99_ratio": 1.1, "recovery_ms": 2000.0}


def _line(mode: Mode, delay: float = 0.0) -> Fall:
    return lambda sick, part: sick.fall_sick(part, mode, delay)


SICKNESSES: dict[str, Fall] = {
    "none": _line(Mode.HEALTHY),
    "frozen": _line(Mode.FROZEN),
    "refused": _line(Mode.REFUSED),
    "black-holed": _line(Mode.BLACK_HOLED),
    "slow 0.1 s": _line(Mode.SLOW, 0.1),
    "slow 1 s": _line(Mode.SLOW, 1.0),
    "slow 5 s": _line(Mode.SLOW, 5.0),
    "flapping": _line(Mode.FLAPPING),
    "SIGSTOP": SickCloud.stop,
    "kill -9": SickCloud.kill,
}
BY_SIGNAL = ("SIGSTOP", "kill -9")
PARTS = [part.value for part in (Part.DATABASE, Part.QUEUE, Part.CACHE, Part.GLOBAL)]
QUICK = ("frozen", "refused", "black-holed", "slow 1 s")


@dataclass(slots=True)
class Times:
    """When each request began, and how long it took."""

    seconds: list[tuple[float, float]] = field(default_factory=list)
    unexpected: int = 0

    def between(self, start: float, end: float) -> list[float]:
        return [took for began, took in self.seconds if start <= began < end]


class Asking:
    """A client on a thread of its own, from `with` on until its end."""

    def __init__(self, port: int, ask: Callable[[Client], bool], pause: float) -> None:
        self.times = Times()
        self._ask, self._pause = ask, pause
        self._client = Client(port)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="bench-client")

    def __enter__(self) -> Asking:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._ended.set()
        self._thread.join()
        self._client.close()

    def _run(self) -> None:
        while not self._ended.is_set():
            began = time.perf_counter()
            if not self._ask(self._client):
                self.times.unexpected += 1
            self.times.seconds.append((began, time.perf_counter() - began))
            if self._pause:
                self._ended.wait(self._pause)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="What a sick server costs.")
    parser.add_argument("--quick", action="store_true", help="four sicknesses, shorter")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--sicknesses", nargs="+", choices=list(SICKNESSES))
    parser.add_argument("--out", type=Path)
    args = parser.parse_args(argv)
    seconds = 1.0 if args.quick else 2.0
    rows = []
    with SickCloud() as sick:
        cloud = sick.cloud
        near, far = cloud.boot(cell="cell1"), cloud.boot(cell=SICK)
        for part in map(Part, args.parts):
            for name in args.sicknesses or (QUICK if args.quick else SICKNESSES):
                if part is Part.GLOBAL and name in BY_SIGNAL:
                    continue  # another cell's database is on the same server
                row = {
                    "part": part.value,
                    "sickness": name,
                    **_measured(sick, part, SICKNESSES[name], near, far, seconds),
                }
                print(json.dumps(row), file=sys.stderr, flush=True)
                rows.append(row)
    missed = {
        aim: [f"{row['part']}, {row['sickness']}" for row in rows if row[aim] > most] for aim, most in AIMS.items()
    }
    text = json.dumps({"bench": "sick_cell", "aims": AIMS, "missed": missed, "rows": rows}, indent=1)
    print(text)
    if args.out:
        args.out.write_text(text + "\n", encoding="utf-8")
    return 0


def _measured(sick: SickCloud, part: Part, fall: Fall, near: str, far: str, seconds: float) -> dict[str, Any]:
    port = sick.cloud.api.port
    ask = _question(sick, part, far)

    def reads(client: Client) -> bool:
        return client.get(f"/servers/{near}", version="2.96").status == 200

    def well(client: Client) -> bool:
        return ask(client)[1]

    _until_well(sick, port, ask)
    with Asking(port, reads, 0.0) as healthy:
        start = time.perf_counter()
        with Asking(port, well, PAUSE) as before:
            time.sleep(seconds)
        fell = time.perf_counter()
        fall(sick, part)
        with Asking(port, well, PAUSE) as during:
            time.sleep(2 * seconds)
        over = time.perf_counter()
        sick.heal()
        healed = time.perf_counter()
        back = _until_well(sick, port, ask)
        again = time.perf_counter()
        with Asking(port, well, PAUSE) as after:
            time.sleep(seconds)
        end = time.perf_counter()
    usual = percentile(before.times.between(start, fell), 50)
    first = max(during.times.between(fell, fell + SETTLED_SECONDS), default=over - fell)
    later = during.times.between(fell + SETTLED_SECONDS, over)
    p99_well = percentile(healthy.times.between(start, fell) + healthy.times.between(again, end), 99)
    p99_sick = percentile(healthy.times.between(fell, over), 99)
    return {
        "usual_ms": milliseconds(usual),
        "first_ms": milliseconds(first),
        "extra_ms": milliseconds(percentile(later, 50) - usual),
        "extra_p99_ms": milliseconds(percentile(later, 99) - percentile(before.times.between(start, fell), 99)),
        "healthy_p99_well_ms": milliseconds(p99_well),
        "healthy_p99_ms": milliseconds(p99_sick),
        "healthy_p99_ratio": round(p99_sick / p99_well, 2) if p99_well else 0.0,
        "healthy_requests": len(healthy.times.between(fell, over)),
        "recovery_ms": milliseconds(back - healed),
        "unexpected": sum(each.times.unexpected for each in (healthy, before, during, after)),
    }


def _question(sick: SickCloud, part: Part, far: str) -> Callable[[Client], tuple[bool, bool]]:
    """Request something that needs the part. Answers whether it is well, and whether the answer is a good one at
    all."""

    def show(client: Client) -> tuple[bool, bool]:
        answer = client.get(f"/servers/{far}", version="2.96")
        return answer.status == 200 and answer.json["server"]["status"] == "ACTIVE", answer.status == 200

    def console(client: Client) -> tuple[bool, bool]:
        body = {"os-getConsoleOutput": {"length": 1}}
        answer = client.post(f"/servers/{far}/action", body, version="2.96")
        return answer.status == 200, answer.status == 200 or _is_reported(answer)

    def nothing(client: Client) -> tuple[bool, bool]:
        status = client.get(f"/servers/{uuid4()}", version="2.96").status
        return status == 404 and not sick.cache_is_missed, status == 404

    def flavor(client: Client) -> tuple[bool, bool]:
        answer = client.get("/flavors/1", version="2.96")
        return answer.status == 200, answer.status == 200 or _is_reported(answer)

    questions = {Part.DATABASE: show, Part.QUEUE: console, Part.CACHE: nothing, Part.GLOBAL: flavor}
    return questions[part]


def _is_reported(answer: Reply) -> bool:
    return answer.status == 503 and answer.headers["Retry-After"] is not None


def _until_well(sick: SickCloud, port: int, ask: Callable[[Client], tuple[bool, bool]]) -> float:
    """The moment from which it answers as ever; and no breaker is open any more."""
    client = Client(port)
    try:
        while not ask(client)[0]:
            time.sleep(0.005)
        back = time.perf_counter()
        while any(one.database.is_open or one.queue.is_open for one in sick.cloud.cells.health().values()):
            time.sleep(0.02)
        return back
    finally:
        client.close()


if __name__ == "__main__":
    sys.exit(main())
