"""Bursts of boots and deletes: how fast they are accepted, and how soon they are done.

    python -m bench.boot --state DIR [--bursts 50 500] [--variants one many] [--concurrency 16]

Variant `one` is a single POST with min_count, `many` is one POST a server. Done is what the API itself shows: a list of
the burst's servers is requested every 0.1 s, so times have that grain.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench import load, target

LOOK_SECONDS = 0.1
PAGE = 1000
FREE = {"instances": -1, "cores": -1, "ram": -1}


def main(argv: Sequence[str] | None = None) -> int:
    parser = target.arguments("Boot and delete servers in bursts.")
    parser.add_argument("--bursts", type=int, nargs="+", default=[50, 500])
    parser.add_argument("--variants", nargs="+", choices=["one", "many"], default=["one", "many"])
    parser.add_argument("--concurrency", type=int, default=16)
    parser.add_argument("--flavor", help="default: the smallest")
    parser.add_argument("--network", default="first", help="first, none, or a network's id")
    parser.add_argument("--give-up", type=float, default=300.0, metavar="SECONDS")
    args = parser.parse_args(argv)
    try:
        cloud = target.read(args.state)
        before = cloud.ask("GET", f"/os-quota-sets/{cloud.project_id}")["quota_set"]
        cloud.ask("PUT", f"/os-quota-sets/{cloud.project_id}", {"quota_set": FREE})
        try:
            wanted = _server(cloud, args)
            runs = [asyncio.run(_burst(cloud, wanted, size, variant, args))
                    for size in args.bursts for variant in args.variants]  # fmt: skip
        finally:
            kept = {"quota_set": {name: before[name] for name in FREE}}
            cloud.ask("PUT", f"/os-quota-sets/{cloud.project_id}", kept)
    except target.Unusable as error:
        print(error, file=sys.stderr)
        return 1
    target.emit({"bench": "boot", "cells": len(cloud.cells), "runs": runs}, args.out)
    return 0


def _server(cloud: target.Target, args: Any) -> dict[str, Any]:
    """What each server of a burst is made of."""
    flavors = sorted(cloud.ask("GET", "/flavors/detail")["flavors"], key=lambda each: (each["ram"], each["disk"]))
    chosen = args.flavor or next((each["id"] for each in flavors), None)
    images = target.ask(f"{_base(cloud, 'image')}/v2/images", {"X-Auth-Token": cloud.token})["images"]
    if chosen is None or not images:
        raise target.Unusable("the cloud has no flavor or no image")
    networks: Any = "none"
    if args.network == "first" and "network" in cloud.endpoints:
        found = target.ask(f"{_base(cloud, 'network')}/v2.0/networks", {"X-Auth-Token": cloud.token})["networks"]
        networks = [{"uuid": found[0]["id"]}] if found else "none"
    elif args.network not in ("first", "none"):
        networks = [{"uuid": args.network}]
    return {"flavorRef": chosen, "imageRef": images[0]["id"], "networks": networks}


def _base(cloud: target.Target, service: str) -> str:
    if service not in cloud.endpoints:
        raise target.Unusable(f"polycell.json names no endpoint of {service}")
    return cloud.endpoints[service].rstrip("/").removesuffix("/v2").removesuffix("/v2.0")


async def _burst(cloud: target.Target, wanted: dict[str, Any], size: int, variant: str, args: Any) -> dict[str, Any]:
    name = f"burst-{uuid.uuid4().hex[:12]}"
    if variant == "one":
        bodies = [{"server": {**wanted, "name": name, "min_count": size, "max_count": size}}]
    else:
        bodies = [{"server": {**wanted, "name": f"{name}-{number}"}} for number in range(size)]
    requests = [cloud.request("POST", "/servers", body) for body in bodies]
    begun = time.perf_counter()
    accepting = asyncio.ensure_future(load.each_once(cloud.host, cloud.port, requests, concurrency=args.concurrency))
    ready, states, done = await _until(cloud, name, size, begun, args.give_up, accepting, one=variant == "one")
    accepted, _ = await accepting
    accept = accepted.summary()
    if variant == "one":  # the request is one, but it accepts them all
        accept["servers_per_second"] = round(size / accepted.seconds, 1) if accepted.latencies else 0.0
    ids = sorted(states)
    deleted = await _delete(cloud, name, ids, args)
    return {
        "burst": size,
        "variant": variant,
        "accept": accept,
        "active": len(ready),
        "error": sum(state == "ERROR" for state in states.values()),
        "unfinished": size - done,
        "all_done_seconds": round(max(ready.values(), default=0.0), 3),
        "active_p50_seconds": round(load.percentile(list(ready.values()), 50), 3),
        "active_p99_seconds": round(load.percentile(list(ready.values()), 99), 3),
        "delete": deleted,
    }


async def _until(
    cloud: target.Target,
    name: str,
    size: int,
    begun: float,
    give_up: float,
    accepting: asyncio.Future[Any],
    *,
    one: bool,
) -> tuple[dict[str, float], dict[str, str], int]:
    """When each became ACTIVE; the last state of each; how many are ACTIVE or ERROR. Waits for those accepted."""
    connection = await load.Connection.connect(cloud.host, cloud.port)
    ready: dict[str, float] = {}
    states: dict[str, str] = {}
    done = 0
    while time.perf_counter() - begun < give_up:
        states = await _states(cloud, connection, name)
        now = time.perf_counter() - begun
        for server, state in states.items():
            if state == "ACTIVE":
                ready.setdefault(server, now)
        done = sum(state in ("ACTIVE", "ERROR") for state in states.values())
        if accepting.done() and done >= len(accepting.result()[0].latencies) * (size if one else 1):
            break
        await asyncio.sleep(LOOK_SECONDS)
    connection.close()
    return ready, states, done


async def _delete(cloud: target.Target, name: str, ids: Sequence[str], args: Any) -> dict[str, Any]:
    if not ids:
        return {}
    requests = [cloud.request("DELETE", f"/servers/{server}") for server in ids]
    begun = time.perf_counter()
    figures, _ = await load.each_once(cloud.host, cloud.port, requests, concurrency=args.concurrency)
    connection = await load.Connection.connect(cloud.host, cloud.port)
    left = len(ids)
    while left and time.perf_counter() - begun < args.give_up:
        left = len(await _states(cloud, connection, name))
        if left:
            await asyncio.sleep(LOOK_SECONDS)
    connection.close()
    return {**figures.summary(), "all_gone_seconds": round(time.perf_counter() - begun, 3), "left": left}


async def _states(cloud: target.Target, connection: load.Connection, name: str) -> dict[str, str]:
    """The burst's servers and their status; several pages where it is large."""
    found: dict[str, str] = {}
    marker = ""
    while True:
        answer = await connection.ask(
            cloud.request("GET", f"/servers/detail?name={name}&limit={PAGE}" + (f"&marker={marker}" if marker else ""))
        )
        if answer.status != 200:
            raise target.Unusable(f"the list of servers answers {answer.status}: {answer.body[:200]!r}")
        page = json.loads(answer.body)["servers"]
        found.update({server["id"]: server["status"] for server in page})
        if len(page) < PAGE:
            return found
        marker = page[-1]["id"]


if __name__ == "__main__":
    sys.exit(main())
