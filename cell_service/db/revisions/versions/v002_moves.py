"""Moves between hosts and cells."""

from __future__ import annotations

from typing import Any

from alembic import op
from sqlalchemy import BigInteger, Boolean, Column, Index, Integer, MetaData, Table, false, inspect

from cell_service.db.revisions.versions import v001_initial
from cell_service.db.sql.types import Json, Utc, ascii_id, exact
from cell_service.db.upgrades import add_missing, create_missing

revision = "cell_002"
down_revision = "cell_001"

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(column_0_label)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

BIG = BigInteger().with_variant(Integer, "sqlite")

Table(
    "migrations",
    metadata,
    Column("id", BIG, primary_key=True, autoincrement=False),
    Column("uuid", ascii_id(), nullable=False, unique=True),
    Column("instance_uuid", ascii_id(), nullable=False),
    Column("migration_type", ascii_id(32), nullable=False),
    Column("status", ascii_id(32), nullable=False),
    Column("source_compute", exact(255)),
    Column("source_node", exact(255)),
    Column("dest_compute", exact(255)),
    Column("dest_node", exact(255)),
    Column("dest_host", exact(255)),
    Column("old_instance_type_id", Integer),
    Column("new_instance_type_id", Integer),
    Column("cross_cell_move", Boolean, nullable=False, server_default=false()),
    Column("hidden", Boolean, nullable=False, server_default=false()),
    Column("request_id", exact(255), nullable=False),
    Column("user_id", exact(255), nullable=False),
    Column("project_id", exact(255), nullable=False),
    Column("created_at", Utc, nullable=False),
    Column("updated_at", Utc),
    Column("memory_total", BIG),
    Column("memory_processed", BIG),
    Column("memory_remaining", BIG),
    Column("disk_total", BIG),
    Column("disk_processed", BIG),
    Column("disk_remaining", BIG),
    Index("ix_migrations_instance", "instance_uuid"),
    Index("ix_migrations_page", "created_at", "id"),
    Index("ix_migrations_status", "status", "migration_type"),
)

Table(
    "cell_identity",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("cell_uuid", ascii_id(), nullable=False),
    Column("claimed_at", Utc, nullable=False),
)


def _shadow(table: Table, *more: Column[Any], by: str) -> None:
    Table(
        f"shadow_{table.name}",
        metadata,
        Column("shadow_id", BIG, primary_key=True, autoincrement=True),
        *(Column(column.name, column.type) for column in table.columns),
        *more,
        Index(f"ix_shadow_{table.name}_{by}", by),
    )


_shadow(v001_initial.metadata.tables["instances"], by="deleted_at")
_shadow(v001_initial.metadata.tables["instance_actions"], by="instance_uuid")
_shadow(
    v001_initial.metadata.tables["instance_actions_events"], Column("instance_uuid", ascii_id()), by="instance_uuid"
)
_shadow(metadata.tables["migrations"], by="instance_uuid")


_INSTANCE_INDEXES = {
    "ix_instances_names": ["project_id", "deleted_at", "display_name", "created_at", "uuid"],
    "ix_instances_all_names": ["deleted_at", "display_name", "created_at", "uuid"],
    "ix_instances_changes": ["project_id", "deleted_at", "updated_at", "created_at", "uuid"],
}


Table(
    "console_auth_tokens",
    metadata,
    Column("id", BIG, primary_key=True, autoincrement=True),
    Column("token_hash", ascii_id(64), nullable=False, unique=True),
    Column("instance_uuid", ascii_id(), nullable=False),
    Column("kind", ascii_id(32), nullable=False),
    Column("host", exact(255), nullable=False),
    Column("address", exact(255), nullable=False),
    Column("port", Integer, nullable=False),
    Column("base_url", exact(255), nullable=False),
    Column("internal_access_path", exact(255)),
    Column("tls_port", Integer),
    Column("created_at", Utc, nullable=False),
    Column("expires_at", Utc, nullable=False, index=True),
)


def upgrade() -> None:
    tx = op.get_bind()
    create_missing(tx, metadata)
    there = {index["name"] for index in inspect(tx).get_indexes("instances")}
    for name, columns in _INSTANCE_INDEXES.items():
        if name not in there:
            op.create_index(name, "instances", columns)
    add_missing(tx, "services", Column("leaving", Boolean, nullable=False, server_default=false()))
    for table in ("instances", "shadow_instances"):
        add_missing(tx, table, Column("block_devices", Json(Any)))
