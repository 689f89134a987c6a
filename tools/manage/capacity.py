"""`placement capacity`: how many more servers of a flavor fit, and what runs out first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from uuid import uuid4

from sqlalchemy import Connection

from api_cell.config import Zones
from api_cell.scheduler.capacity import Room
from api_cell.scheduler.config import read_settings
from api_cell.scheduler.scheduler import Scheduler
from cell_service.config import Defaults, load, read
from cell_service.context import internal
from cell_service.errors import FlavorNotFound, Invalid, NoValidHost
from cell_service.model.instance import Flavor
from cell_service.model.request_spec import RequestSpec
from mapping_db import flavors
from mapping_db.cloud import Cloud
from mapping_db.flavors import FlavorQuery
from tools.manage.command import Args, arg, command
from tools.manage.out import Out

_SECONDS = 60.0
_NONE = "(none)"


@command("placement capacity",
         arg("--flavor", required=True, metavar="FLAVOR", help="id or name"),
         arg("--by", choices=("cell", "zone", "aggregate", "host"), default="cell", help="what the numbers are of"),
         arg("--zone", metavar="ZONE", help="only hosts of this availability zone"),
         arg("--project", metavar="PROJECT", default="",
             help="for servers of this project: its cells, aggregates and filters count"),
         reads=True)  # fmt: skip
def capacity(cloud: Cloud, args: Args, out: Out) -> int:
    """Show how many more servers of a flavor the hosts would take, by the scheduler's own checks, and what keeps them
    from taking yet another. Hosts of several aggregates are counted in each. 0 there is room; 1 there is none; 2 there
    is no such flavor, or it asks for what cannot be."""
    settings = load(list(args.settings.files))
    process = read(settings, Defaults)
    scheduler = Scheduler(
        cloud,
        read_settings(
            settings,
            service_down_seconds=process.service_down_time,
            default_availability_zone=read(settings, Zones).default_availability_zone,
        ),
    )
    try:
        with cloud.db.connect() as tx:
            flavor = _flavor(tx, args.flavor)
        spec = RequestSpec(str(uuid4()), args.project, "", flavor, availability_zone=args.zone)
        rooms = scheduler.rooms(internal(cloud.clock, seconds=_SECONDS), spec)
    except (FlavorNotFound, Invalid, NoValidHost) as error:
        out.warn(str(error))
        return 2
    if args.by == "host":
        names = {cell_id: cloud.cells.name(cell_id) for cell_id in {room.host.cell_id for room in rooms}}
        out.table(
            ("Host", "Cell", "Zone", "Servers", "Then"),
            [(each.host.host, names[each.host.cell_id], each.host.availability_zone, each.servers, each.end)
             for each in rooms],
        )  # fmt: skip
    else:
        columns = (args.by.capitalize(), "Hosts", "With room", "Servers", "Runs out first")
        out.table(columns, _summed(cloud, args.by, rooms))
    total = sum(room.servers for room in rooms)
    if not out.for_programs:
        out.say(f"{total} more servers of flavor {flavor.name} fit.")
    return 0 if total else 1


def _flavor(tx: Connection, text: str) -> Flavor:
    """Raises FlavorNotFound."""
    try:
        return flavors.get(tx, text)
    except FlavorNotFound:
        named = flavors.page(tx, FlavorQuery(name=text))
        if not named:
            raise
        return named[0]


def _summed(cloud: Cloud, by: str, rooms: Sequence[Room]) -> list[tuple[str, int, int, int, str]]:
    keys: dict[str, Callable[[Room], Iterable[str]]] = {
        "cell": lambda room: (cloud.cells.name(room.host.cell_id),),
        "zone": lambda room: (room.host.availability_zone,),
        "aggregate": lambda room: [each.name for each in room.host.aggregates] or [_NONE],
    }
    groups: dict[str, list[Room]] = {}
    for room in rooms:
        for key in keys[by](room):
            groups.setdefault(key, []).append(room)
    rows = []
    for name, inside in sorted(groups.items()):
        with_room = [room for room in inside if room.servers]
        servers = sum(room.servers for room in with_room)
        rows.append((name, len(inside), len(with_room), servers, _first(with_room or inside)))
    return rows


def _first(rooms: Sequence[Room]) -> str:
    """The end of the room of most of the hosts."""
    ends = Counter(room.resource_class or room.end for room in rooms)
    return min(ends, key=lambda end: (-ends[end], end))
