"""The checks of cells as such: unreachable servers, schemas, clocks, another cell's database, cell0, hosts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial

from cell_service.context import Deadline
from cell_service.db import identity
from cell_service.db import upgrades as cell_schema
from cell_service.errors import Conflict
from mapping_db import host_mappings
from mapping_db.cell_mappings import CellMapping
from mapping_db.cloud import Cloud
from mapping_db.host_mappings import HostMapping
from tools.manage.findings import Finding, Level
from tools.manage.probes import CellProbe, CellReport

CLOCK_WARNING, CLOCK_ERROR = 2.0, 30.0
_SECONDS = 30.0


def of_cells(cloud: Cloud, cell_probes: Sequence[CellProbe]) -> Iterator[Finding]:
    """The findings of each cell by itself, and of pairs that share what they must not share."""
    names = {each.mapping.uuid: each.mapping.shown for each in cell_probes}
    if not any(each.mapping.is_cell0 for each in cell_probes):
        yield Finding(Level.ERROR, "cell0", None, "cell0 is not mapped: run cell_v2 map_cell0")
    if not any(not each.mapping.is_cell0 for each in cell_probes):
        yield Finding(Level.WARNING, "mappings", None, "no cell is mapped but cell0: run cell_v2 create_cell")
    for each in cell_probes:
        if each.report is None:
            level = Level.WARNING if each.mapping.disabled else Level.ERROR
            yield Finding(level, "database", each.mapping.shown, f"is unreachable at {each.error}")
        else:
            yield from _of_one(cloud, each.mapping, each.report, names)
        if each.queue is not None and each.queue.error:
            level = Level.WARNING if each.mapping.disabled else Level.ERROR
            text = f"is unreachable at {each.queue.error}; hosts report through it, and so count as down meanwhile"
            yield Finding(level, "queue", each.mapping.shown, text)
    yield from _shared(cloud.cells.all())


def of_hosts(
    cloud: Cloud, cell_probes: Sequence[CellProbe], mapped: Sequence[HostMapping], moving: frozenset[str]
) -> Iterator[Finding]:
    """Hosts that are down although enabled, that two cells claim, or whose mapping says something else than the cells.
    Hosts of a cell that is down are left alone, and so are those that are `moving`."""
    for each in cell_probes:
        if each.report is None or (each.queue is not None and each.queue.error):
            continue  # of no host it is known whether it is down
        for host in sorted(each.report.missed):
            yield Finding(Level.WARNING, "hosts", each.mapping.shown, f"host {host} is down")
    by_id = {each.mapping.id: each for each in cell_probes}
    reported: dict[str, list[CellProbe]] = {}
    for each in cell_probes:
        for host in each.report.hosts.keys() - each.report.leaving if each.report is not None else ():
            reported.setdefault(host, []).append(each)
    where = {mapping.host: mapping.cell_id for mapping in mapped}
    for host, places in sorted(reported.items()):
        if host in moving:
            continue
        shown = " and ".join(each.mapping.shown for each in places)
        if len(places) > 1:
            yield Finding(Level.ERROR, "hosts", None, f"host {host} reports to two cells: {shown}")
        elif places[0].mapping.is_cell0:
            yield Finding(Level.ERROR, "cell0", "cell0", f"host {host} reports to cell0, which must have no hosts")
        elif host not in where:
            yield Finding(Level.WARNING, "hosts", shown, f"host {host} is not mapped: run cell_v2 discover_hosts")
        elif where[host] != places[0].mapping.id and where[host] in by_id:
            yield _elsewhere(cloud, host, by_id[where[host]], places[0])
    for host, cell_id in sorted(where.items()):
        owner = by_id.get(cell_id)
        if owner is None or host in reported or host in moving:
            continue
        if owner.mapping.is_cell0:
            yield Finding(Level.ERROR, "cell0", "cell0", f"host {host} is mapped to cell0", "forget the mapping",
                          partial(_forget, cloud, host))  # fmt: skip
        elif owner.report is not None and owner.report.current:
            text = f"host {host} is mapped to the cell, which has never heard of it"
            yield Finding(Level.WARNING, "hosts", owner.mapping.shown, text, "forget the mapping",
                          partial(_forget, cloud, host))  # fmt: skip


def _of_one(cloud: Cloud, mapping: CellMapping, report: CellReport, names: Mapping[str, str]) -> Iterator[Finding]:
    shown = mapping.shown
    if not report.current:
        found = report.version or "missing"
        yield Finding(Level.ERROR, "schema", shown, f"is {found}, not {cell_schema.newest()}: run db sync")
    if abs(report.clock_seconds) > CLOCK_WARNING:
        level = Level.ERROR if abs(report.clock_seconds) > CLOCK_ERROR else Level.WARNING
        side = "ahead of" if report.clock_seconds > 0 else "behind"
        yield Finding(
            level, "clock", shown, f"the database's clock is {abs(report.clock_seconds):.1f} s {side} this one's"
        )
    if report.identity is None and report.current:
        yield Finding(Level.WARNING, "identity", shown, "the database does not say whose it is", "write down that it "
                      "is this cell's", partial(_claim, cloud, mapping))  # fmt: skip
    elif report.identity not in (None, mapping.uuid):
        other = names.get(report.identity or "", report.identity)
        yield Finding(Level.ERROR, "identity", shown, f"this is the database of cell {other}")
    if mapping.is_cell0 and report.nodes:
        yield Finding(Level.ERROR, "cell0", shown, f"{len(report.nodes)} compute nodes report to cell0")


def _shared(mappings: Sequence[CellMapping]) -> Iterator[Finding]:
    """The URLs as they are with their variables filled in."""
    databases: dict[str, str] = {}
    queues: dict[str, str] = {}
    for mapping in mappings:
        for what, url, report in (
            ("database", mapping.database_connection, databases),
            ("queue", "" if mapping.is_cell0 else mapping.transport_url, queues),
        ):
            if url and url in report:
                yield Finding(Level.ERROR, "urls", mapping.shown, f"has the same {what} as cell {report[url]}")
            elif not url.startswith("none:"):
                report[url] = mapping.shown


def _elsewhere(cloud: Cloud, host: str, mapped: CellProbe, reports: CellProbe) -> Finding:
    text = f"host {host} is mapped to cell {mapped.mapping.shown} and reports to {reports.mapping.shown}"
    if mapped.report is None:
        return Finding(Level.ERROR, "hosts", reports.mapping.shown, f"{text}; the first one is unreachable")
    return Finding(
        Level.ERROR, "hosts", reports.mapping.shown, text, f"map it to {reports.mapping.shown}",
        partial(_remap, cloud, host, mapped.mapping.id, reports.mapping.id),
    )  # fmt: skip


def _forget(cloud: Cloud, host: str) -> None:
    cloud.db.run(lambda tx: host_mappings.remove(tx, host))


def _remap(cloud: Cloud, host: str, source: int, target: int) -> None:
    if not cloud.db.run(lambda tx: host_mappings.move(tx, host, source=source, target=target)):
        raise Conflict(reason=f"The mapping of host {host} has changed meanwhile.")


def _claim(cloud: Cloud, mapping: CellMapping) -> None:
    cell = cloud.cells.open(mapping.id)
    deadline = Deadline.after(_SECONDS, cloud.clock)
    cell.db.run(lambda tx: identity.claim(tx, mapping.uuid, cloud.clock.now()), deadline)
