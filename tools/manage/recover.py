"""`cell_v2 recover`: a cell whose database was lost, or is from an older snapshot, gets rows that agree with the global
database."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from cell_service.context import internal
from cell_service.errors import CellMappingNotFound, CellUnavailable, InstanceNotFound, PeerUnavailable
from mapping_db import cell_mappings
from mapping_db.cloud import Cloud
from tools.manage.command import Args, arg, command
from tools.manage.confirming import DRY_RUN, YES, confirm
from tools.manage.named_cells import HELP, the_one
from tools.manage.out import Out
from tools.manage.probes import reason_of
from tools.manage.recovering import Recovering, Recovery, Step, with_ports
from tools.manage.tables import Column

LOST = (
    "Rows that were made again lack what only the cell knew: metadata, tags, description, key pair, user data, locks, "
    "attached volumes, history and faults. Their power states come with the next reports of their hosts."
)


@command("cell_v2 recover", arg("--cell", required=True, metavar="CELL", help=HELP),
         arg("--deleted", flag=True, help="also delete servers there that users have deleted: those without which the "
             "cell was restored"),
         arg("--without-ports", flag=True, help="do not look for ports: rows have none, and get none later"),
         YES, DRY_RUN)  # fmt: skip
def recover(cloud: Cloud, args: Args, out: Out) -> int:
    """Make the rows of a cell again that its database has lost, from mappings, request specs, allocations and the
    ports of the network service ([neutron]), and correct hosts that are older than the allocations: after `snapshot
    restore`, or on an empty database after `db sync` and the start of the cell's conductor and agents. 0 all that is
    missing was made; 1 some could not be, with the reasons; 2 no such cell; 3 the cell or the network service does not
    answer, or is not configured: rows that were made by then stay, run it again."""
    if not (args.without_ports or args.settings.neutron.account):
        out.warn(f"{args.settings.lacks('[neutron] auth_url')}: give the file that has it, or --without-ports")
        return 3
    try:
        with cloud.db.connect() as tx:
            mapping = the_one(cell_mappings.every(tx), args.cell)
        recovering = Recovering(cloud, cloud.cells.open(mapping.id))
        with out.progress("comparing instances") as step:
            found = []
            for each in recovering.plan(deleted=args.deleted):
                found.append(each)
                step(1)
        if not args.without_ports:
            from cell_service.peers.neutron.ports import open_networks  # its packages take a moment to load

            found = with_ports(internal(cloud.clock), open_networks(args.settings.neutron), found)
        dead = sum(each.step is Step.DELETE for each in found)
        if dead and not args.dry_run:
            confirm(args, out, f"This deletes {dead} servers of cell {mapping.shown}, and their disks.", mapping.shown)
        if not args.dry_run:
            with out.progress("making rows", len(found)) as step:
                found = [_done(recovering, each, step) for each in found]
    except CellMappingNotFound as error:
        out.warn(str(error))
        return 2
    except (CellUnavailable, PeerUnavailable) as error:
        out.warn(reason_of(error))
        return 3
    _notify(found, out, dry_run=args.dry_run)
    return 1 if any(each.step is Step.LEAVE for each in found) else 0


def _done(recovering: Recovering, planned: Recovery, step: Callable[[int], None]) -> Recovery:
    """The recovery once it was tried; one whose row was changed by others meanwhile is left."""
    try:
        done = planned.step is Step.LEAVE or recovering.run(planned)
    except InstanceNotFound:
        done = False
    step(1)
    return planned if done else replace(planned, step=Step.LEAVE, reason="its row has changed meanwhile: look again")


def _notify(found: list[Recovery], out: Out, *, dry_run: bool) -> None:
    columns = ("UUID", "Name", "Host", Column("Action", shown=partial(_action, dry_run=dry_run)), "Reason")
    out.records(columns, [
        {"uuid": each.uuid, "name": each.name, "host": each.host, "action": each.step.name.lower(),
         "reason": each.reason or None} for each in found
    ])  # fmt: skip
    counts = Counter(each.step for each in found)
    would = "Would be made" if dry_run else "Made"
    out.say(f"{would} again: {counts[Step.MAKE]} rows; hosts corrected: {counts[Step.MOVE]}; deleted: "
            f"{counts[Step.DELETE]}; left: {counts[Step.LEAVE]}.")  # fmt: skip
    if counts[Step.MAKE]:
        out.say(LOST)


def _action(record: object, *, dry_run: bool) -> str:
    assert isinstance(record, dict)
    name = str(record["action"])
    return f"would {name}" if dry_run and name != "leave" else name
