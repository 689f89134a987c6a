"""`cell_v2`: which cells there are."""

from __future__ import annotations

import uuid

from sqlalchemy import Connection, select
from sqlalchemy.exc import IntegrityError

from cell_service.errors import CellMappingNotFound, Conflict, Invalid
from mapping_db import cell_mappings
from mapping_db.cell_mappings import CELL0_UUID, CellMapping
from mapping_db.cloud import Cloud
from mapping_db.schema import cell_mappings as table
from tools.manage.command import Args, arg, command
from tools.manage.out import Out
from tools.manage.urls import CELL0_TRANSPORT, cell0_of, checked_database, checked_transport, masked

_ATTEMPTS = 5
_NAME = arg("--name", metavar="NAME", help="names may repeat")
_UUID = arg("--cell_uuid", required=True, metavar="UUID")
_TRANSPORT = arg("--transport-url", metavar="URL", help="default: [DEFAULT] transport_url; {variables} are allowed")
_DATABASE = arg("--database_connection", metavar="URL", help="default: [database] connection; {variables} are allowed")
_VERBOSE = arg("--verbose", flag=True, help="say more")


class UrlTaken(Conflict):
    """Another cell has this queue or this database."""

    message = (
        "The specified transport_url and/or database_connection combination already exists for cell {name} ({uuid})."
    )


@command("cell_v2 map_cell0", arg("--database_connection", metavar="URL",
                                  help="default: [database] connection with _cell0 appended to the name"))  # fmt: skip
def map_cell0(cloud: Cloud, args: Args, out: Out) -> int:
    """Map cell0, the place of servers that found no host. 0 mapped, also when it was already; 1 URL missing or
    invalid."""
    try:
        url = checked_database(args.database_connection or cell0_of(own_database(args)))
    except Invalid as error:
        out.warn(str(error))
        return 1
    if add_cell0(cloud, url):
        out.say("Cell0 is mapped.")
    else:
        out.say("Cell0 is already setup.")
    return 0


@command("cell_v2 create_cell", _NAME, _DATABASE, _TRANSPORT, _VERBOSE,
         arg("--disabled", flag=True, help="nothing is scheduled to it until it is enabled"))  # fmt: skip
def create_cell(cloud: Cloud, args: Args, out: Out) -> int:
    """Map a cell. 0 created; 1 a URL is missing or invalid; 2 another cell has one of the URLs."""
    try:
        transport_url = checked_transport(args.transport_url or own_transport(args))
        database = checked_database(args.database_connection or own_database(args))
    except Invalid as error:
        out.warn(str(error))
        return 1
    try:
        made = add_cell(cloud, args.name or "", transport_url, database, disabled=args.disabled)
    except UrlTaken as error:
        out.warn(str(error))
        return 2
    if out.format == "json" or args.verbose:
        out.value(made.uuid, uuid=made.uuid, name=made.name or None)
    return 0


@command("cell_v2 update_cell", _UUID, _NAME,
         arg("--transport-url", metavar="URL"), arg("--database_connection", metavar="URL"),
         arg("--disable", flag=True, help="schedule nothing to it"),
         arg("--enable", flag=True))  # fmt: skip
def update_cell(cloud: Cloud, args: Args, out: Out) -> int:
    """Change a cell; what is not given stays. With nothing but --cell_uuid, both URLs are taken from the configuration.
    Every process follows in about two seconds. 0 changed; 1 no such cell; 2 it could not be saved; 3 another cell has
    one of the URLs; 4 --enable and --disable; 5 cell0 cannot be disabled."""
    nothing_else = not (args.name or args.transport_url or args.database_connection or args.disable or args.enable)
    transport_url, database = args.transport_url, args.database_connection

    def work(tx: Connection) -> CellMapping:
        nonlocal transport_url, database
        cell = cell_mappings.get(tx, args.cell_uuid)
        if nothing_else and not cell.is_cell0:
            transport_url, database = own_transport(args), own_database(args)
        changed = cell_mappings.change(
            tx, cell.uuid, now=cloud.clock.now(), name=args.name or None,
            transport_url=checked_transport(transport_url) if transport_url else None,
            database_connection=checked_database(database) if database else None,
            disabled=args.disable if (args.disable or args.enable) and args.disable != args.enable else None,
        )  # fmt: skip
        demand_own_urls(tx, changed, transport_url or "", database or "")
        if args.disable and args.enable:
            raise Refused(4, "Cell cannot be disabled and enabled at the same time.")
        if (args.disable or args.enable) and cell.is_cell0:
            raise Refused(5, "Cell0 cannot be disabled.")
        return changed

    try:
        changed = cloud.db.run(work)
    except CellMappingNotFound:
        out.warn(f"Cell with uuid {args.cell_uuid} was not found.")
        return 1
    except UrlTaken as error:
        out.warn(str(error))
        return 3
    except Refused as refused:
        out.warn(refused.text)
        return refused.code
    except Invalid as error:
        out.warn(str(error))
        return 2
    out.say(f"Cell {changed.shown} is changed.")
    return 0


@command("cell_v2 list_cells", arg("--verbose", flag=True, help="show passwords"))
def list_cells(cloud: Cloud, args: Args, out: Out) -> int:
    """List the cells by name, without the passwords in their URLs unless --verbose. 0 listed."""
    with cloud.db.connect() as tx:
        found = sorted(cell_mappings.every(tx), key=lambda cell: (cell.name, cell.id))
    show = str if args.verbose else masked
    out.table(
        ("Name", "UUID", "Transport URL", "Database Connection", "Disabled"),
        [(cell.name or None, cell.uuid, show(cell.transport_url), show(cell.database_connection), cell.disabled)
         for cell in found],
    )  # fmt: skip
    return 0


class Refused(Exception):
    """What was asked can't be done; `code` is the command's exit code."""

    def __init__(self, code: int, text: str) -> None:
        self.code, self.text = code, text
        super().__init__(text)


def own_transport(args: Args) -> str:
    """Raises Invalid."""
    if not args.settings.transport_url:
        raise Invalid(
            reason="Must specify --transport-url if [DEFAULT]/transport_url is not set in the configuration file."
        )
    return args.settings.transport_url


def own_database(args: Args) -> str:
    if not args.settings.database:
        raise Invalid(
            reason="Must specify --database_connection if [database]/connection is not set in the configuration file."
        )
    return args.settings.database


def add_cell(cloud: Cloud, name: str, transport_url: str, database: str, *, disabled: bool = False) -> CellMapping:
    """Map a cell. Raises UrlTaken.

    Adding moves the one row of `topology` on, which whoever adds at the same time must wait for; so looking for the
    same URLs after that settles the race.
    """

    def work(tx: Connection) -> CellMapping:
        made = cell_mappings.insert_new(
            tx, uuid=str(uuid.uuid4()), name=name, transport_url=transport_url, database_connection=database,
            now=cloud.clock.now(), disabled=disabled,
        )  # fmt: skip
        demand_own_urls(tx, made, transport_url, database)
        return made

    for attempt in range(1, _ATTEMPTS + 1):
        try:
            return cloud.db.run(work)
        except IntegrityError:  # somebody else made the row of `topology`
            if attempt == _ATTEMPTS:
                raise
    raise AssertionError("unreachable")


def add_cell0(cloud: Cloud, database: str) -> bool:
    """Map cell0 unless it is mapped. Whether it was not."""

    def work(tx: Connection) -> bool:
        if tx.scalar(select(table.c.id).where(table.c.uuid == CELL0_UUID)) is not None:
            return False
        cell_mappings.insert_new(
            tx, uuid=CELL0_UUID, name="cell0", transport_url=CELL0_TRANSPORT, database_connection=database,
            now=cloud.clock.now(),
        )  # fmt: skip
        return True

    for attempt in range(1, _ATTEMPTS + 1):
        try:
            return cloud.db.run(work)
        except (IntegrityError, Conflict):  # somebody else did it just now
            if attempt == _ATTEMPTS:
                raise
    raise AssertionError("unreachable")


def demand_own_urls(tx: Connection, cell: CellMapping, transport_url: str, database: str) -> None:
    """Raises UrlTaken when another cell has one of them; "" is nobody's."""
    for other in cell_mappings.every(tx):
        if other.id == cell.id:
            continue
        if (database and other.database_connection == database) or (
            transport_url and other.transport_url == transport_url
        ):
            raise UrlTaken(name=other.name, uuid=other.uuid)
