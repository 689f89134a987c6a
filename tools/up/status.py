"""`polycell status`: what runs, what answers, and what is in it. Readable also when half of it is down."""

from __future__ import annotations

import json
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests
from sqlalchemy import func, select

from cell_service.context import SYSTEM_CLOCK
from cell_service.db import services
from cell_service.db.schema import instances
from cell_service.db.sql.engine import Database, PoolLimits
from cell_service.errors import DatabaseUnavailable
from cell_service.model.status import status_of
from tools.up import record
from tools.up.configs import DOWN_SECONDS

_LIMITS = PoolLimits(size=1, overflow=0, connect_seconds=1.0, read_seconds=3.0)
HEALTHY, DEGRADED, DOWN = 0, 1, 2
POLL_SECONDS = 0.5
_NETWORKING = {
    "bridged": "bridged (guests have their addresses, DHCP, metadata and security groups)",
    "user": "user mode (guests reach out, but can't be reached; their addresses are not those the API shows)",
    "records": "records only (addresses are given out, no packet moves)",
}


@dataclass(frozen=True, slots=True)
class CellStatus:
    name: str
    uuid: str
    reachable: bool
    hosts_up: int = 0
    hosts: int = 0
    instances: dict[str, int] = field(default_factory=dict)
    down: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Seen:
    """A cloud as it is: its record, which endpoints answer, its cells, and the pids that live."""

    document: dict[str, Any]
    endpoints: dict[str, bool]
    cells: list[CellStatus]
    alive: set[int]

    @property
    def code(self) -> int:
        processes = self.document["processes"]
        if not self.alive or not processes:
            return DOWN
        dead = any(each["pid"] not in self.alive for each in processes)
        cells_well = all(cell.reachable and not cell.down for cell in self.cells)
        return HEALTHY if cells_well and not dead and all(self.endpoints.values()) else DEGRADED

    @property
    def health(self) -> str:
        return ("healthy", "degraded", "down")[self.code]


def status(state: Path, output: str, wait_seconds: float = 0) -> int:
    """Print it, once it is healthy or the time is over. 0 healthy; 1 something is down; 2 nothing runs. Raises Invalid
    when there is no cloud."""
    until = time.monotonic() + wait_seconds
    while (seen := _look(state)).code != HEALTHY and time.monotonic() < until:
        time.sleep(POLL_SECONDS)
    if output == "json":
        print(json.dumps(_plain(seen), indent=2))
    else:
        _print(seen)
    return seen.code


def _look(state: Path) -> Seen:
    document = record.read(state)
    verify = document.get("cafile") or True
    return Seen(
        document,
        {name: _answers(url, verify) for name, url in document["endpoints"].items()},
        [_cell(cell) for cell in document["cells"]],
        {each.pid for each in record.living(document)},
    )


def _answers(url: str, verify: str | bool) -> bool:
    parts = url.split("/", 3)
    try:
        return requests.get("/".join(parts[:3]) + "/", timeout=3, verify=verify).status_code < 500
    except requests.RequestException:
        return False


def _cell(known: dict[str, Any]) -> CellStatus:
    db = Database(known["database"], _LIMITS)
    try:
        with db.connect() as tx:
            hosts = services.list_all(tx, binary=services.COMPUTE)
            rows = tx.execute(
                select(instances.c.vm_state, instances.c.task_state, func.count())
                .where(instances.c.deleted_at.is_(None))
                .group_by(instances.c.vm_state, instances.c.task_state)
            ).all()
    except DatabaseUnavailable:
        return CellStatus(known["name"], known["uuid"], reachable=False)
    finally:
        db.dispose()
    counted: Counter[str] = Counter()
    for vm_state, task_state, count in rows:
        counted[status_of(vm_state, task_state)] += count
    now = SYSTEM_CLOCK.now()
    down = tuple(host.host for host in hosts if not host.is_up(now, DOWN_SECONDS))
    return CellStatus(
        known["name"], known["uuid"], True, len(hosts) - len(down), len(hosts), dict(sorted(counted.items())), down
    )


def _plain(seen: Seen) -> dict[str, Any]:
    document = seen.document
    return {
        "health": seen.health,
        "state": document["state"],
        "driver": document["driver"],
        "networking": document["networking"],
        "why_not_more": document["why_not_more"],
        "endpoints": [
            {"service": name, "url": document["endpoints"][name], "answers": up} for name, up in seen.endpoints.items()
        ],
        "cells": [
            {
                "name": cell.name,
                "uuid": cell.uuid,
                "reachable": cell.reachable,
                "hosts_up": cell.hosts_up,
                "hosts": cell.hosts,
                "hosts_down": list(cell.down),
                "instances": cell.instances,
            }
            for cell in seen.cells
        ],
        "processes": [
            {name: each[name] for name in ("role", "cell", "host", "pid")} | {"alive": each["pid"] in seen.alive}
            for each in document["processes"]
        ],
    }


def _print(seen: Seen) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    console, document = Console(), seen.document
    console.print(f"{document['state']}: {seen.health}", highlight=False)
    networking = _NETWORKING[document["networking"]]
    console.print(f"Hosts: {document['driver']}; networking: {networking}", highlight=False, soft_wrap=True)
    if document["why_not_more"]:
        console.print(f"Why not more: {document['why_not_more']}", highlight=False, soft_wrap=True)
    table = Table("Cell", "Reachable", "Hosts up", "Instances", box=box.ASCII2)
    for cell in seen.cells:
        instances = ", ".join(f"{count} {status}" for status, count in cell.instances.items()) or "none"
        hosts = "-" if cell.name == "cell0" else f"{cell.hosts_up} of {cell.hosts}"
        table.add_row(cell.name, "yes" if cell.reachable else "NO", hosts, instances if cell.reachable else "unknown")
    console.print(table)
    table = Table("Service", "URL", "Answers", box=box.ASCII2)
    for name, up in seen.endpoints.items():
        table.add_row(name, document["endpoints"][name], "yes" if up else "NO")
    console.print(table)
    for cell in seen.cells:
        for host in cell.down:
            console.print(f"{cell.name}: host {host} is down", highlight=False)
    total = len(document["processes"])
    dead = [each for each in document["processes"] if each["pid"] not in seen.alive]
    console.print(f"{total - len(dead)} of {total} services run ({document['mode']})", highlight=False)
    for each in dead:
        console.print(f"{each['role']} {each['host'] or each['cell'] or ''}: not running", highlight=False)
    state = document["state"]
    console.print(f"Page of the API: {document['endpoints']['compute']}/docs", highlight=False, soft_wrap=True)
    console.print(f"Logs: {state}/logs (polycell logs)", highlight=False, soft_wrap=True)
    console.print(f"Next: {_NEXT[seen.code].format(state=state)}", highlight=False, soft_wrap=True)


_NEXT = {
    HEALTHY: ". {state}/openrc, then openstack server list",
    DEGRADED: "polycell logs --state {state} NAME of what is down",
    DOWN: "polycell up --state {state}",
}
