"""Bringing the global database to the newest schema; the mechanism is cell_service.db.upgrades."""

from __future__ import annotations

from pathlib import Path

from cell_service.db import upgrades as migrate
from cell_service.db.sql.engine import Database

GLOBAL = migrate.Schema("global", Path(__file__).with_name("revisions"))


def sync(db: Database, version: str | None = None) -> str:
    """Bring the global database to `version` (None: the newest); see cell_service.db.upgrades.sync."""
    return migrate.sync(db, GLOBAL, version)
