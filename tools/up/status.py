"""`polycell status`: what runs, what answers, and what is in it. Readable also when half of it is down."""

from __future__ import annotations

import json
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


def status(state: Path, output: str) -> int:
    """Print it. 0 healthy; 1 something is down; 2 nothing runs. Raises Invalid when there is no cloud."""
    document = record.read(state)
    alive = {each.pid for each in record.living(document)}
    verify = document.get("cafile") or True
    endpoints = {name: _answers(url, verify) for name, url in document["endpoints"].items()}
    cells = [_cell(cell) for cell in document["cells"]]
    dead = [each for each in document["processes"] if each["pid"] not in alive]
    if not alive or not document["processes"]:
        code = DOWN
    elif dead or not all(endpoints.values()) or any(not cell.reachable or cell.down for cell in cells):
        code = DEGRADED
    else:
        code = HEALTHY
    health = ("healthy", "degraded", "down")[code]
    if output == "json":
        print(json.dumps(_plain(document, health, endpoints, cells, alive), indent=2))
    else:
        _print(document, health, endpoints, cells, alive)
    return code


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


def _plain(
    document: dict[str, Any], health: str, endpoints: dict[str, bool], cells: list[CellStatus], alive: set[int]
) -> dict[str, Any]:
    return {
        "health": health,
        "state": document["state"],
        "driver": document["driver"],
        "networking": document["networking"],
        "why_not_more": document["why_not_more"],
        "endpoints": [
            {"service": name, "url": document["endpoints"][name], "answers": up} for name, up in endpoints.items()
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
            for cell in cells
        ],
        "processes": [
            {name: each[name] for name in ("role", "cell", "host", "pid")} | {"alive": each["pid"] in alive}
            for each in document["processes"]
        ],
    }


def _print(
    document: dict[str, Any], health: str, endpoints: dict[str, bool], cells: list[CellStatus], alive: set[int]
) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = Console()
    console.print(f"{document['state']}: {health}", highlight=False)
    networking = _NETWORKING[document["networking"]]
    console.print(f"Hosts: {document['driver']}; networking: {networking}", highlight=False, soft_wrap=True)
    if document["why_not_more"]:
        console.print(f"Why not more: {document['why_not_more']}", highlight=False, soft_wrap=True)
    table = Table("Cell", "Reachable", "Hosts up", "Instances", box=box.ASCII2)
    for cell in cells:
        instances = ", ".join(f"{count} {status}" for status, count in cell.instances.items()) or "none"
        hosts = "-" if cell.name == "cell0" else f"{cell.hosts_up} of {cell.hosts}"
        table.add_row(cell.name, "yes" if cell.reachable else "NO", hosts, instances if cell.reachable else "unknown")
    console.print(table)
    table = Table("Service", "URL", "Answers", box=box.ASCII2)
    for name, up in endpoints.items():
        table.add_row(name, document["endpoints"][name], "yes" if up else "NO")
    console.print(table)
    for cell in cells:
        for host in cell.down:
            console.print(f"{cell.name}: host {host} is down", highlight=False)
    total = len(document["processes"])
    dead = [each for each in document["processes"] if each["pid"] not in alive]
    console.print(f"{total - len(dead)} of {total} services run ({document['mode']})", highlight=False)
    for each in dead:
        console.print(f"{each['role']} {each['host'] or each['cell'] or ''}: not running", highlight=False)
