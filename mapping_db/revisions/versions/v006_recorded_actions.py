"""Actions that wait for a cell which does not answer."""

from __future__ import annotations

from typing import Any

from alembic import op
from sqlalchemy import BigInteger, Boolean, Column, Integer, MetaData, Table

from cell_service.db.sql.types import Json, Utc, ascii_id, exact
from cell_service.db.upgrades import create_missing

revision = "global_006"
down_revision = "global_005"

metadata = MetaData(naming_convention={"ix": "ix_%(column_0_label)s", "pk": "pk_%(table_name)s"})

Table(
    "recorded_actions",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("instance_uuid", ascii_id(), nullable=False, index=True),
    Column("action", ascii_id(32), nullable=False),
    Column("arguments", Json(Any), nullable=False),
    Column("request_id", exact(255), nullable=False),
    Column("user_id", exact(255), nullable=False),
    Column("project_id", exact(255), nullable=False),
    Column("is_admin", Boolean, nullable=False),
    Column("created_at", Utc, nullable=False),
)


def upgrade() -> None:
    create_missing(op.get_bind(), metadata)
