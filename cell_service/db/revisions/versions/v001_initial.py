"""The first schema of a cell."""

from __future__ import annotations

from typing import Any

from alembic import op
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    false,
)

from cell_service.db.sql.types import Json, Utc, ascii_id, exact
from cell_service.db.upgrades import create_missing

revision = "cell_001"
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

Table(
    "instances",
    metadata,
    Column("id", BIG, primary_key=True, autoincrement=True),
    Column("uuid", ascii_id(), nullable=False, unique=True),
    Column("created_at", Utc, nullable=False),
    Column("updated_at", Utc),
    Column("deleted_at", Utc),
    Column("project_id", exact(255), nullable=False),
    Column("user_id", exact(255), nullable=False),
    Column("display_name", exact(255), nullable=False),
    Column("display_description", exact(255)),
    Column("hostname", exact(255), nullable=False, server_default=""),
    Column("image_ref", exact(255), nullable=False, server_default=""),
    Column("kernel_id", exact(255), nullable=False, server_default=""),
    Column("ramdisk_id", exact(255), nullable=False, server_default=""),
    Column("key_name", exact(255)),
    Column("key_data", Text),
    Column("user_data", Text),
    Column("config_drive", Boolean, nullable=False, server_default=false()),
    Column("availability_zone", exact(255)),
    Column("pinned_availability_zone", exact(255)),
    Column("reservation_id", exact(255), nullable=False, server_default=""),
    Column("launch_index", Integer, nullable=False, server_default="0"),
    Column("host", exact(255)),
    Column("node", exact(255)),
    Column("launched_on", exact(255)),
    Column("vm_state", ascii_id(32), nullable=False),
    Column("task_state", ascii_id(48)),
    Column("power_state", SmallInteger, nullable=False, server_default="0"),
    Column("progress", Integer, nullable=False, server_default="0"),
    Column("launched_at", Utc),
    Column("terminated_at", Utc),
    Column("locked_by", ascii_id(16)),
    Column("locked_reason", exact(255)),
    Column("access_ip_v4", ascii_id(39)),
    Column("access_ip_v6", ascii_id(39)),
    Column("auto_disk_config", Boolean, nullable=False, server_default=false()),
    Column("root_device_name", exact(255)),
    Column("flavorid", exact(255), nullable=False),
    Column("vcpus", Integer, nullable=False),
    Column("memory_mb", Integer, nullable=False),
    Column("root_gb", Integer, nullable=False),
    Column("ephemeral_gb", Integer, nullable=False),
    Column("hidden", Boolean, nullable=False, server_default=false()),
    Column("flavor", Json(Any), nullable=False),
    Column("metadata", Json(Any), nullable=False),
    Column("system_metadata", Json(Any), nullable=False),
    Column("tags", Json(Any), nullable=False),
    Column("security_groups", Json(Any), nullable=False),
    Column("network_info", Json(Any), nullable=False),
    Column("trusted_image_certificates", Json(Any), nullable=False),
    Column("scheduler_hints", Json(Any), nullable=False),
    Column("fault", Json(Any)),
    Index("ix_instances_host", "host", "deleted_at"),
    Index("ix_instances_project", "project_id", "deleted_at", "created_at"),
    Index("ix_instances_created", "deleted_at", "created_at"),
    Index("ix_instances_updated", "updated_at"),
    Index("ix_instances_task", "task_state"),
)

Table(
    "tags",
    metadata,
    Column("resource_id", ascii_id(), primary_key=True),
    Column("tag", exact(80), primary_key=True),
    Index("ix_tags_tag", "tag"),
)

Table(
    "instance_actions",
    metadata,
    Column("id", BIG, primary_key=True, autoincrement=True),
    Column("instance_uuid", ascii_id(), nullable=False),
    Column("action", ascii_id(255), nullable=False),
    Column("request_id", exact(255), nullable=False),
    Column("user_id", exact(255), nullable=False),
    Column("project_id", exact(255), nullable=False),
    Column("start_time", Utc, nullable=False),
    Column("finish_time", Utc),
    Column("created_at", Utc, nullable=False),
    Column("updated_at", Utc),
    Column("message", exact(255)),
    UniqueConstraint("instance_uuid", "request_id", "action", name="uq_instance_actions_request"),
)

Table(
    "instance_actions_events",
    metadata,
    Column("id", BIG, primary_key=True, autoincrement=True),
    Column("action_id", BIG, ForeignKey("instance_actions.id"), nullable=False, index=True),
    Column("event", exact(255), nullable=False),
    Column("start_time", Utc, nullable=False),
    Column("finish_time", Utc),
    Column("result", ascii_id(255)),
    Column("traceback", Text),
    Column("host", exact(255)),
    Column("details", Text),
    UniqueConstraint("action_id", "event", "host", name="uq_instance_actions_events_event"),
)

Table(
    "operations",
    metadata,
    Column("id", BIG, primary_key=True, autoincrement=True),
    Column("instance_uuid", ascii_id(), nullable=False, index=True),
    Column("kind", ascii_id(32), nullable=False),
    Column("phase", ascii_id(16), nullable=False),
    Column("host", exact(255)),
    Column("request_id", exact(255), nullable=False),
    Column("user_id", exact(255), nullable=False),
    Column("project_id", exact(255), nullable=False),
    Column("created_at", Utc, nullable=False),
    Column("finished_at", Utc),
    Column("deadline", Utc, nullable=False),
    Column("build", Json(Any)),
    Column("arguments", Json(Any), nullable=False),
    Column("attempt", Integer, nullable=False, server_default="0"),
    Column("fence", Integer, nullable=False, server_default="0"),
    Column("owner", exact(255)),
    Column("lease_until", Utc),
    Index("ix_operations_work", "host", "phase", "id"),
    Index("ix_operations_phase", "phase", "lease_until"),
)

Table(
    "services",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("uuid", ascii_id(), nullable=False, unique=True),
    Column("host", exact(255), nullable=False),
    Column("binary", ascii_id(64), nullable=False),
    Column("topic", exact(255), nullable=False),
    Column("version", Integer, nullable=False, server_default="0"),
    Column("created_at", Utc, nullable=False),
    Column("updated_at", Utc),
    Column("last_seen_up", Utc),
    Column("report_count", BIG, nullable=False, server_default="0"),
    Column("disabled", Boolean, nullable=False, server_default=false()),
    Column("disabled_reason", exact(255)),
    Column("forced_down", Boolean, nullable=False, server_default=false()),
    UniqueConstraint("host", "binary", name="uq_services_host_binary"),
)

Table(
    "compute_nodes",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("uuid", ascii_id(), nullable=False, unique=True),
    Column("service_id", Integer, ForeignKey("services.id"), nullable=False, index=True),
    Column("host", exact(255), nullable=False),
    Column("hypervisor_hostname", exact(255), nullable=False),
    Column("created_at", Utc, nullable=False),
    Column("updated_at", Utc),
    Column("mapped", Boolean, nullable=False, server_default=false()),
    Column("report", Json(Any), nullable=False),
    UniqueConstraint("host", "hypervisor_hostname", name="uq_compute_nodes_host_node"),
)


def upgrade() -> None:
    create_missing(op.get_bind(), metadata)
