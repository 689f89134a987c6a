"""Shares of instances."""

from __future__ import annotations

from typing import Any

from alembic import op
from sqlalchemy import Column

from cell_service.db.sql.types import Json
from cell_service.db.upgrades import add_missing

revision = "cell_003"
down_revision = "cell_002"


def upgrade() -> None:
    tx = op.get_bind()
    for table in ("instances", "shadow_instances"):
        add_missing(tx, table, Column("shares", Json(Any)))
