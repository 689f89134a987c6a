"""Restoring: first every database of the plan is looked at, then each is replaced in one transaction, cells before the
global one: until that is there, no process finds a half-restored federation."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import inspect

from cell_service.db import identity, services, upgrades
from cell_service.errors import DatabaseUnavailable, Invalid
from mapping_db import cell_mappings
from mapping_db.cell_mappings import CellMapping
from mapping_db.cloud import Cloud
from mapping_db.schema import cell_mappings as mappings_table
from mapping_db.schema import metadata as global_metadata
from tools.manage.named_cells import NoSuchCell, the_one
from tools.manage.settings import Settings
from tools.manage.snapshots import rows
from tools.manage.snapshots.databases import Place, demand_known, place_of, place_of_global
from tools.manage.snapshots.files import GLOBAL, Part, Reader

_MAPPINGS = frozenset({mappings_table.name})


class NotRestorable(DatabaseUnavailable):
    """A database of the plan can't be restored to; nothing was changed."""

    message = "The database of {name} cannot be restored to: {reason}"


@dataclass(frozen=True, slots=True)
class Target:
    """A part of the snapshot, and the database that it goes to. `there`: how many rows that has, by table. Rows that
    every database has are not counted. `reporting`: hosts whose services have reported to it a moment ago."""

    part: Part
    place: Place
    there: dict[str, int]
    reporting: tuple[str, ...] = ()

    @property
    def rows_there(self) -> int:
        return sum(self.there.values())

    @property
    def rows_then(self) -> int:
        return sum(number for table, number in self.part.rows.items() if table not in rows.OF_EVERY_DATABASE)


def plan(cloud: Cloud, settings: Settings, reader: Reader, chosen: Sequence[str]) -> list[Target]:
    """Where each chosen part goes, cells first: `chosen` are cells, or `global`; none: all of the snapshot. Changes
    nothing. Raises NoSuchCell, Invalid, NotRestorable."""
    parts = _chosen(reader, chosen)
    own = any(part.is_global for part in parts)
    stored = _saved_mappings(reader) if own else _live_mappings(cloud)
    targets = []
    for part in sorted(parts, key=lambda each: each.is_global):
        place = place_of_global(settings) if part.is_global else _place(part, stored, settings, own=own)
        demand_known(part.schema, place)
        targets.append(_target(place, part, cloud.clock.now(), settings.service_down_seconds))
    urls = [target.place.url for target in targets]
    if len(set(urls)) < len(urls):
        raise Invalid(reason="two databases of the snapshot would go to one place")
    return targets


def restore(reader: Reader, target: Target, now: datetime) -> dict[str, int]:
    """Give the database the rows of the snapshot; it has the old ones, or these. Returns how many it has by table.

    A cell's database says from now on that the cell has it since `now`, so that conductors take older rows for no proof
    against a guest. Raises DatabaseUnavailable, Invalid.
    """
    place, part = target.place, target.part
    with place.opened() as db:
        upgrades.sync(db, place.schema, part.schema)
        with db.begin() as tx, reader.lines(part) as lines:
            counts = rows.replace(tx, place.metadata, rows.read(lines, place.metadata))
            if part.is_global:
                cell_mappings.bump(tx)
            else:
                identity.restored(tx, now)
        return counts


def _chosen(reader: Reader, chosen: Sequence[str]) -> list[Part]:
    if not chosen:
        return list(reader.manifest.parts)
    cells = [CellMapping(0, part.uuid, part.name, "", "") for part in reader.manifest.cells]
    uuids = {"" if text == GLOBAL else the_one(cells, text).uuid for text in chosen}
    return [part for part in reader.manifest.parts if part.uuid in uuids]


def _saved_mappings(reader: Reader) -> dict[str, CellMapping]:
    """The cells as the snapshot's global database has them."""
    [part] = [part for part in reader.manifest.parts if part.is_global]
    with reader.lines(part) as lines:
        found = [row for page in rows.read(lines, global_metadata, _MAPPINGS) for row in page.rows]
    return {
        row["uuid"]: CellMapping(
            row["id"], row["uuid"], row["name"] or "", row["transport_url"], row["database_connection"]
        )
        for row in found
    }


def _live_mappings(cloud: Cloud) -> dict[str, CellMapping]:
    with cloud.db.connect() as tx:
        return {each.uuid: each for each in cell_mappings.every(tx)}


def _place(part: Part, mapped: dict[str, CellMapping], settings: Settings, *, own: bool) -> Place:
    """Where the cell's mapping says that its database is."""
    if part.uuid not in mapped:
        where = "the snapshot's" if own else "this"
        raise NoSuchCell(cell=f"{part.name} ({part.uuid}) in {where} global database")
    return place_of(mapped[part.uuid], settings)


def _target(place: Place, part: Part, now: datetime, down_seconds: float) -> Target:
    """The database as it is. Raises NotRestorable when it doesn't answer, is another's, or newer than the part."""
    if place.is_missing_file:
        return Target(part, place, {})
    with _as_not_restorable(place), place.opened() as db, db.connect() as tx:
        version = upgrades.stored_version(tx)
        if version is None:
            if others := inspect(tx).get_table_names():
                raise NotRestorable(name=place.name, reason=f"it has tables of another program, {others[0]} among them")
            return Target(part, place, {})
        if version.partition("_")[0] != place.schema.name:
            raise NotRestorable(name=place.name, reason=f"it has another schema: {version}")
        if version > part.schema:
            raise NotRestorable(
                name=place.name,
                reason=f"its schema is {version}, newer than the snapshot's {part.schema}; make it empty",
            )
        owner = identity.stored(tx) if part.uuid else None
        if owner not in (None, part.uuid):
            raise NotRestorable(name=place.name, reason=f"it is the database of the cell {owner}")
        current = bool(part.uuid) and version == upgrades.newest()
        up = [each.host for each in services.list_all(tx) if each.is_up(now, down_seconds)] if current else []
        return Target(part, place, rows.count(tx, rows.stored_tables(tx, place.metadata)), tuple(sorted(set(up))))


@contextlib.contextmanager
def _as_not_restorable(place: Place) -> Iterator[None]:
    try:
        yield
    except NotRestorable:
        raise
    except DatabaseUnavailable as error:
        raise NotRestorable(name=place.name, reason=error.fields["reason"]) from error
