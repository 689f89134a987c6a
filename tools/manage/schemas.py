"""`api_db` and `db`: bringing databases to the newest schema, the global one and those of cells."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass

from cell_service.context import SYSTEM_CLOCK
from cell_service.db import identity
from cell_service.db import upgrades as cell_schema
from cell_service.db.sql.engine import Database
from cell_service.errors import Invalid, PolycellError
from mapping_db import cell_mappings
from mapping_db import upgrades as migrate
from mapping_db.cell_mappings import CELL0_UUID, CellMapping
from mapping_db.cells.url_templates import fill
from mapping_db.cloud import Cloud
from tools.manage.cloud import open_database
from tools.manage.command import Args, arg, command
from tools.manage.failures import explained
from tools.manage.identities import DatabaseTaken
from tools.manage.named_cells import HELP
from tools.manage.out import Out

AT_ONCE = 8
_ONE_CELL = (
    arg("--local_cell", flag=True, help="only the database that [database] connection names"),
    arg("--cell_uuid", metavar="CELL", help=f"only this cell: {HELP}"),
)


@dataclass(frozen=True, slots=True)
class CellSchema:
    """A cell's database; `uuid` is "" for the one that the configuration names. `url` may be a template."""

    name: str
    uuid: str
    url: str

    @contextlib.contextmanager
    def opened(self, own_url: str) -> Iterator[Database]:
        """Raises Invalid for a URL that can't be used."""
        db = open_database(fill(self.url, own_url), f"cell {self.name}")
        try:
            yield db
        finally:
            db.dispose()

    def claim(self, db: Database) -> None:
        """Record in the database that it is this cell's. Raises DatabaseTaken when it is another's."""
        if self.uuid:
            owner = db.run(lambda tx: identity.claim(tx, self.uuid, SYSTEM_CLOCK.now()))
            if owner is not None and owner != self.uuid:
                raise DatabaseTaken(cell=owner, more=f", not of {self.name}")


@command("api_db sync", arg("version", nargs="?", metavar="VERSION", help="a revision; default: the newest"))
def api_sync(cloud: Cloud, args: Args, out: Out) -> int:
    """Bring the global database to the newest schema, or to VERSION. 0 done, also when there was nothing to do."""
    now = migrate.sync(cloud.db, args.version)
    out.value(f"The global database is at {now}.", version=now)
    return 0


@command("api_db version")
def api_version(cloud: Cloud, args: Args, out: Out) -> int:
    """Print the schema version of the global database. 0 printed."""
    found = cell_schema.version(cloud.db)
    out.value(found or "not synced", version=found, newest=cell_schema.newest(migrate.GLOBAL))
    return 0


@command("db sync", *_ONE_CELL, arg("version", nargs="?", metavar="VERSION", help="a revision; default: the newest"),
         local=True)  # fmt: skip
def sync(cloud: Cloud | None, args: Args, out: Out) -> int:
    """Bring the databases of all mapped cells, cell0 among them, to the newest schema, or to VERSION; several at once.
    0 done; 1 a cell could not be synced, the others were."""

    def work(cell: CellSchema) -> str | None:
        with cell.opened(args.settings.database) as db:
            now = cell_schema.sync(db, version=args.version)
            cell.claim(db)
            return now

    rows, failed = _each(_chosen(cloud, args, out), work, out, "syncing cells")
    out.table(("Cell Name", "Cell UUID", "Version"), rows)
    return 1 if failed else 0


@command("db version", *_ONE_CELL, local=True, reads=True)
def version(cloud: Cloud | None, args: Args, out: Out) -> int:
    """Print the schema version of each cell's database. 0 printed; 1 a cell does not answer."""

    def work(cell: CellSchema) -> str | None:
        with cell.opened(args.settings.database) as db:
            return cell_schema.version(db)

    rows, failed = _each(_chosen(cloud, args, out), work, out, "asking cells")
    newest = cell_schema.newest()
    out.table(("Cell Name", "Cell UUID", "Version", "Newest"), [(*row, newest) for row in rows])
    return 1 if failed else 0


def sync_cell0(cloud: Cloud, args: Args) -> str:
    """Bring cell0, which must be mapped, to the newest schema."""
    with cloud.db.connect() as tx:
        cell0 = _schema_of(cell_mappings.get(tx, CELL0_UUID))
    with cell0.opened(args.settings.database) as db:
        now = cell_schema.sync(db)
        cell0.claim(db)
        return now


def _chosen(cloud: Cloud | None, args: Args, out: Out) -> list[CellSchema]:
    """Raises Invalid when there is nothing to choose from, CellMappingNotFound."""
    settings = args.settings
    own = [CellSchema("[database] connection", "", settings.database)] if settings.database else []
    if args.local_cell:
        if not own:
            raise settings.lacks("[database] connection")
        return own
    if cloud is None and args.cell_uuid:
        raise settings.lacks("[api_database] connection")
    if cloud is None:
        out.warn(
            "Warning: [api_database] connection is not set; only the database of [database] connection is looked at."
        )
        mapped = []
    else:
        with cloud.db.connect() as tx:
            if args.cell_uuid:
                return [_schema_of(cell_mappings.get(tx, args.cell_uuid))]
            mapped = [_schema_of(mapping) for mapping in cell_mappings.every(tx)]
    if mapped and CELL0_UUID not in [cell.uuid for cell in mapped]:
        out.warn("Warning: cell0 is not mapped; run cell_v2 map_cell0.")
    if not mapped and cloud is not None:
        out.warn("Warning: no cell is mapped; only the database of [database] connection is looked at.")
    if not mapped and not own:
        raise Invalid(reason="no cell is mapped, and [database] connection is not set in the configuration file")
    return mapped or own


def _each(
    cells: Sequence[CellSchema], work: Callable[[CellSchema], str | None], out: Out, what: str
) -> tuple[list[tuple[str, str, str | None]], bool]:
    """Rows (name, uuid, answer) in the order of `cells`; a cell that failed is warned of. Whether one did."""
    answers: dict[int, str | None] = {}
    with out.progress(what, len(cells)) as step, ThreadPoolExecutor(AT_ONCE) as threads:
        requested = {threads.submit(work, cell): place for place, cell in enumerate(cells)}
        for done in as_completed(requested):
            step(1)
            try:
                answers[requested[done]] = done.result()
            except PolycellError as error:
                out.warn(f"Cell {cells[requested[done]].name}: {explained(error)}")
    rows = [(cell.name, cell.uuid, answers.get(place)) for place, cell in enumerate(cells)]
    return rows, len(answers) < len(cells)


def _schema_of(mapping: CellMapping) -> CellSchema:
    return CellSchema(mapping.shown, mapping.uuid, mapping.database_connection)
