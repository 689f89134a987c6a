"""Pure pieces by themselves: finding an instance's cell, with and without the caches; counting an answer.

python -m bench.micro [--instances 20000] [--rounds 20000]
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from api_cell.edge.metrics import Metrics
from bench import load, target
from cell_service.db.sql.engine import Database
from cell_service.http.response import RenderedResponse
from cell_service.rpc.memory import Bus, MemoryTransport
from mapping_db import cell_mappings, instance_mappings
from mapping_db import upgrades as migrate
from mapping_db.cells.registry import Cells
from mapping_db.locating.locator import Locator
from tests.suites.clouds import cloud_in_memory
from tools.manage import seed_rows

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Measure pieces without a cloud.")
    parser.add_argument("--instances", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=20_000)
    parser.add_argument("--out", metavar="FILE", help="write the JSON here too")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="polycell-bench-") as directory:
        db = Database(f"sqlite:///{directory}/api.sqlite")
        migrate.sync(db)
        with db.begin() as tx:
            cell = cell_mappings.insert_new(
                tx, uuid="00000000-0000-0000-0000-000000000001", name="cell1", transport_url="none:///",
                database_connection="sqlite://", now=NOW,
            )  # fmt: skip
            planned = seed_rows.plan(cell, "bench", 1, args.instances, 20)
            made = [seed_rows.mapping(seed_rows.instance(each, "bench"), cell) for each in planned]
            instance_mappings.insert_new(tx, made)
        uuids = [each.uuid for each in planned]
        random.Random(1).shuffle(uuids)
        warm = Locator(db)
        warm.find_many(uuids)
        cold = Locator(db, size=1)
        runs = [
            _timed("locator: in the process's cache", warm.find, uuids, args.rounds),
            _timed("locator: from the database", lambda uuid: cold.find(uuid, fresh=True), uuids, args.rounds // 10),
            _timed("locator: an id that is no uuid", lambda _: _missing(warm), uuids, args.rounds),
            _timed("metrics: an answer is counted", _counting(db), uuids, args.rounds),
        ]
        db.dispose()
    target.emit({"bench": "micro", "runs": runs}, args.out)
    return 0


def _counting(db: Database) -> Callable[[str], None]:
    cloud = cloud_in_memory(db, Cells(db, lambda _url: MemoryTransport(Bus())))
    metrics, answer = Metrics("compute", cloud, lambda: 0), RenderedResponse(200, b"{}")
    return lambda _uuid: metrics.answered("GET", "/servers/{id}", answer, 0.012)


def _missing(locator: Locator) -> None:
    from cell_service.errors import InstanceNotFound

    try:
        locator.find("no-uuid")
    except InstanceNotFound:
        return


def _timed(what: str, work: Callable[[str], Any], uuids: Sequence[str], rounds: int) -> dict[str, Any]:
    times = []
    for number in range(rounds):
        uuid = uuids[number % len(uuids)]
        begun = time.perf_counter()
        work(uuid)
        times.append(time.perf_counter() - begun)
    return {
        "what": what,
        "rounds": rounds,
        "p50_us": round(load.percentile(times, 50) * 1e6, 2),
        "p99_us": round(load.percentile(times, 99) * 1e6, 2),
    }


if __name__ == "__main__":
    sys.exit(main())
