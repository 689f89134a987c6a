"""The key that seals secrets, and the secrets of operations."""

from __future__ import annotations

from alembic import op
from sqlalchemy import BigInteger, Column, ForeignKey, Integer, MetaData, Table, Text

from cell_service.db.sql.types import Utc
from cell_service.db.upgrades import create_missing

revision = "cell_004"
down_revision = "cell_003"

metadata = MetaData(naming_convention={"fk": "fk_%(table_name)s_%(column_0_name)s", "pk": "pk_%(table_name)s"})

Table(
    "sealing_keys",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("data_key", Text, nullable=False),
    Column("created_at", Utc, nullable=False),
)

BIG = BigInteger().with_variant(Integer, "sqlite")

Table("operations", metadata, Column("id", BIG, primary_key=True))
"""The table as the first revision made it, with only the column that the new table refers to."""

Table(
    "operation_secrets",
    metadata,
    Column("operation_id", BIG, ForeignKey("operations.id", ondelete="CASCADE"), primary_key=True, autoincrement=False),
    Column("sealed", Text, nullable=False),
)


def upgrade() -> None:
    create_missing(op.get_bind(), metadata)
