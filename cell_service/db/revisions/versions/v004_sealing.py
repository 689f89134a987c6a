"""The key that seals secrets, and the secrets of operations."""

from __future__ import annotations

from alembic import op
from sqlalchemy import Column, Integer, MetaData, Table, Text

from cell_service.db.sql.types import Utc
from cell_service.db.upgrades import add_missing, create_missing

revision = "cell_004"
down_revision = "cell_003"

metadata = MetaData(naming_convention={"pk": "pk_%(table_name)s"})

Table(
    "sealing_keys",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("data_key", Text, nullable=False),
    Column("created_at", Utc, nullable=False),
)


def upgrade() -> None:
    create_missing(op.get_bind(), metadata)
    add_missing(op.get_bind(), "operations", Column("sealed", Text))
