"""`db archive_deleted_rows` and `db purge`: deleted servers, out of the way and in the end out of the databases."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

from api_cell.superconductor.retention import Done, archive_deleted, forget_remains, purge_archived, remains
from cell_service.errors import CellUnavailable, Invalid
from mapping_db.cells.registry import Cell
from mapping_db.cloud import Cloud
from tools.manage import previews
from tools.manage.command import Args, arg, command
from tools.manage.confirming import DRY_RUN, YES, confirm
from tools.manage.failures import explained
from tools.manage.out import Out
from tools.manage.tables import Column

FORMS = ("%Y-%m-%d", "%Y-%m-%d %H:%M", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S", "%a %b %d %H:%M:%S %Z %Y",
         "%a %d %b %Y %I:%M:%S %p %Z")  # fmt: skip
_BEFORE = arg("--before", metavar="DATE", help="only what was deleted before: YYYY-MM-DD[ HH:MM[:SS]], UTC")
_VERBOSE = arg("--verbose", flag=True, help="print rows by table")
_PURGED = "Number of Rows Purged"
_ALL_CELLS = arg("--all-cells", flag=True, help="all cells, not only that of [database] connection")


@command("db archive_deleted_rows", _BEFORE, _VERBOSE, _ALL_CELLS,
         arg("--max_rows", default="1000", metavar="N", help="about so many rows, of all cells together"),
         arg("--until-complete", flag=True, help="go on till nothing is left, --max_rows at a time"),
         arg("--purge", flag=True, help="keep nothing, and empty the shadow tables"),
         arg("--task-log", flag=True, help="accepted; nothing is kept of that kind"),
         arg("--sleep", type=float, default=0.0, metavar="SECONDS", help="between rounds of --until-complete"),
         YES, DRY_RUN, local=True)  # fmt: skip
def archive_deleted_rows(cloud: Cloud | None, args: Args, out: Out) -> int:
    """Move deleted servers with all that hangs on them to the shadow tables, and forget them globally; while everything
    runs. 0 nothing was archived; 1 something was; 2 bad --max_rows; 3 no global database; 4 bad date; 5 a cell did not
    answer, and was left out."""
    most = int(args.max_rows) if args.max_rows.isascii() and args.max_rows.isdigit() else 0
    if not 0 < most < 2**31:
        out.warn("Must supply a positive value for max_rows")
        return 2
    if cloud is None:
        out.warn(str(args.settings.lacks("[api_database] connection")))
        return 3
    try:
        before = _date(args.before)
    except Invalid as error:
        out.warn(str(error))
        return 4
    cells, done = _chosen(cloud, args), Done()
    limit = None if args.until_complete else most
    if args.dry_run:
        return _preview_archiving(cloud, cells, done, before, limit, args, out)
    if args.purge:
        what = f"This removes deleted servers, and all that is archived, from {_shown(cells)} for good."
        confirm(args, out, what, _name(cells, args), as_nova=True)
    with out.progress("archiving rows") as step:
        stopped = _Counting(done, step)
        while True:
            began = done.rows
            for cell in _answering(cells, done):
                with _heard(cell, done, out):
                    archive_deleted(cloud, cell, done, before=before, keep=not args.purge, most_rows=began + most,
                                    stopped=stopped)  # fmt: skip
            if not args.until_complete or done.rows == began:
                break
            cloud.clock.wait(threading.Event(), args.sleep)
        if before is None:
            forget_remains(cloud, done, stopped)
        if args.purge:
            for cell in _answering(cells, done):
                with _heard(cell, done, out):
                    purge_archived(cloud, cell, done, stopped=stopped)
    _say(done, args, out, "Number of Rows Archived", "Nothing was archived.")
    if done.unreachable:
        return 5
    return 1 if done.rows or done.glob else 0


@command(
    "db purge",
    _BEFORE,
    _VERBOSE,
    _ALL_CELLS,
    arg("--all", flag=True, help="all that is archived"),
    YES,
    DRY_RUN,
    local=True,
)
def purge(cloud: Cloud | None, args: Args, out: Out) -> int:
    """Remove archived rows from the shadow tables. 0 rows were removed; 1 neither --all nor --before was given; 2 bad
    date; 3 there was nothing to remove; 4 no global database; 5 a cell did not answer, and was left out."""
    if not args.all and not args.before:
        out.warn("Either --all or --before must be given.")
        return 1
    try:
        before = None if args.all else _date(args.before)
    except Invalid as error:
        out.warn(str(error))
        return 2
    if cloud is None:
        out.warn(str(args.settings.lacks("[api_database] connection")))
        return 4
    cells, done = _chosen(cloud, args), Done()
    if args.dry_run:
        for cell in cells:
            with _heard(cell, done, out):
                done.add(cell, previews.archived(cloud, cell, before))
        out.table(("Table", Column(_PURGED, "rows")), _rows(done, args))
        return 5 if done.unreachable else 0 if done.rows else 3
    when = f" of servers deleted before {before:%Y-%m-%d %H:%M:%S}" if before else ""
    confirm(args, out, f"This removes the archived rows{when} from {_shown(cells)} for good.", _name(cells, args),
            as_nova=True)  # fmt: skip
    with out.progress("purging rows") as step:
        for cell in cells:
            with _heard(cell, done, out):
                purge_archived(cloud, cell, done, before=before, stopped=_Counting(done, step))
    _say(done, args, out, _PURGED, "Nothing was purged.")
    if done.unreachable:
        return 5
    return 0 if done.rows else 3


def _chosen(cloud: Cloud, args: Args) -> list[Cell]:
    """Raises Invalid when [database] connection, which is wanted, names no cell."""
    mapped = cloud.cells.all()
    if not args.all_cells:
        own = args.settings.database
        if not own:
            raise Invalid(reason="[database] connection is not set in the configuration file; perhaps use --all-cells")
        mapped = tuple(mapping for mapping in mapped if mapping.database_connection == own)
        if not mapped:
            raise Invalid(reason="[database] connection is the database of no mapped cell")
    return [cloud.cells.open(mapping.id) for mapping in mapped]


def _answering(cells: list[Cell], done: Done) -> list[Cell]:
    return [cell for cell in cells if cell.name not in done.unreachable]


@contextlib.contextmanager
def _heard(cell: Cell, done: Done, out: Out) -> Iterator[None]:
    """A cell that does not answer is left out, with one warning; it never counts as empty."""
    try:
        yield
    except CellUnavailable as error:
        done.unreachable.append(cell.name)
        out.warn(f"Cell {cell.name} is left out: {explained(error)}")


def _date(text: str | None) -> datetime | None:
    """Raises Invalid."""
    if text is None:
        return None
    for form in FORMS:
        with contextlib.suppress(ValueError):
            return datetime.strptime(" ".join(text.split()), form).replace(tzinfo=UTC)
    raise Invalid(reason=f"Invalid value for --before: {text}")


def _preview_archiving(
    cloud: Cloud, cells: list[Cell], done: Done, before: datetime | None, most: int | None, args: Args, out: Out
) -> int:  # fmt: skip
    rows: list[tuple[str, int, int, int]] = []
    left = most
    for cell in cells:
        with _heard(cell, done, out):
            if left is None or left > 0:
                found = previews.archiving(cloud, cell, before=before, most_rows=left, purge=args.purge)
                rows.append((cell.name, found.servers, found.rows, found.shadow_rows))
                left = None if left is None else left - found.rows
    if before is None:
        left_over = sum(len(page) for page in remains(cloud))  # servers of which only mappings are left
        rows.append(("API_DB", left_over, left_over, 0))
    columns = (Column("Cell Name"), Column("Servers"), Column("Number of Rows", "rows"),
               Column("Archived Rows Removed", "archived_rows", long=not args.purge))  # fmt: skip
    out.table(columns, rows)
    if done.unreachable:
        return 5
    return 1 if any(row[2] or row[3] for row in rows) else 0


class _Counting:
    """Shows rows that are done, at each batch; it never asks to stop."""

    def __init__(self, done: Done, step: Callable[[int], None]) -> None:
        self._done, self._step, self._shown = done, step, 0

    def __call__(self) -> bool:
        self._step(self._done.rows - self._shown)
        self._shown = self._done.rows
        return False


def _shown(cells: list[Cell]) -> str:
    return f"cell {cells[0].name}" if len(cells) == 1 else f"{len(cells)} cells"


def _name(cells: list[Cell], args: Args) -> str:
    """The name that is typed to confirm."""
    return "all-cells" if args.all_cells else cells[0].name


def _rows(done: Done, args: Args) -> list[tuple[str, int]]:
    rows = [
        (f"{cell}.{table}" if args.all_cells else table, count)
        for cell, tables in sorted(done.cells.items())
        for table, count in sorted(tables.items())
    ]
    return rows + [(f"API_DB.{table}", count) for table, count in sorted(done.glob.items())]


def _say(done: Done, args: Args, out: Out, counted: str, nothing: str) -> None:
    rows = _rows(done, args)
    if out.for_programs or (args.verbose and rows):
        out.table(("Table", Column(counted, "rows")), rows)
    elif args.verbose:
        out.say(nothing)
