"""The tables of one cell. cell0 has the same ones. Names are nova's where nova has the thing.

What a server's document needs is in one `instances` row (JSON columns for what is never searched), so that showing
a server is one read by key.
"""

from __future__ import annotations

from typing import Any

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

from cell_service.db.sealing import sealing_keys_table
from cell_service.db.sql.types import Json, Utc, ascii_id, exact
from cell_service.model.block_device import BlockDevice
from cell_service.model.host import NodeReport
from cell_service.model.instance import Fault, Flavor, Vif
from cell_service.model.operation import BuildArguments
from cell_service.model.share import ShareMapping

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(column_0_label)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

BIG = BigInteger().with_variant(Integer, "sqlite")

instances = Table(
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
    Column("flavor", Json(Flavor, shared=True), nullable=False),
    Column("metadata", Json(dict[str, str], shared=True), nullable=False),
    Column("system_metadata", Json(dict[str, str], shared=True), nullable=False),
    Column("tags", Json(tuple[str, ...], shared=True), nullable=False),
    Column("security_groups", Json(tuple[str, ...], shared=True), nullable=False),
    Column("network_info", Json(tuple[Vif, ...]), nullable=False),
    Column("block_devices", Json(tuple[BlockDevice, ...])),
    Column("shares", Json(tuple[ShareMapping, ...])),
    Column("trusted_image_certificates", Json(tuple[str, ...], shared=True), nullable=False),
    Column("scheduler_hints", Json(dict[str, Any], shared=True), nullable=False),
    Column("fault", Json(Fault)),
    Index("ix_instances_host", "host", "deleted_at"),
    Index("ix_instances_project", "project_id", "deleted_at", "created_at"),
    Index("ix_instances_created", "deleted_at", "created_at"),
    Index("ix_instances_updated", "updated_at"),
    Index("ix_instances_names", "project_id", "deleted_at", "display_name", "created_at", "uuid"),
    Index("ix_instances_all_names", "deleted_at", "display_name", "created_at", "uuid"),
    Index("ix_instances_changes", "project_id", "deleted_at", "updated_at", "created_at", "uuid"),
    Index("ix_instances_task", "task_state"),
)

tags = Table(
    "tags",
    metadata,
    Column("resource_id", ascii_id(), primary_key=True),
    Column("tag", exact(80), primary_key=True),
    Index("ix_tags_tag", "tag"),
)
"""The tags of instances once more, one a row, for the list filters."""

instance_actions = Table(
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

instance_actions_events = Table(
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

operations = Table(
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
    Column("build", Json(BuildArguments)),
    Column("arguments", Json(dict[str, Any]), nullable=False),
    Column("attempt", Integer, nullable=False, server_default="0"),
    Column("fence", Integer, nullable=False, server_default="0"),
    Column("owner", exact(255)),
    Column("lease_until", Utc),
    Column("sealed", Text),
    Index("ix_operations_work", "host", "phase", "id"),
    Index("ix_operations_phase", "phase", "lease_until"),
)
"""The work that the cell has accepted. `finished_at` is set with phase done, failed or superseded. `sealed` has the
secrets of an unfinished operation (see cell_service.db.sealing), and is NULL when it ends."""

sealing_keys = sealing_keys_table(metadata)
"""One row (id 1): the key that seals the secrets of this database, wrapped by the operator's keys."""

migrations = Table(
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
"""Moves as the Compute API shows them. `id` and `uuid` are the global move's, so they are the same in both cells of a
move between two; the row of the cell that does not own the instance (any more) is hidden."""

services = Table(
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
    Column("leaving", Boolean, nullable=False, server_default=false()),
    Column("watched_at", Utc),
    UniqueConstraint("host", "binary", name="uq_services_host_binary"),
)
"""`leaving`: the host is on its way to another cell, and may claim no operations here. `watched_at`: when this
conductor last watched the hosts, after it had reached queue and database for as long as a heartbeat may be late."""

compute_nodes = Table(
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
    Column("report", Json(NodeReport), nullable=False),
    UniqueConstraint("host", "hypervisor_hostname", name="uq_compute_nodes_host_node"),
)

console_auth_tokens = Table(
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
"""A client with the token may open that console of the instance until it expires. Expired rows are removed."""

cell_identity = Table(
    "cell_identity",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("cell_uuid", ascii_id(), nullable=False),
    Column("claimed_at", Utc, nullable=False),
)
"""One row (id 1): the cell that the database belongs to, so that no two cells use it by mistake."""

global_updates = Table(
    "global_updates",
    metadata,
    Column("id", BIG, primary_key=True, autoincrement=True),
    Column("instance_uuid", ascii_id(), nullable=False, index=True),
    Column("kind", ascii_id(16), nullable=False),
    Column("facts", Json(Any), nullable=False),
    Column("created_at", Utc, nullable=False),
)
"""Changes of the cell's instances that the global tables do not have yet."""


def _shadow(table: Table, *more: Column[Any], by: str) -> Table:
    """The table of archived rows: the same columns without constraints; with an index on the column `by`."""
    return Table(
        f"shadow_{table.name}",
        metadata,
        Column("shadow_id", BIG, primary_key=True, autoincrement=True),
        *(Column(column.name, column.type) for column in table.columns),
        *more,
        Index(f"ix_shadow_{table.name}_{by}", by),
    )


shadow_instances = _shadow(instances, by="deleted_at")
shadow_instance_actions = _shadow(instance_actions, by="instance_uuid")
shadow_instance_actions_events = _shadow(
    instance_actions_events, Column("instance_uuid", ascii_id()), by="instance_uuid"
)
shadow_migrations = _shadow(migrations, by="instance_uuid")
