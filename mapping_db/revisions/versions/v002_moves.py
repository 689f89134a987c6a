"""Weights of cells, projects and their cells, moves between hosts and cells."""

from __future__ import annotations

from typing import Any

from alembic import op
from sqlalchemy import BigInteger, Boolean, Column, ForeignKey, Index, Integer, MetaData, Table, Text, false, inspect

from cell_service.db.sql.types import Json, Utc, ascii_id, exact
from cell_service.db.upgrades import add_missing, create_missing

revision = "global_002"
down_revision = "global_001"

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(column_0_label)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

BIG = BigInteger().with_variant(Integer, "sqlite")

Table("cell_mappings", metadata, Column("id", Integer, primary_key=True))
"""The tables as the first revision made them, with only the columns that the new tables refer to."""

Table(
    "cell_projects",
    metadata,
    Column("cell_id", Integer, ForeignKey("cell_mappings.id", ondelete="CASCADE"), primary_key=True),
    Column("project_id", exact(255), primary_key=True),
)

Table(
    "project_cells",
    metadata,
    Column("project_id", exact(255), primary_key=True),
    Column("cell_id", Integer, ForeignKey("cell_mappings.id", ondelete="CASCADE"), primary_key=True),
)

Table(
    "placement_notes",
    metadata,
    Column("instance_uuid", ascii_id(), primary_key=True),
    Column("created_at", Utc, nullable=False, index=True),
    Column("note", Text, nullable=False),
)

Table(
    "moves",
    metadata,
    Column("id", BIG, primary_key=True, autoincrement=True),
    Column("uuid", ascii_id(), nullable=False, unique=True),
    Column("instance_uuid", ascii_id(), nullable=False, index=True),
    Column("active", ascii_id(), unique=True),
    Column("kind", ascii_id(32), nullable=False),
    Column("phase", ascii_id(16), nullable=False),
    Column("request_id", exact(255), nullable=False),
    Column("user_id", exact(255), nullable=False),
    Column("project_id", exact(255), nullable=False),
    Column("created_at", Utc, nullable=False),
    Column("updated_at", Utc),
    Column("finished_at", Utc),
    Column("source_cell", Integer, nullable=False),
    Column("source_host", exact(255)),
    Column("target_cell", Integer),
    Column("target_host", exact(255)),
    Column("plan", Json(Any), nullable=False),
    Column("attempt", Integer, nullable=False, server_default="0"),
    Column("fence", Integer, nullable=False, server_default="0"),
    Column("owner", exact(255)),
    Column("lease_until", Utc),
    Column("not_before", Utc),
    Index("ix_moves_work", "finished_at", "lease_until"),
    Index("ix_moves_source", "source_host", "finished_at"),
)

Table(
    "host_moves",
    metadata,
    Column("host", exact(255), primary_key=True),
    Column("source_cell", Integer, nullable=False),
    Column("target_cell", Integer, nullable=False),
    Column("step", ascii_id(32), nullable=False),
    Column("started_at", Utc, nullable=False),
    Column("updated_at", Utc),
)

Table(
    "idempotency_keys",
    metadata,
    Column("digest", ascii_id(64), primary_key=True),
    Column("fingerprint", ascii_id(64), nullable=False),
    Column("status", Integer),
    Column("answer", Text),
    Column("created_at", Utc, nullable=False),
    Column("expires_at", Utc, nullable=False, index=True),
)

Table(
    "progress_marks",
    metadata,
    Column("name", exact(255), primary_key=True),
    Column("position", Text, nullable=False),
    Column("updated_at", Utc, nullable=False),
)


def upgrade() -> None:
    tx = op.get_bind()
    add_missing(
        tx,
        "cell_mappings",
        Column("weight", Integer, nullable=False, server_default="100"),
        Column("reserved", Boolean, nullable=False, server_default=false()),
    )
    create_missing(tx, metadata)
    if "ix_instance_mappings_cells" not in {index["name"] for index in inspect(tx).get_indexes("instance_mappings")}:
        op.create_index("ix_instance_mappings_cells", "instance_mappings", ["project_id", "cell_id"])
