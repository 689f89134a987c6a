"""`cell_v2`: the shortest ways from one cell's configuration file to a working cloud."""

from __future__ import annotations

from cell_service.errors import Invalid
from mapping_db import cell_mappings, host_mappings
from mapping_db.cell_mappings import CellMapping
from mapping_db.cloud import Cloud
from tools.manage import cells, hosts, instances, schemas
from tools.manage.command import Args, arg, command
from tools.manage.identities import DatabaseTaken, demand_free
from tools.manage.out import Out
from tools.manage.urls import cell0_of, checked_database, checked_transport

_TRANSPORT = arg("--transport-url", metavar="URL", help="default: [DEFAULT] transport_url")


@command("cell_v2 map_cell_and_hosts", arg("--name", metavar="NAME", help="of the cell"), _TRANSPORT,
         arg("--verbose", flag=True, help="print the cell's uuid"))  # fmt: skip
def map_cell_and_hosts(cloud: Cloud, args: Args, out: Out) -> int:
    """Map the cell that [database] connection names, unless it is mapped, and its hosts. 0 done; 1 a URL is missing or
    invalid, the database is another cell's (also cell0's), or the cell does not answer."""
    try:
        cell = _own_cell(cloud, args, out, args.name or "")
    except (Invalid, cells.UrlTaken, DatabaseTaken) as error:
        out.warn(str(error))
        return 1
    found = hosts.discover(cloud, (cell,), out)
    if found.failed:
        return 1
    if not found.mapped:
        out.say("All hosts are already mapped to cell(s).")
    if args.verbose or out.for_programs:
        out.value(cell.uuid, uuid=cell.uuid, name=cell.name or None, hosts=[host for _, host in found.mapped])
    return 0


@command("cell_v2 simple_cell_setup", _TRANSPORT)
def simple_cell_setup(cloud: Cloud, args: Args, out: Out) -> int:
    """Map cell0 and bring it to the newest schema; map the cell that [database] connection names, its hosts and its
    instances. 0 done, also when it was already; 1 a URL is missing or invalid, the database is another cell's
    (also cell0's), or no host has reported yet."""
    try:
        cell0 = cell0_of(cells.own_database(args))
        checked_transport(args.transport_url or cells.own_transport(args))
        cells.add_cell0(cloud, cell0)
        schemas.sync_cell0(cloud, args)
        cell = _own_cell(cloud, args, out, "")
    except (Invalid, cells.UrlTaken, DatabaseTaken) as error:
        out.warn(str(error))
        return 1
    found = hosts.discover(cloud, (cell,), out)
    with cloud.db.connect() as tx:
        mapped = host_mappings.counts(tx).get(cell.id, 0)
    if not mapped or found.failed:
        out.warn("No hosts found to map to cell, exiting.")
        return 1
    done = instances.map_all(cloud, cell, out)
    out.value(f"Cell {cell.shown} is set up with {mapped} hosts; {done.count} instances were mapped.",
              uuid=cell.uuid, hosts=mapped, instances_mapped=done.count)  # fmt: skip
    return 0


def _own_cell(cloud: Cloud, args: Args, out: Out, name: str) -> CellMapping:
    """The cell that the configuration names, mapped now unless it was. Raises Invalid, UrlTaken, DatabaseTaken."""
    transport_url = checked_transport(args.transport_url or cells.own_transport(args))
    database = checked_database(cells.own_database(args))
    for _ in range(2):
        with cloud.db.connect() as tx:
            for cell in cell_mappings.every(tx):
                if not cell.is_cell0 and cells.resolved(cell, args.settings) == (database, transport_url):
                    return cell
        demand_free(cloud, database, own_url=database, out=out)
        try:
            return cells.add_cell(cloud, args.settings, name, transport_url, database)
        except cells.UrlTaken as error:  # perhaps by the same command, run at the same time
            taken = error
    raise taken
