"""polycell.json: what runs, where, and how to reach it; and whether a pid in it is still one of ours."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cell_service.errors import Invalid
from tools.up.configs import credentials, write_secret
from tools.up.plan import Plan

LAUNCHER_LOG = "polycell.log"
"""In the directory `logs`: of the launcher, and of all services that run in its process."""


@dataclass(frozen=True, slots=True)
class Running:
    """A service and the process it runs in. `started` is the process's start, in clock ticks since boot."""

    role: str
    cell: str | None
    host: str | None
    pid: int
    started: int = 0


def started_at(pid: int) -> int:
    """When the process began, in clock ticks since boot; 0 when there is none."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
    except OSError:
        return 0
    return 0 if fields[0] == "Z" else int(fields[19])


def is_ours(pid: int, started: int) -> bool:
    """Whether the very process that was recorded lives: pids are used again."""
    return bool(started) and started_at(pid) == started


def write(plan: Plan, cell_uuids: dict[str, str], running: Sequence[Running], launcher: Running | None) -> None:
    """Replace the file as a whole."""
    document = {
        "state": str(plan.state),
        "auth": plan.options.auth,
        "driver": plan.driver,
        "networking": plan.choice.networking,
        "why_not_more": plan.choice.reason,
        "mode": "processes" if plan.options.processes else "one process",
        "cafile": None if plan.authorities is None else str(plan.authorities),
        "endpoints": {name: plan.endpoint(name) for name in _advertised(plan)},
        "credentials": {"admin": credentials(plan, "admin"), "user": credentials(plan, "demo")},
        "database": plan.databases["api"],
        "transport": plan.transports["api"],
        "cells": [
            {
                "name": name,
                "uuid": cell_uuids[name],
                "database": plan.databases[name],
                "transport": plan.transports.get(name, "none:///"),
            }
            for name in ("cell0", *plan.cells)
        ],
        "launcher": asdict(launcher) if launcher else None,
        "processes": [asdict(each) for each in running],
    }
    write_secret(plan.state / "polycell.json", json.dumps(document, indent=2) + "\n")


def _advertised(plan: Plan) -> tuple[str, ...]:
    elsewhere = plan.options.auth not in ("companion", "noauth2")
    return (*plan.services, "identity") if elsewhere else plan.services


def read(state: Path) -> dict[str, Any]:
    """Raises Invalid when there is none that can be read."""
    try:
        document: dict[str, Any] = json.loads((state / "polycell.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise Invalid(reason=f"{state} has no cloud: there is no polycell.json that can be read") from None
    return document


def living(document: dict[str, Any]) -> list[Running]:
    """The recorded processes that are alive, the launcher last; each pid once."""
    recorded = [*document["processes"], *([document["launcher"]] if document["launcher"] else [])]
    found = {each["pid"]: Running(**each) for each in recorded if is_ours(each["pid"], each["started"])}
    return list(found.values())


def this_process(role: str, cell: str | None = None, host: str | None = None) -> Running:
    return of_process(os.getpid(), role, cell, host)


def of_process(pid: int, role: str, cell: str | None = None, host: str | None = None) -> Running:
    return Running(role, cell, host, pid, started_at(pid))
