"""GET /servers/{id}: throughput and latency at several concurrencies.

python -m bench.show --state DIR [--concurrency 1 16] [--seconds 10] [--servers 500]
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench import load, target

PROJECT = "bench-show"


def main(argv: Sequence[str] | None = None) -> int:
    parser = target.arguments("Show servers, over and over.")
    parser.add_argument("--concurrency", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--warm-seconds", type=float, default=2.0)
    parser.add_argument("--servers", type=int, default=500, help="how many; seeded where there are fewer")
    args = parser.parse_args(argv)
    try:
        cloud = target.read(args.state)
        ids = _servers(cloud, args.servers, args.config_file)
    except target.Unusable as error:
        print(error, file=sys.stderr)
        return 1
    requests = [cloud.request("GET", f"/servers/{uuid}") for uuid in ids]
    runs: list[dict[str, Any]] = []
    for concurrency in args.concurrency:
        figures = asyncio.run(
            load.for_seconds(cloud.host, cloud.port, requests, concurrency=concurrency, seconds=args.seconds,
                             warm_seconds=args.warm_seconds)
        )  # fmt: skip
        runs.append({"concurrency": concurrency, **figures.summary()})
    target.emit({"bench": "show", "servers": len(ids), "cells": len(cloud.cells), "runs": runs}, args.out)
    return 0


def _servers(cloud: target.Target, wanted: int, config_file: str | None) -> list[str]:
    path = f"/servers?all_tenants=1&project_id={PROJECT}&limit={min(wanted, 1000)}"
    found = [server["id"] for server in cloud.ask("GET", path)["servers"]]
    if len(found) < min(wanted, 1000):
        cloud.manage(config_file, "bench", "seed", "--instances", str(wanted), "--project", PROJECT)
        found = [server["id"] for server in cloud.ask("GET", path)["servers"]]
    if not found:
        raise target.Unusable("the cloud has no servers, and none could be seeded")
    return found


if __name__ == "__main__":
    sys.exit(main())
