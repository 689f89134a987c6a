"""`cell_v2 list_cells --detail`: how every cell is, and how much of it is used."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from mapping_db import cell_mappings, host_mappings, instance_mappings
from mapping_db.cell_mappings import CellMapping
from mapping_db.cloud import Cloud
from mapping_db.placement import inventories, providers
from tools.manage.out import Out
from tools.manage.probes import CellProbe, CellReport, probe
from tools.manage.tables import Column

_CHUNK = 500
_CLASSES = ("VCPU", "MEMORY_MB", "DISK_GB")


def show(cloud: Cloud, out: Out, seconds: float, down_seconds: float) -> int:
    """Print a row for each cell. 1 when a database or a queue is unreachable, else 0."""
    with cloud.db.connect() as tx:
        mappings = sorted(cell_mappings.every(tx), key=lambda cell: (cell.name, cell.id))
        hosts = host_mappings.counts(tx)
        owned = instance_mappings.counts(tx)
    cell_probes = probe(cloud, mappings, seconds, down_seconds)
    rows = []
    for each in cell_probes:
        living = owned[each.mapping.id].living if each.mapping.id in owned else 0
        rows.append(_fields(cloud, each, hosts.get(each.mapping.id, 0), living))
    out.records(_COLUMNS, rows)
    if not out.for_programs and not out.shows(_TROUBLE):
        for fields in rows:
            if trouble := _trouble(fields):
                out.say(f"{fields['name'] or fields['uuid']}: {trouble}")
    return 1 if any(each.report is None or (each.queue and each.queue.error) for each in cell_probes) else 0


def state_of(mapping: CellMapping) -> str:
    """Whether the cell gets new servers, in a word or two."""
    if mapping.is_cell0:
        return "cell0"
    state = "disabled" if mapping.disabled else "drained" if mapping.weight == 0 else "enabled"
    return f"{state}, reserved" if mapping.reserved else state


def _fields(cloud: Cloud, each: CellProbe, hosts: int, instances: int) -> dict[str, Any]:
    """The row of a cell. The fields that are known globally are there also for a cell that is down; those that only the
    cell knows are None then."""
    mapping, report = each.mapping, each.report
    fields: dict[str, Any] = {
        "name": mapping.name or None, "uuid": mapping.uuid, "state": state_of(mapping), "weight": mapping.weight,
        "hosts_mapped": hosts, "instances": instances, "silent": report is None, "queue": _queue(each),
    }  # fmt: skip
    if report is None:
        nothing = ("schema", "clock_ahead_seconds", "hosts_up", "hosts", "hosts_down", "capacity")
        return fields | {"database": {"reachable": False, "error": each.error}} | dict.fromkeys(nothing)
    return fields | {
        "database": {"reachable": True, "milliseconds": _ms(report.database_seconds)},
        "clock_ahead_seconds": round(report.clock_seconds, 3),
        "schema": report.version,
        "hosts_up": sum(report.hosts.values()) if report.current else None,
        "hosts": len(report.hosts) if report.current else None,
        "hosts_down": sorted(host for host, is_up in report.hosts.items() if not is_up) if report.current else None,
        "capacity": _capacity(cloud, report) if report.current else None,
    }


def _queue(each: CellProbe) -> dict[str, Any] | None:
    if each.queue is None:
        return None
    fields: dict[str, Any] = {"reachable": not each.queue.error, "milliseconds": _ms(each.queue.seconds)}
    return fields | ({"error": each.queue.error} if each.queue.error else {})


def _capacity(cloud: Cloud, report: CellReport) -> dict[str, dict[str, int]]:
    """The capacity of the cell's nodes as placement knows it, by resource class: in use, and how much may be claimed in
    all."""
    sums = {name: {"used": 0, "capacity": 0} for name in _CLASSES}
    uuids = sorted(report.nodes)
    with cloud.db.connect() as tx:
        for start in range(0, len(uuids), _CHUNK):
            found = providers.by_uuids(tx, uuids[start : start + _CHUNK])
            stock = inventories.of_providers(tx, [provider.id for provider in found.values()])
            for owned in stock.values():
                for name in _CLASSES:
                    if name in owned:
                        sums[name]["used"] += owned[name].used
                        sums[name]["capacity"] += owned[name].capacity
    return sums


def _server(fields: Mapping[str, Any], name: str) -> str | None:
    part = fields[name]
    if part is None:
        return None
    return f"{part['milliseconds']} ms" if part["reachable"] else "UNREACHABLE"


def _clock(fields: Mapping[str, Any]) -> str | None:
    seconds = fields["clock_ahead_seconds"]
    return None if seconds is None else f"{seconds:+.3f} s"


def _hosts(fields: Mapping[str, Any]) -> str:
    if fields["hosts"] is None:
        return f"{fields['hosts_mapped']} mapped"
    return f"{fields['hosts_up']}/{fields['hosts']}"


def _used(fields: Mapping[str, Any], name: str) -> str | None:
    capacity = fields["capacity"]
    return f"{capacity[name]['used']}/{capacity[name]['capacity']}" if capacity else None


def _trouble(fields: Mapping[str, Any]) -> str | None:
    parts = ((name, fields[name]) for name in ("database", "queue"))
    servers = [f"{name} at {part['error']}" for name, part in parts if part and part.get("error")]
    hosts = [f"host {host} is down" for host in fields["hosts_down"] or ()]
    return "; ".join(servers + hosts) or None


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 1)


_TROUBLE = Column("Trouble", long=True, shown=_trouble)
_COLUMNS: tuple[Column | str, ...] = (
    "Name", Column("UUID", long=True), Column("State", state=True), Column("Weight", long=True),
    Column("Database", state=True, shown=partial(_server, name="database")),
    Column("Queue", state=True, shown=partial(_server, name="queue")),
    Column("Clock Ahead", "clock_ahead_seconds", long=True, shown=_clock), Column("Schema", long=True),
    Column("Hosts Up", "hosts_up", shown=_hosts), "Instances",
    *(Column(title, f"{name.lower()}_used", long=True, shown=partial(_used, name=name))
      for title, name in (("VCPU", "VCPU"), ("Memory MB", "MEMORY_MB"), ("Disk GB", "DISK_GB"))),
    _TROUBLE,
)  # fmt: skip
