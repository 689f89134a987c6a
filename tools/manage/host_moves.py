"""`cell_v2 move_host`: a host goes to another cell while its guests run on."""

from __future__ import annotations

from api_cell.superconductor.host_moves import WAIT_SECONDS, HostMover, HostMoveRefused, HostMoveUnfinished
from cell_service.db.host_rows import HostIsThere
from cell_service.errors import CellMappingNotFound, CellUnavailable, HostMappingNotFound, Invalid
from mapping_db import cell_mappings
from mapping_db.cloud import Cloud
from mapping_db.host_moves import HostIsMoving
from tools.manage.command import Args, arg, command
from tools.manage.failures import explained
from tools.manage.named_cells import HELP, the_one
from tools.manage.out import Out


@command("cell_v2 move_host", arg("--host", required=True, metavar="HOST", help="a compute host"),
         arg("--to", metavar="CELL", help=f"the cell that gets it: {HELP}"),
         arg("--abort", flag=True, help="undo a move that was begun, as long as no instance has gone"),
         arg("--wait", type=float, default=WAIT_SECONDS, metavar="SECONDS",
             help="for work that runs, and for the host to answer"),
         arg("--verbose", flag=True, help="say each step"))  # fmt: skip
def move_host(cloud: Cloud, args: Args, out: Out) -> int:
    """Move a host with its instances to another cell; its guests run on. Run again, it goes on where it was stopped.
    0 moved, also when it was there already, or undone; 1 no such host or cell; 2 refused; 3 not finished, run it
    again."""

    def reported(what: str, count: int) -> None:
        if args.verbose:
            out.say(f"{what}: {count}" if count else what)

    mover = HostMover(cloud, args.host, wait_seconds=args.wait, report=reported)
    try:
        if args.abort:
            mover.abort()
            out.say(f"The move of host {args.host} is undone.")
            return 0
        with cloud.db.connect() as tx:
            cell = the_one(cell_mappings.every(tx), args.to or "")
        moved = mover.move(cell.id)
    except (CellMappingNotFound, HostMappingNotFound, Invalid) as error:
        out.warn(str(error))
        return 1
    except (HostMoveRefused, HostIsMoving, HostIsThere) as error:
        out.warn(str(error))
        return 2
    except (HostMoveUnfinished, CellUnavailable) as error:
        out.warn(f"{explained(error)} Run the command again to go on.")
        return 3
    out.say(f"Host {args.host} is {'now' if moved else 'already'} in cell {cell.shown}.")
    return 0
