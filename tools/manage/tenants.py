"""`placement`: which projects go to which cells, and why a server is on its host."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection

from cell_service.errors import CellMappingNotFound, Invalid
from mapping_db import cell_mappings, placement_notes, project_cells
from mapping_db.cell_mappings import CellMapping
from mapping_db.cloud import Cloud
from tools.manage.command import Args, arg, command
from tools.manage.named_cells import HELP, the_one
from tools.manage.out import Out

_CELLS = arg("--cell", action="append", required=True, metavar="CELL", help=f"{HELP}; may be given several times")
_PROJECTS = arg("--project", action="append", metavar="PROJECT", help="may be given several times")


@command("placement pin", arg("project", metavar="PROJECT", help="its id"), _CELLS)
def pin(cloud: Cloud, args: Args, out: Out) -> int:
    """Confine a project to these cells, in place of those before; what it has elsewhere stays there. Every process
    follows in about two seconds. 0 done; 1 no such cell, or several of the name; 2 the project's id is too long."""

    def work(tx: Connection) -> list[CellMapping]:
        found = [the_one(cell_mappings.every(tx), text) for text in args.cell]
        project_cells.pin(tx, args.project, [cell.id for cell in found])
        return found

    try:
        found = cloud.db.run(work)
    except (CellMappingNotFound, Invalid) as error:
        out.warn(str(error))
        return 2 if isinstance(error, Invalid) else 1
    out.say(f"Project {args.project} is pinned to {', '.join(cell.shown for cell in found)}.")
    return 0


@command("placement unpin", arg("project", metavar="PROJECT", help="its id"))
def unpin(cloud: Cloud, args: Args, out: Out) -> int:
    """Let a project go to any cell again. 0 done, also when it was not pinned."""
    cloud.db.run(lambda tx: project_cells.pin(tx, args.project, []))
    out.say(f"Project {args.project} is not pinned.")
    return 0


@command("placement keep", arg("cell", metavar="CELL", help=HELP), _PROJECTS)
def keep(cloud: Cloud, args: Args, out: Out) -> int:
    """Reserve a cell, and keep it for these projects also. 0 done; 1 no such cell, or several of the name; 2 a
    project's id is too long; 5 it is cell0."""
    projects = args.project or []

    def work(tx: Connection) -> CellMapping:
        found = the_one(cell_mappings.every(tx), args.cell)
        if not found.is_cell0:
            project_cells.keep(tx, found.id, projects)
            cell_mappings.change(tx, found.uuid, now=cloud.clock.now(), reserved=True)
        return found

    try:
        found = cloud.db.run(work)
    except (CellMappingNotFound, Invalid) as error:
        out.warn(str(error))
        return 2 if isinstance(error, Invalid) else 1
    if found.is_cell0:
        out.warn("Cell0 is never scheduled to.")
        return 5
    out.say(f"Cell {found.shown} is kept for {', '.join(projects) or 'those it was kept for before'}.")
    return 0


@command("placement release", arg("cell", metavar="CELL", help=HELP), _PROJECTS)
def release(cloud: Cloud, args: Args, out: Out) -> int:
    """Keep a cell for these projects no longer; without --project it is for every project again. 0 done; 1 no such
    cell, or several of the name."""

    def work(tx: Connection) -> CellMapping:
        found = the_one(cell_mappings.every(tx), args.cell)
        project_cells.release(tx, found.id, args.project)
        if not args.project:
            cell_mappings.change(tx, found.uuid, now=cloud.clock.now(), reserved=False)
        return found

    try:
        found = cloud.db.run(work)
    except CellMappingNotFound as error:
        out.warn(str(error))
        return 1
    out.say(f"Cell {found.shown} is no longer kept for {', '.join(args.project) if args.project else 'anybody'}.")
    return 0


@command("placement list", reads=True)
def show_rules(cloud: Cloud, args: Args, out: Out) -> int:
    """List the projects that are pinned, and the cells that are kept for some. 0 listed."""
    with cloud.db.connect() as tx:
        by_id = {cell.id: cell for cell in cell_mappings.every(tx)}
        rules = project_cells.every(tx)
    rows: list[tuple[str, str, str]] = []
    for project, ids in sorted(rules.pinned.items()):
        rows += [("pinned", project, by_id[cell_id].shown) for cell_id in sorted(ids) if cell_id in by_id]
    for cell in by_id.values():
        projects = sorted(rules.kept.get(cell.id, ()))
        if cell.reserved:
            rows += [("kept", project, cell.shown) for project in projects] or [("kept", "", cell.shown)]
        else:
            rows += [("kept, not reserved", project, cell.shown) for project in projects]
    out.table(("Rule", "Project", "Cell"), rows)
    return 0


@command("placement explain", arg("server", metavar="SERVER", help="uuid"))
def explain(cloud: Cloud, args: Args, out: Out) -> int:
    """Say why a server is on its host, or why there was no host, as of the scheduler's last choice for it. 0 said;
    1 nothing is recorded of it."""
    with cloud.db.connect() as tx:
        note = placement_notes.get(tx, args.server)
    if note is None:
        out.warn(f"Nothing is noted of server {args.server}.")
        return 1
    out.value("\n".join(_reported(args.server, note)), server=args.server, **note)
    return 0


def _reported(server: str, note: dict[str, Any]) -> list[str]:
    lines = [f"Server {server}, request {note['request_id']}, at {note['at']}"]
    requested = ", ".join(f"{name} {value}" for name, value in note["asked"].items())
    lines.append(f"Requested: {requested}")
    if "chosen" in note:
        lines += ["Chosen:", *_weighed(note["chosen"])]
        for provider, amounts in sorted(note.get("allocations", {}).items()):
            lines.append(f"  {', '.join(f'{name} {amount}' for name, amount in sorted(amounts.items()))} of {provider}")
        if note.get("drawn"):
            lines.append(f"  Cell {note['drawn']} was drawn first, by the weights of the cells.")
    else:
        lines.append(f"Refused: {note['refused']}")
    if note.get("runners_up"):
        lines.append("Next best:")
        for each in note["runners_up"]:
            lines += _weighed(each)
    lines.append("Cells:")
    for name, reported in note["cells"].items():
        what = f"a host there {reported}" if isinstance(reported, str) else (
            f"weight {reported['weight']}, {reported['hosts']} hosts could take it")  # fmt: skip
        lines.append(f"  {name}: {what}")
    if note["excluded"]:
        lines.append("Hosts left out:")
        lines += [f"  {count} {name + ': ' if name else ''}{reason}" for name, reason, count in note["excluded"]]
    return lines


def _weighed(host: dict[str, Any]) -> list[str]:
    parts = ", ".join(f"{name} {weight:+g} (of {score:g})" for name, (score, weight) in host["weighers"].items())
    node = f" ({host['node']})" if host["node"] != host["host"] else ""
    return [f"  {host['host']}{node} in cell {host['cell']}: weight {host['weight']:g} = {parts or 'as all others'}"]
