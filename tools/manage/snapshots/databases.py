"""The databases of a federation as snapshots know them: the global one and each cell's, opened and described."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, MetaData, make_url

from cell_service.db import upgrades
from cell_service.db.schema import metadata as cell_metadata
from cell_service.db.sql.engine import Database
from cell_service.db.upgrades import CELL, Schema
from cell_service.errors import Invalid, SchemaMissing
from mapping_db.cell_mappings import CellMapping
from mapping_db.cells.url_templates import fill
from mapping_db.schema import metadata as global_metadata
from mapping_db.upgrades import GLOBAL as GLOBAL_SCHEMA
from tools.manage.cloud import open_database
from tools.manage.settings import Settings
from tools.manage.snapshots.files import GLOBAL, Part
from tools.manage.urls import masked


@dataclass(frozen=True, slots=True)
class Place:
    """Where a database is. `uuid` is its cell's, "" for the global one."""

    name: str
    uuid: str
    url: str

    @property
    def schema(self) -> Schema:
        return CELL if self.uuid else GLOBAL_SCHEMA

    @property
    def metadata(self) -> MetaData:
        return cell_metadata if self.uuid else global_metadata

    @property
    def shown_url(self) -> str:
        return masked(self.url)

    @property
    def is_missing_file(self) -> bool:
        """Whether it is SQLite's and not there, so that opening it would make it."""
        parsed = make_url(self.url)
        return parsed.get_backend_name() == "sqlite" and not Path(parsed.database or "").is_file()

    @contextlib.contextmanager
    def opened(self) -> Iterator[Database]:
        """Raises Invalid for a URL that cannot be used."""
        db = open_database(self.url, f"the database of {self.name}")
        try:
            yield db
        finally:
            db.dispose()


def place_of_global(settings: Settings) -> Place:
    return Place(GLOBAL, "", settings.api_database)


def place_of(cell: CellMapping, settings: Settings) -> Place:
    """Raises Invalid where the process's own URL lacks what the cell's names."""
    return Place(cell.shown, cell.uuid, fill(cell.database_connection, settings.database))


def schema_version(tx: Connection, place: Place) -> str:
    """Raises SchemaMissing for a database without a schema, Invalid for one of a later release."""
    version = upgrades.stored_version(tx)
    if version is None:
        raise SchemaMissing(reason=f"{place.name} has no tables")
    demand_known(version, place)
    return version


def demand_known(version: str, place: Place | Part) -> None:
    """Raises Invalid for a schema of a later release."""
    if not upgrades.is_known(version, CELL if place.uuid else GLOBAL_SCHEMA):
        raise Invalid(reason=f"{place.name} has schema {version}, which this release does not know")
