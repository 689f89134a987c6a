"""Migrations: those of all servers, and those under way of one (Compute API reference, "os-migrations")."""

from __future__ import annotations

from datetime import datetime
from itertools import islice
from typing import Any

from api_cell.compute import behaviours
from api_cell.edge import missing_cells as missing
from api_cell.edge.links import next_link, page_marker, page_size, resource_links
from api_cell.edge.route import ByVersion, Request, Response, Schema
from api_cell.edge.shapes import TEXT, TRUE_WORDS, WHOLE, strict
from api_cell.edge.versioned import Field, View, many, once, queries_of, values_at
from api_cell.lists.merge import MOST_ROWS, Merge, RowSource
from api_cell.lists.owned_rows import Copy, owned
from api_cell.lists.rows_in_transit import read_whole
from api_cell.servers import find
from api_cell.servers.lists.query import parse_moment
from api_cell.servers.lists.rows import refuse_gaps
from api_cell.servers.moves import steer as live_migrations
from api_cell.timestamps import latest_meant, with_fraction
from cell_service.db import migration_lists, server_migrations
from cell_service.db.migration_lists import MigrationListing
from cell_service.db.sql.sorting import comparable
from cell_service.errors import CellUnavailable, Invalid, MigrationNotFoundForServer, PolycellError
from cell_service.model.migration import ENDED, LIVE, Migration
from mapping_db import instance_mappings, moves
from mapping_db.cells.registry import Cell

_HOSTS = ("source_compute", "source_node", "dest_compute", "dest_node", "dest_host")
_LIVE_UNDER_WAY = frozenset({"queued", "preparing", "running", "post-migrating"})
_EQUAL = ("status", "source_compute", "migration_type", "instance_uuid", "user_id", "project_id")
_KEYS = comparable(migration_lists.SORT)


_TIME: Schema = {"type": "string", "format": "date-time"}
_PARAMETERS = (
    Field("hidden", many(TEXT)),
    Field("host", many(TEXT)),
    Field("instance_uuid", many(TEXT)),
    Field("source_compute", many(TEXT)),
    Field("status", many(TEXT)),
    Field("migration_type", many(TEXT)),
    Field("limit", once(WHOLE), since=(2, 59)),
    Field("marker", once(TEXT), since=(2, 59)),
    Field("changes-since", once(_TIME), since=(2, 59)),
    Field("changes-before", once(_TIME), since=(2, 66)),
    Field("user_id", many(TEXT), since=(2, 80)),
    Field("project_id", many(TEXT), since=(2, 80)),
)
LIST_QUERY = queries_of(*_PARAMETERS, closed=(2, 59))
OF_SERVER_QUERY: ByVersion = (
    ((2, 1), None),
    ((2, 102), {"type": "object", "properties": {}, "additionalProperties": False}),
)


def index(req: Request) -> Response:
    """200 {"migrations": […]} of all cells, newest first; paged from 2.59 on."""
    listing = _listing(req)
    paged = behaviours.MIGRATIONS_IN_PAGES.at(req.version)
    most = page_size(req, req.services.settings.api.max_limit) if paged else None
    if most == 0 or req.one("hidden") in TRUE_WORDS:  # a hidden one is only another cell's copy of one that is shown
        return Response(200, {"migrations": []})
    marker = page_marker(req) if paged else None
    cell_ids = _concerned(req, listing)
    start = None if marker is None else _place_of(req, marker, cell_ids)

    def read() -> tuple[tuple[list[Migration], dict[int, PolycellError]], Merge[Copy[Migration]]]:
        merge = Merge(
            req.cloud.cells, req.ctx.deadline, _concerned(req, listing), _kind(req, listing, start),
            want=most or MOST_ROWS,
        )  # fmt: skip
        return (list(islice(owned(req.cloud, iter(merge), most or MOST_ROWS), most)), merge.failures), merge

    found, failures = read_whole(req.cloud, read)
    refuse_gaps(req.cloud, req.services.settings, failures)
    hosts = req.may("os_compute_api:os-migrations:index:host")
    answer: dict[str, Any] = {"migrations": [_view(req, each, hosts=hosts) for each in found]}
    if found and len(found) == most:
        answer["migrations_links"] = next_link(req, "/os-migrations", found[-1].uuid)
    return Response(200, answer, missing.header(req, failures.keys()))


def of_server(req: Request) -> Response:
    """200 {"migrations": […]}: the live migrations of a server that are under way."""
    found = find.server(req.cloud, req.ctx, req.params["server_id"])
    req.demand("os_compute_api:servers:migrations:index", find.target(found.instance))
    hosts = req.may("os_compute_api:servers:migrations:index:host", find.target(found.instance))
    live = [] if found.cell is None else _live(req, found.cell, found.instance.uuid)
    return Response(200, {"migrations": [_view_of_server(req, each, hosts=hosts) for each in live]})


def show(req: Request) -> Response:
    """200 {"migration": {…}} while it is a live migration under way; 404 for any other."""
    found = find.server(req.cloud, req.ctx, req.params["server_id"])
    req.demand("os_compute_api:servers:migrations:show", find.target(found.instance))
    live = [] if found.cell is None else _live(req, found.cell, found.instance.uuid)
    for each in live:
        if str(each.id) == req.params["id"]:
            return Response(200, {"migration": _view_of_server(req, each, hosts=True)})
    raise MigrationNotFoundForServer(migration_id=req.params["id"], instance_uuid=found.instance.uuid)


def abort(req: Request) -> Response:
    """202: the live migration is given up, and the server stays where it is."""
    queued = behaviours.QUEUED_MIGRATIONS_ARE_ABORTED.at(req.version)
    live_migrations.abort(req.cloud, req.services, req.caller, req.params["server_id"], req.params["id"], queued=queued)
    return Response(202)


def force_complete(req: Request) -> Response:
    """202: the live migration ends soon."""
    live_migrations.force_complete(req.cloud, req.caller, req.params["server_id"], req.params["id"])
    return Response(202)


FORCE_COMPLETE: Schema = strict({"force_complete": {"type": "null"}}, "force_complete")


# -- the query -------- ---------------------------------------------------------------------------


def _listing(req: Request) -> MigrationListing:
    """Raises Invalid, PolicyForbidden."""
    req.demand("os_compute_api:os-migrations:index")
    named = [name for name in _EQUAL if name in values_at(_PARAMETERS, req.version)]
    equal = {name: tuple(dict.fromkeys(req.query[name])) for name in named if req.query.get(name)}
    if not req.may("os_compute_api:os-migrations:index:all_projects"):
        if set(equal.get("project_id", ())) - {req.ctx.project_id}:
            req.demand("os_compute_api:os-migrations:index:all_projects")
        equal["project_id"] = (req.ctx.project_id,)
    since, before = _moment(req, "changes-since"), _moment(req, "changes-before")
    before = latest_meant(before) if before else None
    if since and before and since > before:
        raise Invalid(reason="The value of changes-since must be less than or equal to changes-before.")
    return MigrationListing(tuple(equal.items()), req.one("host"), since, before)


def _moment(req: Request, name: str) -> datetime | None:
    """The time that the parameter names; None also for a parameter that the version does not know."""
    text = req.one(name)
    return parse_moment(name, text) if text is not None and name in values_at(_PARAMETERS, req.version) else None


def _concerned(req: Request, listing: MigrationListing) -> list[int]:
    """The cells that may have such migrations, by the mappings."""
    equal = dict(listing.equal)
    with req.cloud.db.connect() as tx:
        if "instance_uuid" in equal:
            places = instance_mappings.places(tx, equal["instance_uuid"]).values()
            return sorted({place.cell_id for place in places if place.cell_id is not None})
        if "project_id" in equal:
            found = (instance_mappings.cells_of_project(tx, project_id) for project_id in equal["project_id"])
            return sorted({cell_id for each in found for cell_id in each})
    return [mapping.id for mapping in req.cloud.cells.all() if not mapping.is_cell0]


def _kind(req: Request, listing: MigrationListing, start: tuple[Any, ...] | None) -> RowSource[Copy[Migration]]:
    def page(cell: Cell, after: Copy[Migration] | None, limit: int) -> list[Copy[Migration]]:
        place = start if after is None else migration_lists.sort_values(after.row)
        with cell.db.connect(req.ctx.deadline) as tx:
            found = migration_lists.page(tx, listing, after=place, limit=limit)
        return [Copy(cell.mapping.id, each.uuid, each.instance_uuid, each.hidden, each) for each in found]

    return RowSource(
        page,
        lambda copy: _KEYS(migration_lists.sort_values(copy.row)),
        lambda copy: (copy.identity, copy.cell_id),
    )


def _place_of(req: Request, marker: str, cell_ids: list[int]) -> tuple[Any, ...]:
    """The marker's place in the order. Raises Invalid; CellUnavailable when only a cell that is down may know."""

    def find_in(cell: Cell) -> Migration | None:
        with cell.db.connect(req.ctx.deadline) as tx:
            return migration_lists.by_uuid(tx, marker)

    with req.cloud.db.connect() as tx:
        move = moves.get(tx, marker)
    searched = cell_ids if move is None else [each for each in (move.source_cell, move.target_cell) if each is not None]
    gathered = req.cloud.cells.scatter(searched, find_in, req.ctx.deadline)
    known = next((each for each in gathered.answers.values() if each is not None), None)
    if known is not None:
        visible = req.may("os_compute_api:os-migrations:index:all_projects") or known.project_id == req.ctx.project_id
        if visible:
            return migration_lists.sort_values(known)
    elif move is not None:
        return (move.created_at, move.id)
    elif gathered.failures:
        raise CellUnavailable(cell=req.cloud.cells.names(gathered.failures))
    raise Invalid(reason=f"marker [{marker}] not found")


def _live(req: Request, cell: Cell, instance_uuid: str) -> list[Migration]:
    with cell.db.connect(req.ctx.deadline) as tx:
        every = server_migrations.of_instance(tx, instance_uuid)
    live = [each for each in every if each.migration_type == LIVE and each.status not in ENDED]
    return [live_migrations.with_progress(req.cloud, req.ctx, cell, each) for each in live]


# -- documents ----------------------------------------------------------------------------------


def _view(req: Request, migration: Migration, *, hosts: bool) -> dict[str, Any]:
    shown = _common(req, migration, hosts=hosts) | _OF_ALL.at(req.version, migration)
    if "migration_type" in shown and migration.migration_type == LIVE and migration.status in _LIVE_UNDER_WAY:
        shown["links"] = resource_links(req, f"/servers/{migration.instance_uuid}/migrations/{migration.id}")
    return shown


def _view_of_server(req: Request, migration: Migration, *, hosts: bool) -> dict[str, Any]:
    totals = ("memory_total", "disk_total")  # None where there is nothing of it to send
    counts = ("memory_processed", "memory_remaining", "disk_processed", "disk_remaining")
    return _common(req, migration, hosts=hosts) | {
        "server_uuid": migration.instance_uuid,
        **{f"{name}_bytes": getattr(migration, name) or None for name in totals},
        **{f"{name}_bytes": getattr(migration, name) for name in counts},
    }


def _common(req: Request, migration: Migration, *, hosts: bool) -> dict[str, Any]:
    places = {name: getattr(migration, name) if hosts else None for name in _HOSTS}
    return _COMMON.at(req.version, migration) | places


_COMMON: View[Migration] = View(
    Field("id", lambda migration: migration.id),
    Field("status", lambda migration: migration.status),
    Field("created_at", lambda migration: with_fraction(migration.created_at)),
    Field("updated_at", lambda migration: with_fraction(migration.updated_at or migration.created_at)),
    Field("uuid", lambda migration: migration.uuid, since=(2, 59)),
    Field("user_id", lambda migration: migration.user_id, since=(2, 80)),
    Field("project_id", lambda migration: migration.project_id, since=(2, 80)),
)
_OF_ALL: View[Migration] = View(
    Field("instance_uuid", lambda migration: migration.instance_uuid),
    Field("old_instance_type_id", lambda migration: migration.old_instance_type_id),
    Field("new_instance_type_id", lambda migration: migration.new_instance_type_id),
    Field("migration_type", lambda migration: migration.migration_type, since=(2, 23)),
)
