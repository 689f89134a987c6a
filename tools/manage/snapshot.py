"""`snapshot`: all databases of a federation saved in one file, and databases made from it again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from cell_service.context import SYSTEM_CLOCK
from cell_service.errors import Conflict, Invalid, PolycellError
from mapping_db.cloud import Cloud
from tools.manage import cell_check
from tools.manage.cloud import open_cloud
from tools.manage.command import Args, arg, command
from tools.manage.confirming import DRY_RUN, YES, confirm
from tools.manage.findings import Finding
from tools.manage.named_cells import HELP, NoSuchCell, SeveralCells
from tools.manage.out import Out
from tools.manage.probes import reason_of
from tools.manage.snapshots import restoring, saving
from tools.manage.snapshots.files import GLOBAL, Manifest, Reader, SnapshotBroken, Writer
from tools.manage.snapshots.restoring import NotRestorable, Target
from tools.manage.tables import Column

_FILE = arg("file", metavar="FILE", help="that `snapshot save` has made")
_COLUMNS = ("Database", Column("UUID", long=True), "Schema", Column("Dialect", long=True), "Rows",
            Column("Bytes", long=True), Column("SHA256", long=True))  # fmt: skip
_SHOWN = 5
"""So many differences are named."""


@command("snapshot save",
         arg("path", metavar="FILE|DIR", help="in a directory the file is named by the moment: polycell-….zip"),
         arg("--skip-cell", action="append", default=[], metavar="CELL",
             help=f"leave it out: {HELP}; may be given several times"))  # fmt: skip
def save(cloud: Cloud, args: Args, out: Out) -> int:
    """Save the global database (with placement), cell0's and every cell's in one file, which only its owner may read:
    it has passwords. Everything may run meanwhile; all are saved as they are at one moment, the global one first. 0
    saved; 1 saved without cells that did not answer, which are named; 2 the file is there already or cannot be written,
    or no such cell."""
    path = Path(args.path)
    if path.is_dir():
        path /= f"polycell-{cloud.clock.now():%Y%m%dT%H%M%SZ}.zip"
    try:
        writer = Writer(path)
    except Invalid as error:
        out.warn(str(error))
        return 2
    try:
        manifest = saving.save(cloud, args.settings, writer, args.skip_cell, out)
    except (NoSuchCell, SeveralCells) as error:
        out.warn(str(error))
        return 2
    except OSError as error:
        out.warn(f"{path} cannot be written: {error.strerror}")
        return 2
    finally:
        writer.discard()
    failed = [each for each in manifest.missing if each.reason != saving.SKIPPED]
    total = sum(part.total for part in manifest.parts)
    text = f"Saved {len(manifest.parts)} databases with {total} rows in {path}."
    missing = [asdict(each) for each in manifest.missing]
    out.value(text, file=str(path), databases=len(manifest.parts), rows=total, missing=missing)
    for each in failed:
        out.warn(f"Cell {each.name} is not in it: {each.reason}")
    return 1 if failed else 0


@command("snapshot show", _FILE, arg("--tables", flag=True, help="a row for each table"), local=True)
def show(cloud: Cloud | None, args: Args, out: Out) -> int:
    """Show what a snapshot has, and read all of it to see that it is whole. 0 it is; 2 it is broken, or no snapshot."""
    try:
        reader = _whole(args.file)
    except SnapshotBroken as error:
        out.warn(str(error))
        return 2
    manifest = reader.manifest
    reader.close()
    if args.tables:
        out.table(("Database", "Table", "Rows"), [(part.name, table, rows) for part in manifest.parts
                                                  for table, rows in part.rows.items()])  # fmt: skip
        return 0
    out.say(f"Saved {manifest.made_at:%Y-%m-%d %H:%M:%S} UTC by Polycell {manifest.release}.")
    out.table(_COLUMNS, [(part.name, part.uuid or None, part.schema, part.dialect, part.total, part.bytes, part.sha256)
                         for part in manifest.parts])  # fmt: skip
    for each in manifest.missing:
        out.say(f"Cell {each.name} is not in it: {each.reason}")
    return 0


@command("snapshot restore", _FILE,
         arg("--database", action="append", default=[], metavar="CELL",
             help=f"only this cell's, or {GLOBAL}; may be given several times; default: all"),
         arg("--timeout", type=float, default=30.0, metavar="SECONDS", help="for cells to answer the check afterwards"),
         YES, DRY_RUN)  # fmt: skip
def restore(cloud: Cloud, args: Args, out: Out) -> int:
    """Make databases what they were. All processes that use them must be stopped. Databases are made first by hand,
    empty; one that has rows is replaced only when that is confirmed. The file is read whole and every database is
    looked at before anything is changed. A cell alone is restored to where its mapping says. Afterwards all is checked
    as by `cell_v2 check`. 0 restored, and all agrees; 1 restored, and something differs, which is said with what mends
    it; 2 the file is broken; 3 a database does not answer, or is another's; 4 no such cell."""
    try:
        reader = _whole(args.file)
        targets = restoring.plan(cloud, args.settings, reader, args.database)
    except SnapshotBroken as error:
        out.warn(str(error))
        return 2
    except NotRestorable as error:
        out.warn(f"{error} Nothing was changed.")
        return 3
    except (NoSuchCell, SeveralCells) as error:
        out.warn(str(error))
        return 4
    for target in targets:
        if target.reporting:
            hosts = ", ".join(target.reporting)
            out.warn(f"Warning: {hosts} have reported to {target.part.name} in the last minute: stop its conductors, "
                     "and the API, placement and super-conductors.")  # fmt: skip
    full = [target for target in targets if target.rows_there]
    if args.dry_run:
        _show_plan(targets, out)
        return 0
    if full:
        there = sum(target.rows_there for target in full)
        names = ", ".join(target.part.name for target in full)
        confirm(args, out, f"This replaces {there} rows in the databases of {names} by those of "
                f"{reader.manifest.made_at:%Y-%m-%d %H:%M:%S} UTC.", _name(targets))  # fmt: skip
    done = []
    with out.progress("restoring databases", len(targets)) as step:
        for target in targets:
            counts = restoring.restore(reader, target, SYSTEM_CLOCK.now())
            done.append((target.part.name, target.part.uuid or None, target.part.schema, sum(counts.values())))
            step(1)
    reader.close()
    out.table(("Database", Column("UUID", long=True), "Schema", "Rows"), done)
    return _check(args, reader.manifest, targets, out)


def _whole(file: str) -> Reader:
    """Raises SnapshotBroken."""
    reader = Reader(Path(file))
    try:
        reader.verify()
    except BaseException:
        reader.close()
        raise
    return reader


def _name(targets: Sequence[Target]) -> str:
    """The words that are typed to confirm."""
    return targets[0].part.name if len(targets) == 1 else "all-databases"


def _show_plan(targets: Sequence[Target], out: Out) -> None:
    out.table(
        ("Database", Column("Target"), "Rows There", "Rows Then"),
        [(target.part.name, target.place.shown_url, target.rows_there, target.rows_then) for target in targets],
    )  # fmt: skip
    out.say("Nothing was changed.")


def _check(args: Args, manifest: Manifest, targets: Sequence[Target], out: Out) -> int:
    """Say what differs between the databases now, and what to do. Queues do not matter: nothing runs."""
    for each in manifest.missing if any(target.part.is_global for target in targets) else ():
        out.warn(f"Cell {each.name} was not in the snapshot, and was not restored.")
    one = targets[0].part.uuid if len(targets) == 1 else None
    with open_cloud(args.settings, seconds=args.timeout) as restored:
        try:
            _, findings = cell_check.find(
                restored, out, seconds=args.timeout, down_seconds=args.settings.service_down_seconds, cell=one or None
            )
        except PolycellError as error:
            raise Conflict(reason=f"Restored, but not checked: {reason_of(error)} Run cell_v2 check.") from error
    findings = [each for each in findings if each.check not in ("queue", "hosts")]
    for line in _differences(findings):
        out.warn(line)
    if not findings:
        out.say("The databases agree.")
    return 1 if findings else 0


def _differences(findings: Sequence[Finding]) -> list[str]:
    lines = [f"{each.level.name}: {each.cell + ': ' if each.cell else ''}{each.text}" for each in findings]
    shown = lines[:_SHOWN]
    if len(lines) > _SHOWN:
        shown.append(f"… and {len(lines) - _SHOWN} more; `cell_v2 check` lists all.")
    if any(each.check in ("instances", "transit") for each in findings):
        for cell in sorted({each.cell for each in findings if each.cell}):
            shown.append(f"`cell_v2 recover --cell {cell}` makes rows that it lacks from what the global tables know "
                         "(--deleted: and deletes servers there that users have deleted since).")  # fmt: skip
        shown.append("After that `cell_v2 check --repair` mends the rest; before it, it gives servers without rows up.")
    return shown
