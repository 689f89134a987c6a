"""Lists of servers over 1, 8, 32 and 100 cells, compared with what the slowest of the cells takes alone for the page.

    python -m bench.cells [--cells 1 8 32 100] [--rows 1000 10000] [--limits 20 1000] [--runs 9] [--directory DIR]

All in one process, on SQLite: every cell is a database of its own, filled with made-up servers of one project. The page
is made as the Compute API makes it, without HTTP and without rendering. `flat` is the time compared with that for one
cell of the same size. Memory is what Python allocated at most while one list was made (tracemalloc), in MiB.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import sqlite3
import statistics
import sys
import tempfile
import time
import tracemalloc
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from sqlalchemy import insert

from api_cell.caller import Caller
from api_cell.compute.servers.list_query import parse_list_query
from api_cell.config import ApiSettings
from api_cell.servers.lists import listing
from cell_service.context import Context, Deadline
from cell_service.db import instance_lists, schema
from cell_service.db.sql.engine import Database
from cell_service.rpc.memory import Bus, MemoryTransport
from mapping_db import cell_mappings
from mapping_db.cell_mappings import CellMapping
from mapping_db.cells.registry import Cells
from mapping_db.cloud import Cloud
from mapping_db.schema import metadata as global_metadata
from tests.suites.clouds import cloud_in_memory
from tools.manage import seed_rows

PROJECT = "bench"
NOW = datetime(2026, 1, 1, tzinfo=UTC)
QUERIES: dict[str, dict[str, list[str]]] = {
    "default order": {},
    "status": {"status": ["ACTIVE"]},
    "name": {"name": ["^w"]},
    "by name": {"sort_key": ["display_name"], "sort_dir": ["asc"]},
}


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="List servers over many cells.")
    parser.add_argument("--cells", type=int, nargs="+", default=[1, 8, 32, 100])
    parser.add_argument("--rows", type=int, nargs="+", default=[1000, 10000])
    parser.add_argument("--limits", type=int, nargs="+", default=[20, 1000])
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--directory", type=Path, help="where to put the databases; else a temporary one")
    args = parser.parse_args(argv)
    results = []
    for rows in args.rows:
        with _directory(args.directory) as directory:
            seed = _seeded(directory, rows)
            alone: dict[tuple[str, int], float] = {}
            for count in sorted(args.cells):
                with _cloud(directory, seed, count) as cloud:
                    for name, words in QUERIES.items():
                        for limit in args.limits:
                            measured = _measured(cloud, words, limit, args.runs)
                            first = alone.setdefault((name, limit), measured["list_ms"])
                            flat = round(measured["list_ms"] / first, 2)
                            shown = {
                                "cells": count,
                                "rows": rows,
                                "list": name,
                                "limit": limit,
                                **measured,
                                "flat": flat,
                            }
                            print(json.dumps(shown), file=sys.stderr, flush=True)
                            results.append(shown)
    print(json.dumps({"bench": "cells", "results": results}, indent=1))
    return 0


@contextlib.contextmanager
def _directory(wanted: Path | None) -> Iterator[Path]:
    if wanted is not None:
        wanted.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="polycell-bench-", dir=wanted) as made:
        yield Path(made)


def _seeded(directory: Path, rows: int) -> Path:
    """One cell's database with so many servers."""
    path = directory / "seed.db"
    database = Database(f"sqlite:///{path}")
    schema.metadata.create_all(database.engine)
    cell = CellMapping(1, str(uuid.uuid4()), "seed", "", "")
    planned = seed_rows.plan(cell, PROJECT, 1, rows, 10)
    with database.begin() as tx:
        for start in range(0, rows, 1000):
            made = [seed_rows.instance(each, PROJECT) for each in planned[start : start + 1000]]
            tx.execute(insert(schema.instances), [seed_rows.cell_row(each) for each in made])
    database.dispose()
    return path


@contextlib.contextmanager
def _cloud(directory: Path, seed: Path, count: int) -> Iterator[Cloud]:
    """So many cells, each with the seed's servers under uuids and times of its own."""
    top = directory / f"global-{count}.db"
    db = Database(f"sqlite:///{top}")
    global_metadata.create_all(db.engine)
    for number in range(count):
        path = directory / f"cell{number}.db"
        with db.begin() as tx:
            cell = cell_mappings.insert_new(
                tx, uuid=str(uuid.uuid4()), name=f"cell{number}", transport_url="memory://none",
                database_connection=f"sqlite:///{path}", now=NOW,
            )  # fmt: skip
        if not path.exists():
            shutil.copy(seed, path)
            with contextlib.closing(sqlite3.connect(path)) as own, own:
                own.execute("UPDATE instances SET uuid = printf('%08x', ?) || substr(uuid, 9)", (number,))
                own.execute(
                    "UPDATE instances SET created_at = substr(created_at, 1, 20) || printf('%06d', ?)", (number,)
                )
                own.execute("ANALYZE")
        with contextlib.closing(sqlite3.connect(top)) as own:
            own.execute("ATTACH ? AS cell", (str(path),))
            own.execute(
                "INSERT INTO instance_mappings (instance_uuid, cell_id, epoch, project_id, user_id, created_at,"
                " display_name, vcpus, memory_mb, queued_for_delete, gone) SELECT uuid, ?, 0, project_id, user_id,"
                " created_at, display_name, vcpus, memory_mb, 0, 0 FROM cell.instances",
                (cell.id,),
            )
            own.commit()
    with contextlib.closing(sqlite3.connect(top)) as own:
        own.execute("ANALYZE")
    with Cells(db, lambda url: MemoryTransport(Bus())) as cells:
        cells.refresh()
        yield cloud_in_memory(db, cells)
    db.dispose()
    top.unlink()


def _measured(cloud: Cloud, words: dict[str, list[str]], limit: int, runs: int) -> dict[str, Any]:
    caller, settings = _caller(), ApiSettings()
    parameters = {**words, "limit": [str(limit)]}
    wanted = parse_list_query(caller, parameters, (2, 96), rule="os_compute_api:servers:detail", max_limit=1000)

    def whole() -> int:
        return len(listing.page_of(cloud, settings, _caller(), wanted).servers)

    def one(cell_id: int) -> int:
        with cloud.cells.open(cell_id).db.connect(Deadline.after(60)) as tx:
            return len(instance_lists.page(tx, wanted.listing))

    expected = whole()
    lists, slowest = [], []
    some = [mapping.id for mapping in cloud.cells.all()][:8]
    for each in some:
        one(each)
    for _ in range(runs):
        lists.append(_seconds(whole))
        slowest.append(max(_seconds(lambda each=each: one(each)) for each in some))  # type: ignore[misc]
    tracemalloc.start()
    whole()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    listed, alone = statistics.median(lists), statistics.median(slowest)
    return {
        "servers": expected,
        "list_ms": round(listed * 1000, 2),
        "slowest_cell_ms": round(alone * 1000, 2),
        "ratio": round(listed / alone, 2),
        "within_1.2_and_30_ms": listed <= 1.2 * alone + 0.030,
        "memory_mib": round(peak / 2**20, 2),
    }


def _seconds(work: Callable[[], Any]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


@dataclass(frozen=True, slots=True)
class _NoPolicy:
    """Everything is allowed."""

    def allows(self, ctx: Context, rule: str, target: Mapping[str, Any] | None = None) -> bool:
        return True

    def demand(self, ctx: Context, rule: str, target: Mapping[str, Any] | None = None) -> None:
        return None


def _caller() -> Caller:
    ctx = Context(
        request_id="bench", user_id="bench", project_id=PROJECT, roles=("admin",), is_admin=True,
        deadline=Deadline.after(60),
    )  # fmt: skip
    return Caller(ctx, _NoPolicy())


if __name__ == "__main__":
    sys.exit(main())
