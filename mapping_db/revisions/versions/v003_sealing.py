"""The key that seals secrets."""

from __future__ import annotations

from alembic import op
from sqlalchemy import Column, Integer, MetaData, Table, Text

from cell_service.db.sql.types import Utc
from cell_service.db.upgrades import create_missing

revision = "global_003"
down_revision = "global_002"

metadata = MetaData(naming_convention={"fk": "fk_%(table_name)s_%(column_0_name)s", "pk": "pk_%(table_name)s"})

Table(
    "sealing_keys",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("data_key", Text, nullable=False),
    Column("created_at", Utc, nullable=False),
)


def upgrade() -> None:
    create_missing(op.get_bind(), metadata)
