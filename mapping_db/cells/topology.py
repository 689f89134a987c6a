"""All cells, as of the newest known state of the global database; kept while that is down."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from cell_service.db.sql.engine import Database
from cell_service.errors import DatabaseUnavailable, Invalid
from cell_service.logs import about
from mapping_db import cell_mappings, project_cells
from mapping_db.cell_mappings import CellMapping
from mapping_db.cells.url_templates import fill
from mapping_db.project_cells import ProjectCells

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All cells, cell0 among them, by id and in its order, URLs filled in; and which projects belong to which cells.

    `unusable`: why the URLs of a cell cannot be filled in, by its id.
    """

    version: int
    by_id: Mapping[int, CellMapping]
    projects: ProjectCells = field(default_factory=ProjectCells)
    unusable: Mapping[int, str] = field(default_factory=dict)


class Topology:
    """The newest snapshot that could be read. `own_database_url` and `own_transport_url` fill URL templates."""

    def __init__(self, db: Database, own_database_url: str, own_transport_url: str) -> None:
        self._db = db
        self._own_database_url, self._own_transport_url = own_database_url, own_transport_url
        self._reading = threading.Lock()
        self._unreachable = False
        self.newest: Snapshot | None = None
        """None: no snapshot was read yet."""

    def read(self) -> Snapshot:
        """Read the version, and the mappings if it has changed. Raises DatabaseUnavailable."""
        with self._reading:
            with self._db.connect() as tx:
                version = cell_mappings.topology_version(tx)
                if self.newest is not None and self.newest.version == version:
                    return self.newest
                stored = cell_mappings.every(tx)  # may be newer than the version: then it is read once more
                projects = project_cells.every(tx)
            unusable: dict[int, str] = {}
            filled = {mapping.id: self._filled(mapping, unusable) for mapping in stored}
            self.newest = Snapshot(version, filled, projects, unusable)
            log.info("topology read", extra=about(None, version=version, cells=len(stored)))
            return self.newest

    def current(self) -> Snapshot:
        """The newest snapshot, read only if there is none yet. Raises DatabaseUnavailable then."""
        return self.newest or self.read()

    def watch(self) -> Snapshot | None:
        """As `read`, but while the global database is down, the newest known snapshot; None when there is none."""
        try:
            found = self.read()
        except DatabaseUnavailable as error:
            if not self._unreachable:
                log.warning("the global database is down, known cells go on", extra=about(None, reason=str(error)))
            self._unreachable = True
            return self.newest
        if self._unreachable:
            log.info("the global database is back")
        self._unreachable = False
        return found

    def _filled(self, mapping: CellMapping, unusable: dict[int, str]) -> CellMapping:
        try:
            return replace(
                mapping,
                transport_url=fill(mapping.transport_url, self._own_transport_url),
                database_connection=fill(mapping.database_connection, self._own_database_url),
            )
        except Invalid as error:  # only this cell cannot be reached
            log.error("cell mapping is not usable", extra=about(None, cell=mapping.shown, reason=str(error)))
            unusable[mapping.id] = str(error)
            return mapping
