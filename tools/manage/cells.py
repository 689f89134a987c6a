"""`cell_v2`: which cells there are."""

from __future__ import annotations

import uuid

from sqlalchemy import Connection, select
from sqlalchemy.exc import IntegrityError

from cell_service.errors import CellMappingNotFound, Conflict, Invalid
from mapping_db import cell_mappings
from mapping_db.cell_mappings import CELL0_UUID, CellMapping
from mapping_db.cells.url_templates import fill
from mapping_db.cloud import Cloud
from mapping_db.schema import cell_mappings as table
from tools.manage import details
from tools.manage.command import Args, arg, command
from tools.manage.identities import DatabaseTaken, claim, demand_free
from tools.manage.named_cells import HELP
from tools.manage.out import Out
from tools.manage.settings import Settings
from tools.manage.tables import Column
from tools.manage.urls import CELL0_TRANSPORT, cell0_of, checked_database, checked_transport, masked

_ATTEMPTS = 5
_NAME = arg("--name", metavar="NAME", help="names may repeat")
_UUID = arg("--cell_uuid", required=True, metavar="CELL", help=HELP)
_TRANSPORT = arg("--transport-url", metavar="URL", help="default: [DEFAULT] transport_url; {variables} are allowed")
_DATABASE = arg("--database_connection", metavar="URL", help="default: [database] connection; {variables} are allowed")
_VERBOSE = arg("--verbose", flag=True, help="say more")
_WEIGHT = arg("--weight", type=int, metavar="N", help="how much of what is new it gets, 0 (nothing) to 100")
_TAKE_OVER = arg("--take-over", flag=True, help="also a database that belonged to a cell which is not mapped here")


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


@command("cell_v2 create_cell", _NAME, _DATABASE, _TRANSPORT, _VERBOSE, _WEIGHT, _TAKE_OVER,
         arg("--disabled", flag=True, help="nothing is scheduled to it until it is enabled"),
         arg("--reserved", flag=True, help="only for the projects of `placement keep`"))  # fmt: skip
def create_cell(cloud: Cloud, args: Args, out: Out) -> int:
    """Map a cell. 0 created; 1 a URL is missing or invalid, or the name or weight is; 2 another cell has one of the
    URLs, or the database is another cell's."""
    try:
        transport_url = checked_transport(args.transport_url or own_transport(args))
        database = checked_database(args.database_connection or own_database(args))
        demand_free(cloud, database, own_url=args.settings.database, out=out, take_over=args.take_over)
        made = add_cell(
            cloud, args.settings, args.name or "", transport_url, database,
            disabled=args.disabled, reserved=args.reserved,
            weight=cell_mappings.FULL_WEIGHT if args.weight is None else args.weight,
        )  # fmt: skip
    except Invalid as error:
        out.warn(str(error))
        return 1
    except (UrlTaken, DatabaseTaken) as error:
        out.warn(str(error))
        return 2
    claim(made, own_url=args.settings.database, now=cloud.clock.now(), take_over=args.take_over)
    _warn_unfilled(transport_url, args, out)
    if out.for_programs or args.verbose:
        out.value(made.uuid, uuid=made.uuid, name=made.name or None)
    return 0


@command("cell_v2 update_cell", _UUID, _NAME, _WEIGHT, _TAKE_OVER,
         arg("--transport-url", metavar="URL", help="of its queue"),
         arg("--database_connection", metavar="URL", help="of its database"),
         arg("--disable", flag=True, help="schedule nothing to it"),
         arg("--enable", flag=True, help="schedule to it again"),
         arg("--reserved", flag=True, help="from now on only for the projects of `placement keep`"),
         arg("--not-reserved", flag=True, help="for everybody again"))  # fmt: skip
def update_cell(cloud: Cloud, args: Args, out: Out) -> int:
    """Change a cell; what is not given stays. With nothing but --cell_uuid, both URLs are taken from the configuration.
    Every process follows in about two seconds. 0 changed; 1 no such cell; 2 it could not be saved; 3 another cell has
    one of the URLs, or the database is another cell's; 4 --enable and --disable, or --reserved and --not-reserved; 5
    cell0 cannot be disabled, weighed or reserved."""
    scheduling = args.disable or args.enable or args.reserved or args.not_reserved or args.weight is not None
    nothing_else = not (args.name or args.transport_url or args.database_connection or scheduling)
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
            disabled=_chosen(args.disable, args.enable), weight=args.weight,
            reserved=_chosen(args.reserved, args.not_reserved),
        )  # fmt: skip
        demand_own_urls(tx, args.settings, changed, transport_url or "", database or "")
        if args.disable and args.enable:
            raise Refused(4, "Cell cannot be disabled and enabled at the same time.")
        if args.reserved and args.not_reserved:
            raise Refused(4, "Cell cannot be reserved and not reserved at the same time.")
        if scheduling and cell.is_cell0:
            raise Refused(5, "Cell0 cannot be disabled." if args.disable or args.enable else
                          "Cell0 is never scheduled to: it has no weight and cannot be reserved.")  # fmt: skip
        return changed

    try:
        if args.database_connection:
            wanted = checked_database(args.database_connection)
            demand_free(cloud, wanted, own_url=args.settings.database, out=out, cell_uuid=args.cell_uuid,
                        take_over=args.take_over)  # fmt: skip
        changed = cloud.db.run(work)
    except CellMappingNotFound:
        out.warn(f"Cell with uuid {args.cell_uuid} was not found.")
        return 1
    except (UrlTaken, DatabaseTaken) as error:
        out.warn(str(error))
        return 3
    except Refused as refused:
        out.warn(refused.text)
        return refused.code
    except Invalid as error:
        out.warn(str(error))
        return 2
    if transport_url:
        _warn_unfilled(transport_url, args, out)
    if database:
        claim(changed, own_url=args.settings.database, now=cloud.clock.now(), take_over=args.take_over)
    out.say(f"Cell {changed.shown} is changed.")
    return 0


@command("cell_v2 drain_cell", _UUID)
def drain_cell(cloud: Cloud, args: Args, out: Out) -> int:
    """Give the cell nothing new, in about two seconds: its weight is 0 from now on. What lives there goes on. 0 done; 1
    no such cell; 5 it is cell0."""
    if args.cell_uuid == CELL0_UUID:
        out.warn("Cell0 is never scheduled to.")
        return 5
    try:
        cell = cloud.db.run(lambda tx: cell_mappings.change(tx, args.cell_uuid, now=cloud.clock.now(), weight=0))
    except CellMappingNotFound:
        out.warn(f"Cell with uuid {args.cell_uuid} was not found.")
        return 1
    out.say(f"Cell {cell.shown} is drained: nothing new goes there.")
    return 0


@command("cell_v2 list_cells", arg("--verbose", flag=True, help="also URLs, with their passwords"),
         arg("--detail", flag=True, help="ask every cell how it is"),
         arg("--timeout", type=float, default=5.0, metavar="SECONDS", help="for all, with --detail"),
         reads=True)  # fmt: skip
def list_cells(cloud: Cloud, args: Args, out: Out) -> int:
    """List the cells by name, with --long also the URLs of their queues and databases, without passwords unless
    --verbose; with --detail instead how each of them is. 0 listed; 1 with --detail, when a database or a queue is
    unreachable."""
    if args.detail:
        return details.show(cloud, out, args.timeout, args.settings.service_down_seconds)
    with cloud.db.connect() as tx:
        found = sorted(cell_mappings.every(tx), key=lambda cell: (cell.name, cell.id))
    show = str if args.verbose else masked
    urls = not args.verbose
    out.table(
        ("Name", "UUID", Column("Transport URL", long=urls), Column("Database Connection", long=urls),
         Column("Disabled", long=True), Column("State", state=True), "Weight"),
        [(cell.name or None, cell.uuid, show(cell.transport_url), show(cell.database_connection), cell.disabled,
          details.state_of(cell), cell.weight) for cell in found],
    )  # fmt: skip
    return 0


class Refused(Exception):
    """The command can't be done; `code` is its exit code."""

    def __init__(self, code: int, text: str) -> None:
        self.code, self.text = code, text
        super().__init__(text)


def _warn_unfilled(transport_url: str, args: Args, out: Out) -> None:
    """Warn of a variable that this process's own URL lacks: other processes may lack it too."""
    try:
        fill(transport_url, args.settings.transport_url)
    except Invalid as error:
        out.warn(f"Warning: {error}")


def _chosen(yes: bool, no: bool) -> bool | None:
    return yes if yes != no else None


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


def add_cell(
    cloud: Cloud, settings: Settings, name: str, transport_url: str, database: str, *, disabled: bool = False,
    weight: int = cell_mappings.FULL_WEIGHT, reserved: bool = False
) -> CellMapping:  # fmt: skip
    """Map a cell. Raises UrlTaken.

    Adding changes the one row of `topology`, so other commands that add at the same time wait; so reading the URLs
    after that settles the race.
    """

    def work(tx: Connection) -> CellMapping:
        made = cell_mappings.insert_new(
            tx, uuid=str(uuid.uuid4()), name=name, transport_url=transport_url, database_connection=database,
            now=cloud.clock.now(), disabled=disabled, weight=weight, reserved=reserved,
        )  # fmt: skip
        demand_own_urls(tx, settings, made, transport_url, database)
        return made

    for attempt in range(1, _ATTEMPTS + 1):
        try:
            return cloud.db.run(work)
        except IntegrityError:  # another command made the row of `topology`
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
        except (IntegrityError, Conflict):  # another command did it just now
            if attempt == _ATTEMPTS:
                raise
    raise AssertionError("unreachable")


def demand_own_urls(tx: Connection, settings: Settings, cell: CellMapping, transport_url: str, database: str) -> None:
    """Raises UrlTaken when another cell has one of them, as they are stored or as this process fills them in; "" is
    never taken."""
    filled_database, filled_transport = resolved(cell, settings)
    for other in cell_mappings.every(tx):
        if other.id == cell.id:
            continue
        other_database, other_transport = resolved(other, settings)
        if (database and other_database == filled_database) or (transport_url and other_transport == filled_transport):
            raise UrlTaken(name=other.name, uuid=other.uuid)


def resolved(cell: CellMapping, settings: Settings) -> tuple[str, str]:
    """The URLs of the cell's database and queue as this process fills them in; as stored where it cannot."""

    def filled(url: str, own_url: str) -> str:
        try:
            return fill(url, own_url)
        except Invalid:
            return url

    return (
        filled(cell.database_connection, settings.database), filled(cell.transport_url, settings.transport_url)
    )  # fmt: skip
