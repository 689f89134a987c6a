"""`cell_v2`: which hosts are in which cell."""

from __future__ import annotations

from dataclasses import dataclass

from cell_service.context import Deadline
from cell_service.db import compute_nodes, instances, services
from cell_service.errors import CellMappingNotFound, HostMappingNotFound
from mapping_db import cell_mappings, host_mappings
from mapping_db.cell_mappings import CellMapping
from mapping_db.cells.registry import Cell
from mapping_db.cloud import Cloud
from tools.manage.cloud import COMMAND_SECONDS
from tools.manage.command import Args, arg, command
from tools.manage.failures import explained
from tools.manage.named_cells import HELP
from tools.manage.out import Out
from tools.manage.tables import Column

_BATCH = 1000


@dataclass(frozen=True, slots=True)
class Reported:
    """A host that its cell knows, and the nodes of it that are to be marked as mapped."""

    host: str
    nodes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Discovery:
    """The result of a discovery: hosts mapped now; hosts whose name another cell has already; cells that did not
    answer."""

    mapped: list[tuple[CellMapping, str]]
    foreign: list[tuple[CellMapping, str]]
    failed: list[str]


@command("cell_v2 discover_hosts", arg("--cell_uuid", metavar="CELL", help=f"only this cell: {HELP}"),
         arg("--verbose", flag=True, help="say what is looked at"),
         arg("--strict", flag=True, help="finding nothing new is a failure"),
         arg("--by-service", flag=True, help="map the hosts of compute services, with nodes or without"))  # fmt: skip
def discover_hosts(cloud: Cloud, args: Args, out: Out) -> int:
    """Map the compute hosts that no mapping names yet; safe to run at any time, also twice at once. 0 done; 1 no such
    cell, a cell that does not answer, or with --strict nothing new; 2 a host is mapped to another cell already."""
    with cloud.db.connect() as tx:
        cells = cell_mappings.every(tx)
    if args.cell_uuid:
        cells = tuple(cell for cell in cells if cell.uuid == args.cell_uuid)
        if not cells:
            out.warn(f"Cell with uuid {args.cell_uuid} was not found.")
            return 1
    if args.verbose:
        out.say(f"Found {len(cells)} cell mappings.")
    found = discover(cloud, cells, out, by_service=args.by_service, verbose=args.verbose)
    if out.for_programs:
        out.table(("host", "cell_name", "cell_uuid"), [(host, cell.name, cell.uuid) for cell, host in found.mapped])
    for cell, host in found.foreign:
        out.warn(f"Host {host} of cell {cell.shown} is mapped to another cell already; host names must not repeat.")
    if found.failed or (args.strict and not found.mapped):
        return 1
    return 2 if found.foreign else 0


@command("cell_v2 list_hosts", arg("--cell_uuid", metavar="CELL", help=f"only this cell: {HELP}"), reads=True)
def list_hosts(cloud: Cloud, args: Args, out: Out) -> int:
    """List the hosts of all cells, or of one. 0 listed; 1 no such cell."""
    with cloud.db.connect() as tx:
        by_id = {cell.id: cell for cell in cell_mappings.every(tx)}
        wanted = [cell.id for cell in by_id.values() if cell.uuid == args.cell_uuid]
        if args.cell_uuid and not wanted:
            out.warn(f"Cell with uuid {args.cell_uuid} was not found.")
            return 1
        hosts = host_mappings.every(tx, wanted[0] if wanted else None)
    rows = [(by_id[host.cell_id].name or None, by_id[host.cell_id].uuid, host.host)
            for host in hosts if host.cell_id in by_id]  # fmt: skip
    out.table(
        ("Cell Name", "Cell UUID", Column("Hostname", "host")), sorted(rows, key=lambda row: (row[0] or "", row[2]))
    )
    return 0


@command("cell_v2 delete_host", arg("--cell_uuid", required=True, metavar="CELL", help=HELP),
         arg("--host", required=True, metavar="HOST", help="a compute host"))  # fmt: skip
def delete_host(cloud: Cloud, args: Args, out: Out) -> int:
    """Forget which cell a host is in; it can be discovered again. 0 deleted; 1 no such cell; 2 no such host; 3 the host
    is in another cell; 4 the host has instances."""
    deadline = Deadline.after(COMMAND_SECONDS, cloud.clock)
    try:
        with cloud.db.connect() as tx:
            mapping = cell_mappings.get(tx, args.cell_uuid)
            there = host_mappings.get(tx, args.host)
    except CellMappingNotFound:
        out.warn(f"Cell with uuid {args.cell_uuid} was not found.")
        return 1
    except HostMappingNotFound:
        out.warn(f"The host {args.host} was not found.")
        _unmap_nodes(cloud.cells.open(mapping.id), [args.host], deadline)  # a run that was killed got no further
        return 2
    if there.cell_id != mapping.id:
        out.warn(f"The host {args.host} was not found in the cell {mapping.uuid}.")
        return 3
    cell = cloud.cells.open(mapping.id)
    with cell.db.connect(deadline) as tx:
        living = instances.count_by_host(tx).get(args.host, 0)
    if living:
        out.warn(f"There are instances on the host {args.host}.")
        return 4
    try:
        cloud.db.run(lambda tx: host_mappings.remove(tx, args.host))
    except HostMappingNotFound:
        out.warn(f"The host {args.host} was not found.")
        return 2
    _unmap_nodes(cell, [args.host], deadline)
    out.say(f"Host {args.host} is no longer mapped.")
    return 0


def discover(
    cloud: Cloud, cells: tuple[CellMapping, ...], out: Out, *, by_service: bool = False, verbose: bool = False
) -> Discovery:
    """Map what the cells report and no mapping names. Global mappings come first, then the marks in the cells: killed
    between the two, the next run finds the mapping and marks."""
    deadline = Deadline.after(COMMAND_SECONDS, cloud.clock)
    names = {cell.id: cell for cell in cells if not cell.is_cell0}
    if verbose:
        for cell in cells:
            if cell.is_cell0:
                out.say("Skipping cell0 since it does not contain hosts.")
    found = Discovery([], [], [])
    with out.progress("discovering hosts", len(names)) as step:

        def ask(cell: Cell) -> list[Reported]:
            reported = _reported(cell, by_service, deadline)
            step(1)
            return reported

        gathered = cloud.cells.scatter(names, ask, deadline)
    for cell_id, error in gathered.failures.items():
        out.warn(f"Cell {names[cell_id].shown}: {explained(error)}")
        found.failed.append(names[cell_id].shown)
    for cell_id, reported in sorted(gathered.answers.items()):
        _map(cloud, names[cell_id], reported, found, deadline, out, verbose)
    return found


def _reported(cell: Cell, by_service: bool, deadline: Deadline) -> list[Reported]:
    with cell.db.connect(deadline) as tx:
        if by_service:
            hosts = [service.host for service in services.list_all(tx, binary=services.COMPUTE)]
            return [Reported(host, ()) for host in hosts]
        by_host: dict[str, list[str]] = {}
        for node in compute_nodes.list_all(tx):
            if not node.mapped:
                by_host.setdefault(node.host, []).append(node.report.uuid)
    return [Reported(host, tuple(nodes)) for host, nodes in by_host.items()]


def _map(
    cloud: Cloud, mapping: CellMapping, reported: list[Reported], found: Discovery, deadline: Deadline, out: Out,
    verbose: bool
) -> None:  # fmt: skip
    if verbose:
        out.say(f"Getting computes from cell '{mapping.name}': {mapping.uuid}")
    fresh: list[str] = []
    for start in range(0, len(reported), _BATCH):
        part = reported[start : start + _BATCH]
        hosts = [each.host for each in part]
        fresh += cloud.db.run(
            lambda tx, hosts=hosts: host_mappings.insert_missing(tx, mapping.id, hosts, cloud.clock.now())  # type: ignore[misc]
        )
        with cloud.db.connect() as tx:
            owner = {each.host: each.cell_id for each in host_mappings.of_hosts(tx, hosts)}
        found.foreign.extend((mapping, host) for host in hosts if owner.get(host, mapping.id) != mapping.id)
        nodes = [node for each in part for node in each.nodes if owner.get(each.host) == mapping.id]
        if nodes:
            cell = cloud.cells.open(mapping.id)
            cell.db.run(lambda tx, nodes=nodes: compute_nodes.set_mapped(tx, nodes), deadline)  # type: ignore[misc]
    if verbose:
        for each in reported:
            out.say(f"Checking host mapping for compute host '{each.host}'")
            if each.host in fresh:
                out.say(f"Creating host mapping for compute host '{each.host}'")
        out.say(f"Found {len(fresh)} unmapped computes in cell: {mapping.uuid}")
    found.mapped.extend((mapping, host) for host in fresh)


def _unmap_nodes(cell: Cell, hosts: list[str], deadline: Deadline) -> None:
    """Mark the hosts' nodes as not mapped, so that they may be discovered again."""

    def uuids() -> list[str]:
        with cell.db.connect(deadline) as tx:
            return [node.report.uuid for host in hosts for node in compute_nodes.list_all(tx, host=host)]

    wanted = uuids()
    cell.db.run(lambda tx: compute_nodes.set_mapped(tx, wanted, mapped=False), deadline)
