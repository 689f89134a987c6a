"""What each GET of the Compute API costs: CPU, and statements to the global database and to those of cells.

    python -m bench.api [--servers 1 20 1000] [--others 10] [--runs 5] [--route /servers/detail]

Two cells in SQLite files, an administrator, requests that go straight to where worker threads begin. A route that runs
a statement for each row shows: its `statements` grow from one number of servers to the next. `cpu_ms` is the least of
all runs, of all threads. Proxies of other services are left out, and routes that call a host. Besides the GETs, where
there are servers enough: what actions and POSTs take up to their answer, once (`bench.api_writes`).
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from api_cell.compute.routes import ROUTES
from api_cell.edge.route import Route
from bench import target
from bench.api_writes import NEEDED, write_costs
from bench.counting import counted
from bench.small_cloud import PROJECT, SmallCloud

VERSIONS = ((2, 1), (2, 104))
ELSEWHERE = ("removed", "network_proxies", "volume_proxies", "image_proxies", "server_interfaces", "security_groups",
             "server_diagnostics", "baremetal_nodes", "server_images")  # fmt: skip
"""Modules whose routes ask another service or a host, or answer 410."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What one request took."""

    route: str
    version: tuple[int, int]
    servers: int
    status: int
    cpu_ms: float
    global_statements: int
    cell_statements: int
    bytes: int

    @property
    def statements(self) -> int:
        return self.global_statements + self.cell_statements


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Measure what each route costs.")
    parser.add_argument("--servers", type=int, nargs="+", default=[1, 20, 1000])
    parser.add_argument("--others", type=int, default=10, help="hosts of a cell, flavors, key pairs and so on")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--route", help="only this one")
    parser.add_argument("--out", metavar="FILE", help="write the JSON here too")
    args = parser.parse_args(argv)
    runs, writes = [], []
    for servers in args.servers:
        with tempfile.TemporaryDirectory(prefix="polycell-bench-") as directory:
            cloud = SmallCloud(Path(directory), servers, args.others)
            asked = [route for route in routes() if args.route in (None, route.path)]
            runs += [_shown(each) for each in costs(cloud, asked, servers, args.runs)]
            if servers >= NEEDED and args.route is None:
                writes += [{"servers": servers, **asdict(each)} for each in write_costs(cloud)]
            cloud.close()
    target.emit({"bench": "api", "others": args.others, "runs": runs, "writes": writes}, args.out)
    return 0


def routes() -> Iterator[Route]:
    """The GETs that are measured."""
    for route in ROUTES:
        module = route.handler.__module__.rpartition(".")[2]
        if route.method == "GET" and not route.open and module not in ELSEWHERE:
            yield route


def costs(cloud: SmallCloud, asked: Iterable[Route], servers: int, runs: int = 1) -> Iterator[Cost]:
    """Each route at the first and the last version that serve it, after a first request that fills caches."""
    for route in asked:
        for version in VERSIONS:
            if route.min_version <= version <= route.max_version:
                yield cost(cloud, route.path, path_of(cloud, route.path, version), version, servers, runs)


def cost(cloud: SmallCloud, name: str, path: str, version: tuple[int, int], servers: int, runs: int = 1) -> Cost:
    cloud.ask(path, version)
    with counted(cloud.directory) as sent:
        answer = cloud.ask(path, version)
    times = []
    for _ in range(runs):
        begun = time.process_time()
        cloud.ask(path, version)
        times.append(time.process_time() - begun)
    here = sent.pop("global", 0)
    cpu_ms = round(min(times, default=0.0) * 1000, 3)
    return Cost(name, version, servers, answer.status, cpu_ms, here, sum(sent.values()), len(answer.body))


def path_of(cloud: SmallCloud, path: str, version: tuple[int, int]) -> str:
    """The path with ids of things that exist, where there are such."""
    server = cloud.uuids[0]
    host = cloud.hosts[0]
    known = {
        "servers": server, "flavors": "f0", "os-keypairs": "k0", "os-aggregates": "1", "os-hosts": host,
        "os-hypervisors": cloud.node(host) if version >= (2, 53) else "1", "os-quota-sets": PROJECT,
        "os-quota-class-sets": "default", "os-simple-tenant-usage": PROJECT, "metadata": "role",
        "os-instance-actions": f"req-{server}", "os-server-groups": cloud.group, "os-extra_specs": "trait:CUSTOM_A",
        "os-server-external-events": server,
    }  # fmt: skip
    if path.endswith(("/search", "/servers")):
        known["os-hypervisors"] = host
    made, before = [], ""
    for segment in path.split("/"):
        made.append(known.get(before, "1") if segment.startswith("{") else segment)
        before = segment
    return "/".join(made)


def _shown(each: Cost) -> dict[str, Any]:
    return {
        "route": each.route,
        "version": ".".join(map(str, each.version)),
        "servers": each.servers,
        "status": each.status,
        "cpu_ms": each.cpu_ms,
        "statements": {"global": each.global_statements, "cell": each.cell_statements},
        "bytes": each.bytes,
    }


if __name__ == "__main__":
    sys.exit(main())
