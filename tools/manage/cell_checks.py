"""What can be wrong with cells as such: silent servers, schemas, clocks, whose database it is, cell0, hosts."""

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
from tools.manage.probes import Look, Seen

CLOCK_WARNING, CLOCK_ERROR = 2.0, 30.0
_SECONDS = 30.0


def of_cells(cloud: Cloud, looks: Sequence[Look]) -> Iterator[Finding]:
    """Of each cell by itself, and of pairs that share what they must not share."""
    names = {each.mapping.uuid: each.mapping.shown for each in looks}
    if not any(each.mapping.is_cell0 for each in looks):
        yield Finding(Level.ERROR, "cell0", None, "cell0 is not mapped: run cell_v2 map_cell0")
    if not any(not each.mapping.is_cell0 for each in looks):
        yield Finding(Level.WARNING, "mappings", None, "no cell is mapped but cell0: run cell_v2 create_cell")
    for each in looks:
        if each.seen is None:
            level = Level.WARNING if each.mapping.disabled else Level.ERROR
            yield Finding(level, "database", each.mapping.shown, f"is silent: {each.error}")
        else:
            yield from _of_one(cloud, each.mapping, each.seen, names)
    yield from _shared(cloud.cells.all())


def of_hosts(
    cloud: Cloud, looks: Sequence[Look], mapped: Sequence[HostMapping], moving: frozenset[str]
) -> Iterator[Finding]:
    """Hosts that two cells claim, or whose mapping says something else than the cells. A silent cell's hosts are left
    alone, and so are those that are `moving`."""
    by_id = {each.mapping.id: each for each in looks}
    reported: dict[str, list[Look]] = {}
    for each in looks:
        for host in each.seen.hosts.keys() - each.seen.leaving if each.seen is not None else ():
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
        elif owner.seen is not None and owner.seen.current:
            text = f"host {host} is mapped to the cell, which has never heard of it"
            yield Finding(Level.WARNING, "hosts", owner.mapping.shown, text, "forget the mapping",
                          partial(_forget, cloud, host))  # fmt: skip


def _of_one(cloud: Cloud, mapping: CellMapping, seen: Seen, names: Mapping[str, str]) -> Iterator[Finding]:
    shown = mapping.shown
    if not seen.current:
        found = seen.version or "missing"
        yield Finding(Level.ERROR, "schema", shown, f"is {found}, not {cell_schema.newest()}: run db sync")
    if seen.queue_error is not None:
        level = Level.WARNING if mapping.disabled else Level.ERROR
        yield Finding(level, "queue", shown, f"does not answer: {seen.queue_error}")
    if abs(seen.clock_seconds) > CLOCK_WARNING:
        level = Level.ERROR if abs(seen.clock_seconds) > CLOCK_ERROR else Level.WARNING
        side = "ahead of" if seen.clock_seconds > 0 else "behind"
        yield Finding(
            level, "clock", shown, f"the database's clock is {abs(seen.clock_seconds):.1f} s {side} this one's"
        )
    if seen.identity is None and seen.current:
        yield Finding(Level.WARNING, "identity", shown, "the database does not say whose it is", "write down that it "
                      "is this cell's", partial(_claim, cloud, mapping))  # fmt: skip
    elif seen.identity not in (None, mapping.uuid):
        other = names.get(seen.identity or "", seen.identity)
        yield Finding(Level.ERROR, "identity", shown, f"this is the database of cell {other}")
    if mapping.is_cell0 and seen.nodes:
        yield Finding(Level.ERROR, "cell0", shown, f"{len(seen.nodes)} compute nodes report to cell0")


def _shared(mappings: Sequence[CellMapping]) -> Iterator[Finding]:
    """The URLs as they are with their variables filled in."""
    databases: dict[str, str] = {}
    queues: dict[str, str] = {}
    for mapping in mappings:
        for what, url, seen in (
            ("database", mapping.database_connection, databases),
            ("queue", "" if mapping.is_cell0 else mapping.transport_url, queues),
        ):
            if url and url in seen:
                yield Finding(Level.ERROR, "urls", mapping.shown, f"has the same {what} as cell {seen[url]}")
            elif not url.startswith("none:"):
                seen[url] = mapping.shown


def _elsewhere(cloud: Cloud, host: str, mapped: Look, reports: Look) -> Finding:
    text = f"host {host} is mapped to cell {mapped.mapping.shown} and reports to {reports.mapping.shown}"
    if mapped.seen is None:
        return Finding(Level.ERROR, "hosts", reports.mapping.shown, f"{text}; the first one is silent")
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
