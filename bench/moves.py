"""What moves: a host with its guests to another cell, deleted servers out of a cell. On clouds in this process.

python -m bench.moves [move_host purge …] [--database sqlite mariadb] [--guests 100] [--dead 10000] [--out FILE]
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from sqlalchemy import insert

from api_cell.contract import SuperConductor
from api_cell.servers.moves.emptying import Emptying, EmptyingRequest
from api_cell.superconductor.host_moves import HostMover
from api_cell.superconductor.retention import Done, archive_deleted, purge_archived
from bench.load import milliseconds, percentile
from cell_service.context import SYSTEM_CLOCK, internal
from cell_service.db import instances, schema
from cell_service.db.sql.engine import Database
from cell_service.model.instance import Flavor, Instance
from cell_service.model.lifecycle import VmState
from cell_service.rpc.contract import client
from mapping_db import instance_mappings
from tests.federation.cloud import Federation
from tests.real.databases import mariadb_in

HOST = "cell1-host1"
EVENTS = 3
LIVING = 200


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Hosts between cells, archive and purge.")
    parser.add_argument("sections", nargs="*", choices=[*SECTIONS, []], default=[])
    parser.add_argument("--database", nargs="+", choices=["sqlite", "mariadb"], default=["sqlite", "mariadb"])
    parser.add_argument("--guests", type=int, default=100)
    parser.add_argument("--dead", type=int, default=10_000, help="deleted servers in the cell")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args(argv)
    runs = []
    for section in args.sections or SECTIONS:
        for database in args.database:
            with _databases(database) as (directory, url):
                runs.append({"section": section, "database": database, **SECTIONS[section](args, directory, url)})
    text = json.dumps({"bench": "moves", "runs": runs}, indent=2)
    print(text)
    if args.out:
        args.out.write_text(text + "\n", encoding="utf-8")
    return 0


def move_host(args: argparse.Namespace, directory: Path, url: Callable[[str], str] | None) -> dict[str, Any]:
    """A host with simulated guests goes to another cell and is usable there."""
    cloud = Federation(directory, hosts=1, database=url)
    try:
        _fill(cloud, args.guests)
        steps: dict[str, float] = {}
        began = time.perf_counter()

        def report(what: str, count: int) -> None:
            steps[what] = round(time.perf_counter() - began, 3)

        HostMover(cloud.cloud, HOST, report=report).move(cloud.ids["cell2"])
        return {"guests": args.guests, "seconds": round(time.perf_counter() - began, 3), "steps": steps}
    finally:
        cloud.close()


def evacuate(args: argparse.Namespace, directory: Path, url: Callable[[str], str] | None) -> dict[str, Any]:
    """A host is declared dead, and its simulated guests are built again on three others; guests boot in 20 ms."""
    cloud = Federation(directory, hosts=4, database=url)
    try:
        _fill(cloud, args.guests)
        cell = cloud.cells.open(cloud.ids["cell1"])
        body = {"host": HOST, "binary": "nova-compute", "forced_down": True}
        assert cloud.admin.put("/os-services/force-down", body, version="2.11").status == 200
        wanted = EmptyingRequest(evacuate=True, at_once=40)
        began = time.perf_counter()
        emptying = Emptying(cloud.cloud, internal(seconds=300), client(SuperConductor, cloud.bus), wanted)
        result = emptying.run(cell, HOST)
        seconds = round(time.perf_counter() - began, 3)
        return {"guests": len(result.moved), "left": len(result.left), "seconds": seconds}
    finally:
        cloud.close()


def _fill(cloud: Federation, guests: int) -> None:
    """So many simulated guests run on the host."""
    for _ in range(0, guests, 10):
        answer = cloud.post_server(min_count=10, max_count=10, availability_zone=f"nova:{HOST}",
                                   return_reservation_id=True)  # fmt: skip
        assert answer.status == 202, answer.raw
    cloud.until(lambda: len(cloud.guests()[HOST]) >= guests, 120)
    cloud.until(lambda: cloud.unfinished() == 0, 120)


def purge(args: argparse.Namespace, directory: Path, url: Callable[[str], str] | None) -> dict[str, Any]:
    """Deleted servers with their histories: archived, then purged; living ones are read meanwhile."""
    cloud = Federation(directory, cells=1, hosts=1, database=url)
    try:
        db = cloud.cell_database("cell1")
        living = _seed(cloud, db, args.dead)
        cell = cloud.cells.open(cloud.ids["cell1"])
        idle = _read(db, living, lambda: threading.Event().wait(2.0))
        archived, purged = Done(), Done()
        archiving = _read(db, living, lambda: archive_deleted(cloud.cloud, cell, archived))
        purging = _read(db, living, lambda: purge_archived(cloud.cloud, cell, purged))
        _seed(cloud, db, args.dead)
        at_once = Done()
        direct = _read(db, living, lambda: archive_deleted(cloud.cloud, cell, at_once, keep=False))
        db.dispose()
        return {
            "archive": _figures(archived, archiving, idle),
            "purge": _figures(purged, purging, idle),
            "archive_and_purge_at_once": _figures(at_once, direct, idle),
            "reader_idle": {f"p{each}_ms": milliseconds(percentile(idle[1], each)) for each in (50, 99)},
        }
    finally:
        cloud.close()


SECTIONS = {"move_host": move_host, "evacuate": evacuate, "purge": purge}


@contextmanager
def _databases(kind: str) -> Iterator[tuple[Path, Callable[[str], str] | None]]:
    with tempfile.TemporaryDirectory(prefix="bench") as directory:
        if kind == "sqlite":
            yield Path(directory), None
            return
        own = Path(directory) / "mariadb"
        own.mkdir()
        server = mariadb_in(own)
        server.start()
        urls: dict[str, str] = {}
        try:
            yield Path(directory), lambda name: urls.setdefault(name, server.create_database())
        finally:
            server.stop()


def _seed(cloud: Federation, db: Database, dead: int) -> list[str]:
    """Deleted servers with one action of a few events each, mapped as gone; and some living ones, whose uuids it is."""
    now, flavor = SYSTEM_CLOCK.now(), Flavor("1", "tiny", 1, 64, 1)
    made = [
        Instance(uuid=str(uuid4()), project_id="p", user_id="u", display_name="s", flavor=flavor, created_at=now,
                 vm_state=VmState.ACTIVE, task_state=None)
        for _ in range(dead + LIVING)
    ]  # fmt: skip
    gone, living = made[:dead], made[dead:]
    for start in range(0, dead, 1000):
        part = gone[start : start + 1000]
        with db.begin() as tx:
            rows = [{**instances._columns_of(one), "deleted_at": now, "vm_state": "deleted"} for one in part]
            tx.execute(insert(schema.instances), rows)
            common = {"action": "create", "request_id": "r", "user_id": "u", "project_id": "p"}
            acted = [{**common, "instance_uuid": one.uuid, "start_time": now, "created_at": now} for one in part]
            tx.execute(insert(schema.instance_actions), acted)
            wanted = schema.instance_actions.c.instance_uuid.in_([one.uuid for one in part])
            ids = list(tx.scalars(schema.instance_actions.select().with_only_columns(schema.instance_actions.c.id)
                                  .where(wanted)))  # fmt: skip
            events = [{"action_id": key, "event": f"step{number}", "host": "h", "start_time": now}
                      for key in ids for number in range(EVENTS)]  # fmt: skip
            tx.execute(insert(schema.instance_actions_events), events)
        mapped = [
            instance_mappings.InstanceMapping(one.uuid, "p", "u", now, "s", 1, 64, cloud.ids["cell1"],
                                              queued_for_delete=True, gone=True)
            for one in part
        ]  # fmt: skip
        cloud.db.run(lambda tx, mapped=mapped: instance_mappings.insert_new(tx, mapped))  # type: ignore[misc]
    with db.begin() as tx:
        tx.execute(insert(schema.instances), [instances._columns_of(one) for one in living])
    return [one.uuid for one in living]


def _read(db: Database, uuids: list[str], work: Callable[[], object]) -> tuple[float, list[float]]:
    """How long the work took, and how long each of the reads alongside it, every few milliseconds."""
    ended, latencies = threading.Event(), []

    def read() -> None:
        turn = 0
        while not ended.wait(0.003):
            began = time.perf_counter()
            with db.connect() as tx:
                instances.get(tx, uuids[turn % len(uuids)])
            latencies.append(time.perf_counter() - began)
            turn += 1

    reader = threading.Thread(target=read)
    reader.start()
    began = time.perf_counter()
    try:
        work()
    finally:
        seconds = time.perf_counter() - began
        ended.set()
        reader.join()
    return seconds, latencies


def _figures(done: Done, ran: tuple[float, list[float]], idle: tuple[float, list[float]]) -> dict[str, Any]:
    seconds, latencies = ran
    ratio = percentile(latencies, 50) / max(percentile(idle[1], 50), 1e-9)
    return {
        "rows": done.rows,
        "global_rows": sum(done.glob.values()),
        "seconds": round(seconds, 3),
        "rows_per_second": round(done.rows / seconds) if seconds else 0,
        "reader_p50_ms": milliseconds(percentile(latencies, 50)),
        "reader_p99_ms": milliseconds(percentile(latencies, 99)),
        "reader_p50_ratio": round(ratio, 2),
    }


if __name__ == "__main__":
    sys.exit(main())
