"""Changes of the cell's instances that the global tables do not have yet."""

from __future__ import annotations

from typing import Any

from alembic import op
from sqlalchemy import BigInteger, Column, Integer, MetaData, Table

from cell_service.db.sql.types import Json, Utc, ascii_id
from cell_service.db.upgrades import create_missing

revision = "cell_006"
down_revision = "cell_005"

metadata = MetaData(naming_convention={"ix": "ix_%(column_0_label)s", "pk": "pk_%(table_name)s"})

Table(
    "global_updates",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("instance_uuid", ascii_id(), nullable=False, index=True),
    Column("kind", ascii_id(16), nullable=False),
    Column("facts", Json(Any), nullable=False),
    Column("created_at", Utc, nullable=False),
)


def upgrade() -> None:
    create_missing(op.get_bind(), metadata)
