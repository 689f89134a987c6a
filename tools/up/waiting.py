"""The conditions that `polycell up` waits for before it says READY: APIs answer, and hosts may get servers."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterable
from functools import partial

import requests

from cell_service.context import SYSTEM_CLOCK, Deadline
from cell_service.db import compute_nodes, services
from cell_service.db.sql.engine import Database
from cell_service.errors import Unavailable
from mapping_db import host_mappings
from mapping_db.placement import stock
from tools.up import configs, record
from tools.up.plan import GLOBAL, Plan

READY_SECONDS = 60.0
SAY_SECONDS = 10.0
"""So often the hosts that are still missing are named."""
_NAMED = 6
"""More names than this are counted."""

Say = Callable[[str], None]


def until_served(plan: Plan, names: Iterable[str], deadline: Deadline, ended: threading.Event) -> None:
    """Every one of these services answers afterwards. Raises Unavailable."""
    for name in names:
        _poll(partial(_answers, plan, name), lambda name=name: f"{name} does not answer", deadline, ended)  # type: ignore[misc]


def until_hosts_are_ready(plan: Plan, say: Say, deadline: Deadline, ended: threading.Event) -> None:
    """Every host may get servers afterwards; those that are late are named as time goes by. Raises Unavailable."""
    wanted = {host for cell in plan.cells for host in plan.hosts(cell)}
    say(f"waiting for {len(wanted)} host{'' if len(wanted) == 1 else 's'}")
    db = Database(plan.databases[GLOBAL])
    cells = {name: Database(plan.databases[name]) for name in plan.cells}
    missing, say_at = set(wanted), time.monotonic() + SAY_SECONDS

    def all_ready() -> bool:
        nonlocal missing, say_at
        missing = wanted - ready_hosts(db, cells.values())
        if missing and time.monotonic() >= say_at:
            say_at = time.monotonic() + SAY_SECONDS
            say(f"still missing: {_shown(missing)}; {logs_of(plan, missing)}")
        return not missing

    try:
        _poll(all_ready, lambda: _late(plan, missing), deadline, ended)
    finally:
        for each in (db, *cells.values()):
            each.dispose()


def ready_hosts(db: Database, cells: Iterable[Database]) -> set[str]:
    """The hosts that may get servers: they are up in their cells, mapped, and placement knows what they have."""
    now = SYSTEM_CLOCK.now()
    with db.connect() as tx:
        mapped = {mapping.host for mapping in host_mappings.every(tx)}
        offering = {provider.uuid for provider in stock.read(tx).values() if provider.inventories}
    ready: set[str] = set()
    for cell in cells:
        with cell.connect() as tx:
            known = services.list_all(tx, binary=services.COMPUTE)
            offered = {node.host for node in compute_nodes.list_all(tx) if node.report.uuid in offering}
        up_now = {each.host for each in known if each.is_up(now, configs.DOWN_SECONDS)}
        ready |= up_now & mapped & offered
    return ready


def logs_of(plan: Plan, hosts: set[str]) -> str:
    """Where to read why hosts are late."""
    if not plan.options.processes:
        return f"their log is {plan.state / 'logs' / record.LAUNCHER_LOG}"
    titles = [f"compute-{host}.log" for host in sorted(hosts)[:_NAMED]]
    return f"their logs are in {plan.state / 'logs'}: {', '.join(titles)}{_rest(hosts)}"


def _late(plan: Plan, hosts: set[str]) -> str:
    return f"{_shown(hosts)} did not come up within {READY_SECONDS:.0f} s; {logs_of(plan, hosts)}"


def _shown(hosts: set[str]) -> str:
    return ", ".join(sorted(hosts)[:_NAMED]) + _rest(hosts)


def _rest(hosts: set[str]) -> str:
    return f" and {len(hosts) - _NAMED} more" if len(hosts) > _NAMED else ""


def _answers(plan: Plan, service: str) -> bool:
    path = "/readyz" if service == "compute" else "/"
    try:
        answer = requests.get(plan.origin(service) + path, timeout=5, verify=configs.verified_by(plan.authorities))
    except requests.RequestException:
        return False
    return answer.status_code < 500


def _poll(
    is_ready: Callable[[], bool], otherwise: Callable[[], str], deadline: Deadline, ended: threading.Event
) -> None:
    """Wait until it is true. Raises Unavailable when it is not in time."""
    while not ended.is_set():
        with contextlib.suppress(Unavailable):
            if is_ready():
                return
        if not deadline.remaining():
            raise Unavailable(reason=otherwise())
        ended.wait(0.05)
