"""The first global schema."""

from __future__ import annotations

from typing import Any

from alembic import op
from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Double,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    false,
    func,
    insert,
    select,
    true,
)

from cell_service.db.sql.types import Json, Utc, ascii_id, exact
from cell_service.db.upgrades import create_missing

revision = "global_001"
down_revision = None

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(column_0_label)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

BIG = BigInteger().with_variant(Integer, "sqlite")

topology = Table(
    "topology",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("version", BIG, nullable=False),
)

Table(
    "cell_mappings",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("uuid", ascii_id(), nullable=False, unique=True),
    Column("name", exact(255)),
    Column("transport_url", Text, nullable=False),
    Column("database_connection", Text, nullable=False),
    Column("disabled", Boolean, nullable=False, server_default=false()),
    Column("created_at", Utc, nullable=False),
    Column("updated_at", Utc),
)

Table(
    "host_mappings",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("cell_id", Integer, ForeignKey("cell_mappings.id"), nullable=False, index=True),
    Column("host", exact(255), nullable=False, unique=True),
    Column("created_at", Utc, nullable=False),
)

Table(
    "instance_mappings",
    metadata,
    Column("id", BIG, primary_key=True, autoincrement=True),
    Column("instance_uuid", ascii_id(), nullable=False, unique=True),
    Column("cell_id", Integer, ForeignKey("cell_mappings.id"), index=True),
    Column("epoch", Integer, nullable=False, server_default="0"),
    Column("project_id", exact(255), nullable=False),
    Column("user_id", exact(255), nullable=False),
    Column("created_at", Utc, nullable=False),
    Column("display_name", exact(255), nullable=False),
    Column("vcpus", Integer, nullable=False, server_default="0"),
    Column("memory_mb", Integer, nullable=False, server_default="0"),
    Column("queued_for_delete", Boolean, nullable=False, server_default=false()),
    Column("gone", Boolean, nullable=False, server_default=false()),
    Index("ix_instance_mappings_page", "project_id", "gone", "created_at", "id"),
    Index("ix_instance_mappings_all", "gone", "created_at", "id"),
    Index("ix_instance_mappings_doomed", "queued_for_delete", "gone"),
)

Table(
    "build_requests",
    metadata,
    Column("instance_uuid", ascii_id(), primary_key=True),
    Column("project_id", exact(255), nullable=False, index=True),
    Column("created_at", Utc, nullable=False),
    Column("request_id", exact(255), nullable=False),
    Column("instance", Json(Any), nullable=False),
    Column("build", Json(Any), nullable=False),
    Column("selection", Json(Any)),
    Column("delete_requested", Boolean, nullable=False, server_default=false()),
    Column("attempt", Integer, nullable=False, server_default="0"),
    Column("owner", exact(255)),
    Column("lease_until", Utc, index=True),
)

Table(
    "request_specs",
    metadata,
    Column("instance_uuid", ascii_id(), primary_key=True),
    Column("created_at", Utc, nullable=False),
    Column("spec", Json(Any), nullable=False),
)

Table(
    "flavors",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("flavorid", exact(255), nullable=False, unique=True),
    Column("name", exact(255), nullable=False, unique=True),
    Column("vcpus", Integer, nullable=False),
    Column("memory_mb", Integer, nullable=False),
    Column("root_gb", Integer, nullable=False),
    Column("ephemeral_gb", Integer, nullable=False),
    Column("swap", Integer, nullable=False),
    Column("rxtx_factor", Float, nullable=False),
    Column("disabled", Boolean, nullable=False, server_default=false()),
    Column("is_public", Boolean, nullable=False, server_default=true()),
    Column("description", Text),
    Column("extra_specs", Json(Any), nullable=False),
    Column("created_at", Utc, nullable=False),
    Column("updated_at", Utc),
)

Table(
    "flavor_projects",
    metadata,
    Column("flavor_id", Integer, ForeignKey("flavors.id", ondelete="CASCADE"), primary_key=True),
    Column("project_id", exact(255), primary_key=True),
)

Table(
    "key_pairs",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("user_id", exact(255), nullable=False),
    Column("name", exact(255), nullable=False),
    Column("type", ascii_id(16), nullable=False),
    Column("fingerprint", ascii_id(255), nullable=False),
    Column("public_key", Text, nullable=False),
    Column("created_at", Utc, nullable=False),
    UniqueConstraint("user_id", "name", name="uq_key_pairs_user_name"),
)

Table(
    "quotas",
    metadata,
    Column("project_id", exact(255), primary_key=True),
    Column("resource", ascii_id(64), primary_key=True),
    Column("hard_limit", Integer, nullable=False),
)

Table(
    "project_user_quotas",
    metadata,
    Column("project_id", exact(255), primary_key=True),
    Column("user_id", exact(255), primary_key=True),
    Column("resource", ascii_id(64), primary_key=True),
    Column("hard_limit", Integer, nullable=False),
)

Table(
    "quota_classes",
    metadata,
    Column("class_name", exact(255), primary_key=True),
    Column("resource", ascii_id(64), primary_key=True),
    Column("hard_limit", Integer, nullable=False),
)

Table(
    "quota_usages",
    metadata,
    Column("project_id", exact(255), primary_key=True),
    Column("user_id", exact(255), primary_key=True),
    Column("resource", ascii_id(64), primary_key=True),
    Column("in_use", Integer, nullable=False),
)
"""instances, cores and ram in use, counted in the transaction that accepts a create or a delete. The row with
user_id "" is the project's."""

Table(
    "aggregates",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("uuid", ascii_id(), nullable=False, unique=True),
    Column("name", exact(255), nullable=False, unique=True),
    Column("metadata", Json(Any), nullable=False),
    Column("created_at", Utc, nullable=False),
    Column("updated_at", Utc),
)

Table(
    "aggregate_hosts",
    metadata,
    Column("aggregate_id", Integer, ForeignKey("aggregates.id", ondelete="CASCADE"), primary_key=True),
    Column("host", exact(255), primary_key=True),
)

Table(
    "instance_groups",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("uuid", ascii_id(), nullable=False, unique=True),
    Column("project_id", exact(255), nullable=False, index=True),
    Column("user_id", exact(255), nullable=False),
    Column("name", exact(255), nullable=False),
    Column("policy", ascii_id(32), nullable=False),
    Column("rules", Json(Any), nullable=False),
    Column("created_at", Utc, nullable=False),
)

Table(
    "instance_group_members",
    metadata,
    Column("group_id", Integer, ForeignKey("instance_groups.id", ondelete="CASCADE"), primary_key=True),
    Column("instance_uuid", ascii_id(), primary_key=True),
    Column("host", exact(255)),
    Index("ix_instance_group_members_instance", "instance_uuid"),
)

Table(
    "resource_providers",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("uuid", ascii_id(), nullable=False, unique=True),
    Column("name", exact(200), nullable=False, unique=True),
    Column("generation", Integer, nullable=False, server_default="0"),
    Column("root_provider_id", Integer, index=True),
    Column("parent_provider_id", Integer, index=True),
    Column("created_at", Utc, nullable=False),
    Column("updated_at", Utc),
)

Table(
    "inventories",
    metadata,
    Column("resource_provider_id", Integer, ForeignKey("resource_providers.id"), primary_key=True),
    Column("resource_class", ascii_id(255), primary_key=True),
    Column("total", Integer, nullable=False),
    Column("reserved", Integer, nullable=False),
    Column("min_unit", Integer, nullable=False),
    Column("max_unit", Integer, nullable=False),
    Column("step_size", Integer, nullable=False),
    Column("allocation_ratio", Double, nullable=False),
    Column("used", BIG, nullable=False, server_default="0"),
    Column("capacity", BIG, nullable=False),
    CheckConstraint("used >= 0", name="ck_inventories_used"),
    Index("ix_inventories_class", "resource_class"),
)

Table(
    "resource_classes",
    metadata,
    Column("name", ascii_id(255), primary_key=True),
)

Table("traits", metadata, Column("name", ascii_id(255), primary_key=True))

Table(
    "resource_provider_traits",
    metadata,
    Column("resource_provider_id", Integer, ForeignKey("resource_providers.id"), primary_key=True),
    Column("trait", ascii_id(255), primary_key=True),
    Index("ix_resource_provider_traits_trait", "trait"),
)

Table(
    "resource_provider_aggregates",
    metadata,
    Column("resource_provider_id", Integer, ForeignKey("resource_providers.id"), primary_key=True),
    Column("aggregate_uuid", ascii_id(), primary_key=True),
    Index("ix_resource_provider_aggregates_aggregate", "aggregate_uuid"),
)

Table(
    "consumers",
    metadata,
    Column("uuid", ascii_id(), primary_key=True),
    Column("project_id", exact(255), nullable=False),
    Column("user_id", exact(255), nullable=False),
    Column("consumer_type", ascii_id(255)),
    Column("generation", Integer, nullable=False, server_default="0"),
    Column("created_at", Utc, nullable=False),
    Column("updated_at", Utc),
    Index("ix_consumers_project", "project_id", "user_id"),
)

Table(
    "allocations",
    metadata,
    Column("consumer_uuid", ascii_id(), ForeignKey("consumers.uuid"), primary_key=True),
    Column("resource_provider_id", Integer, primary_key=True),
    Column("resource_class", ascii_id(255), primary_key=True),
    Column("used", Integer, nullable=False),
    Index("ix_allocations_provider", "resource_provider_id"),
)

Table(
    "placement_changes",
    metadata,
    Column("id", BIG, primary_key=True, autoincrement=True),
    Column("resource_provider_id", Integer, nullable=False),
    Column("created_at", Utc, nullable=False, index=True),
)


def upgrade() -> None:
    create_missing(op.get_bind(), metadata)
    if not op.get_bind().scalar(select(func.count()).select_from(topology)):
        op.get_bind().execute(insert(topology).values(id=1, version=1))
