"""GET /servers/detail over 1, 2, 4 and 8 cells, compared with the bare SQL of the same rows.

    python -m bench.list --state DIR [--cells 1 2 4 8] [--limits 100 1000] [--per-cell 2000] [--runs 9]

The floor reads the same rows, all columns of them, by key from the same databases with the driver alone: `floor_ms` one
cell after the other, `slowest_cell_ms` the longest of them. Requests and floor take turns, so their ratio is honest.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import pymysql
from sqlalchemy import make_url

from bench import load, target
from cell_service.db.schema import instances

COLUMNS = ", ".join(f"`{column.name}`" for column in instances.columns)


class Floor:
    """One cell's database, through the driver alone."""

    def __init__(self, url: str) -> None:
        parsed = make_url(url)
        self._quote, self._mark = "`", "%s"
        self._connection: Any
        if parsed.get_backend_name() == "sqlite":
            self._connection, self._mark = sqlite3.connect(parsed.database or ""), "?"
        elif parsed.get_backend_name() in ("mysql", "mariadb"):
            self._connection = pymysql.connect(
                host=parsed.host or "127.0.0.1", port=parsed.port or 3306, user=parsed.username or "",
                password=str(parsed.password or ""), database=parsed.database or "", autocommit=True,
                unix_socket=parsed.query.get("unix_socket"),
            )  # fmt: skip
        else:
            import psycopg

            self._quote = '"'
            self._connection = psycopg.connect(
                host=parsed.host, port=parsed.port or 5432, user=parsed.username, password=parsed.password,
                dbname=parsed.database, autocommit=True,
            )  # fmt: skip

    def read(self, uuids: Sequence[str]) -> tuple[float, list[Any]]:
        """Seconds, and the rows."""
        if not uuids:
            return 0.0, []
        marks = ", ".join([self._mark] * len(uuids))
        names = COLUMNS.replace("`", self._quote)
        cursor = self._connection.cursor()
        begun = time.perf_counter()
        cursor.execute(f"SELECT {names} FROM instances WHERE uuid IN ({marks})", tuple(uuids))  # noqa: S608  constants
        rows = list(cursor.fetchall())
        return time.perf_counter() - begun, rows


def main(argv: Sequence[str] | None = None) -> int:
    parser = target.arguments("List servers over several cells.")
    parser.add_argument("--cells", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--limits", type=int, nargs="+", default=[100, 1000])
    parser.add_argument("--per-cell", type=int, default=2000)
    parser.add_argument("--runs", type=int, default=9)
    args = parser.parse_args(argv)
    try:
        cloud = target.read(args.state)
        cells = [cell for cell in cloud.cells if cell.get("name") != "cell0"]
        runs = [
            _measured(cloud, cells[:count], limit, args)
            for count in args.cells
            if count <= len(cells)
            for limit in args.limits
        ]
    except target.Unusable as error:
        print(error, file=sys.stderr)
        return 1
    skipped = [count for count in args.cells if count > len(cells)]
    result = {"bench": "list", "per_cell": args.per_cell, "runs": runs, "skipped_for_want_of_cells": skipped}
    target.emit(result, args.out)
    return 0


def _measured(cloud: target.Target, cells: list[Any], limit: int, args: Any) -> dict[str, Any]:
    project = f"bench-list-{len(cells)}"
    names = ",".join(str(cell["uuid"]) for cell in cells)
    cloud.manage(args.config_file, "bench", "seed", "--instances", str(args.per_cell * len(cells)), "--cells", names,
                 "--project", project)  # fmt: skip
    path = f"/servers/detail?all_tenants=1&project_id={project}&limit={limit}"
    ids = [server["id"] for server in cloud.ask("GET", path)["servers"]]
    floors = [Floor(target.database_url(cell)) for cell in cells]
    at = list(instances.columns.keys()).index("uuid")
    owned = [[row[at] for row in floor.read(ids)[1]] for floor in floors]
    if sum(map(len, owned)) != len(ids) or len(ids) < min(limit, args.per_cell * len(cells)):
        raise target.Unusable(f"{len(ids)} servers were listed, {sum(map(len, owned))} are in the cells' databases")
    answers, alone, slowest, size = asyncio.run(_in_turns(cloud, path, floors, owned, args.runs, len(ids)))
    listed, floor = statistics.median(answers), statistics.median(alone)
    return {
        "cells": len(cells),
        "limit": limit,
        "servers": len(ids),
        "list_ms": load.milliseconds(listed),
        "list_max_ms": load.milliseconds(max(answers)),
        "floor_ms": load.milliseconds(floor),
        "slowest_cell_ms": load.milliseconds(statistics.median(slowest)),
        "ratio_to_floor": round(listed / floor, 2) if floor else None,
        "within_2_floors_and_30_ms": listed <= 2 * floor + 0.030,
        "bytes": size,
    }


async def _in_turns(
    cloud: target.Target, path: str, floors: list[Floor], owned: list[list[str]], runs: int, expected: int
) -> tuple[list[float], list[float], list[float], int]:
    connection = await load.Connection.connect(cloud.host, cloud.port)
    sent = cloud.request("GET", path)
    answers, alone, slowest, size = [], [], [], 0
    for run in range(runs + 2):
        answer = await connection.ask(sent)
        if answer.status != 200 or len(json.loads(answer.body)["servers"]) != expected:
            raise target.Unusable(f"the list changed while it was measured (status {answer.status})")
        times = [floor.read(uuids)[0] for floor, uuids in zip(floors, owned, strict=True)]
        if run >= 2:  # the first ones fill caches
            answers.append(answer.seconds)
            alone.append(sum(times))
            slowest.append(max(times))
        size = len(answer.body)
    connection.close()
    return answers, alone, slowest, size


if __name__ == "__main__":
    sys.exit(main())
