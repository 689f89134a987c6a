"""`polycell-manage`: its commands, and what a failure prints and answers."""

from __future__ import annotations

import contextlib
import logging
import sys
import traceback
from collections.abc import Sequence
from functools import partial
from typing import cast

from cell_service import logs
from cell_service.context import SYSTEM_CLOCK
from cell_service.errors import PolycellError
from mapping_db.cloud import Cloud
from tools.manage import (
    archiving,
    capacity,
    cell_check,
    cells,
    emptying,
    first_cell,
    healing,
    host_moves,
    hosts,
    instances,
    machine_types,
    new_cell,
    orphans,
    provider_aggregates,
    recover,
    removal,
    schemas,
    seeding,
    snapshot,
    tenants,
    volume_attachments,
    volume_refresh,
)
from tools.manage.cloud import open_cloud
from tools.manage.command import Args, Command, Globals, parse
from tools.manage.confirming import NotConfirmed
from tools.manage.failures import explained, one_line
from tools.manage.named_cells import spell_out
from tools.manage.out import Out
from tools.manage.settings import read_settings
from tools.manage.watching import watch

COMMANDS: tuple[Command, ...] = (
    schemas.api_sync,
    schemas.api_version,
    schemas.sync,
    schemas.version,
    archiving.archive_deleted_rows,
    archiving.purge,
    first_cell.simple_cell_setup,
    new_cell.init,
    cells.map_cell0,
    first_cell.map_cell_and_hosts,
    cells.create_cell,
    cells.update_cell,
    cells.drain_cell,
    cells.list_cells,
    removal.delete_cell,
    cell_check.check,
    recover.recover,
    hosts.discover_hosts,
    hosts.list_hosts,
    hosts.delete_host,
    host_moves.move_host,
    emptying.drain_host,
    emptying.evacuate_host,
    instances.map_instances,
    instances.verify_instance,
    machine_types.get_machine_type,
    machine_types.update_machine_type,
    machine_types.list_unset_machine_type,
    volume_attachments.show,
    volume_attachments.get_connector,
    volume_refresh.refresh,
    tenants.pin,
    tenants.unpin,
    tenants.keep,
    tenants.release,
    tenants.show_rules,
    tenants.explain,
    capacity.capacity,
    healing.heal_allocations,
    orphans.audit,
    provider_aggregates.sync_aggregates,
    snapshot.save,
    snapshot.show,
    snapshot.restore,
    seeding.seed,
    seeding.unseed,
)
NO_COMMAND, NOT_CONFIRMED, INTERRUPTED, UNEXPECTED = 2, 126, 130, 255


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command that the line names. Its exit code; 2 when it names none, 255 for what the command does not
    foresee."""
    return run("polycell-manage", COMMANDS, sys.argv[1:] if argv is None else argv)


def run(prog: str, commands: Sequence[Command], argv: Sequence[str]) -> int:
    parsed = parse(prog, commands, argv)
    if parsed is None:
        return NO_COMMAND
    chosen, args, found = parsed
    logs.set_up(debug=found.debug)
    if not found.debug:
        logging.getLogger().setLevel(logging.CRITICAL)
    once = partial(_once, chosen, args, found)
    if getattr(args, "watch", 0):
        return watch(once, args, Out(found.shape), f"{prog} {chosen.name}", SYSTEM_CLOCK)
    try:
        return once(Out(found.shape))
    except KeyboardInterrupt:
        print("Interrupted. What was done so far stays; run the command again to go on.", file=sys.stderr)
        return INTERRUPTED


def _once(chosen: Command, args: Args, found: Globals, out: Out) -> int:
    """Run the command; what it does not foresee is said in a line. Its exit code."""
    try:
        args.settings = read_settings(found.config_files)
        with contextlib.ExitStack() as stack:
            lacking = chosen.local and not args.settings.api_database
            seconds = getattr(args, "timeout", 0.0)
            cloud = None if lacking else stack.enter_context(open_cloud(args.settings, seconds=seconds))
            if cloud is not None:
                spell_out(cloud, args)
            return chosen.run(cast(Cloud, cloud), args, out)
    except PolycellError as error:
        _trace(found.debug, out)
        out.warn(explained(error))
    except NotConfirmed as error:
        out.warn(str(error))
        return NOT_CONFIRMED
    except Exception as error:  # noqa: BLE001  the edge of the process
        _trace(found.debug, out)
        out.warn(one_line(f"Unexpected error: {type(error).__name__}: {error}"))
    return UNEXPECTED


def _trace(debug: bool, out: Out) -> None:
    if debug:
        out.warn(traceback.format_exc())


if __name__ == "__main__":
    sys.exit(main())
