"""The global tables: what is true everywhere, and where each instance lives. Names are nova's and placement's."""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
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
    true,
)

from cell_service.db.schema import BIG
from cell_service.db.sealing import sealing_keys_table
from cell_service.db.sql.types import Json, Utc, ascii_id, exact
from cell_service.model.instance import Instance
from cell_service.model.move import MovePlan
from cell_service.model.operation import BuildArguments
from cell_service.model.request_spec import RequestSpec, Selection

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(column_0_label)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# -- where things are -------------------------------------------------------------------------

topology = Table(
    "topology",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("version", BIG, nullable=False),
)
"""One row (id 1). `version` grows with every change of cell_mappings, in the same transaction."""

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("digest", ascii_id(64), primary_key=True),
    Column("fingerprint", ascii_id(64), nullable=False),
    Column("status", Integer),
    Column("answer", Text),
    Column("created_at", Utc, nullable=False),
    Column("expires_at", Utc, nullable=False, index=True),
)
"""`digest` is of project, user and key; `answer` is encrypted under them."""

recorded_actions = Table(
    "recorded_actions",
    metadata,
    Column("id", BIG, primary_key=True, autoincrement=True),
    Column("instance_uuid", ascii_id(), nullable=False, index=True),
    Column("action", ascii_id(32), nullable=False),
    Column("arguments", Json(Any), nullable=False),
    Column("request_id", exact(255), nullable=False),
    Column("user_id", exact(255), nullable=False),
    Column("project_id", exact(255), nullable=False),
    Column("is_admin", Boolean, nullable=False),
    Column("created_at", Utc, nullable=False),
)
"""Actions on servers of a cell that did not answer, in the order in which they were accepted."""

cell_mappings = Table(
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
    Column("weight", Integer, nullable=False, server_default="100"),
    Column("reserved", Boolean, nullable=False, server_default=false()),
)
"""`weight`: the cell's share of new servers, 0 (none: it is drained) to 100. `reserved`: only the projects of
`cell_projects` get servers there."""

cell_projects = Table(
    "cell_projects",
    metadata,
    Column("cell_id", Integer, ForeignKey("cell_mappings.id", ondelete="CASCADE"), primary_key=True),
    Column("project_id", exact(255), primary_key=True),
)
"""The projects that a reserved cell is kept for."""

project_cells = Table(
    "project_cells",
    metadata,
    Column("project_id", exact(255), primary_key=True),
    Column("cell_id", Integer, ForeignKey("cell_mappings.id", ondelete="CASCADE"), primary_key=True),
)
"""The cells that a pinned project is confined to; a project without rows is not pinned."""

host_mappings = Table(
    "host_mappings",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("cell_id", Integer, ForeignKey("cell_mappings.id"), nullable=False, index=True),
    Column("host", exact(255), nullable=False, unique=True),
    Column("created_at", Utc, nullable=False),
)

instance_mappings = Table(
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
    Index("ix_instance_mappings_cells", "project_id", "cell_id"),
)
"""Which cell owns each instance. `id` is the creation sequence; `epoch` grows with each change of `cell_id`;
`queued_for_delete`: a delete was accepted (and its quota released); `gone`: the instance is deleted."""

# -- accepted, in no cell yet -----------------------------------------------------------------

build_requests = Table(
    "build_requests",
    metadata,
    Column("instance_uuid", ascii_id(), primary_key=True),
    Column("project_id", exact(255), nullable=False, index=True),
    Column("created_at", Utc, nullable=False),
    Column("request_id", exact(255), nullable=False),
    Column("instance", Json(Instance), nullable=False),
    Column("build", Json(BuildArguments), nullable=False),
    Column("selection", Json(Selection)),
    Column("delete_requested", Boolean, nullable=False, server_default=false()),
    Column("attempt", Integer, nullable=False, server_default="0"),
    Column("owner", exact(255)),
    Column("lease_until", Utc, index=True),
    Column("sealed", Text),
    Column("revision", Integer, nullable=False, server_default="0"),
)
"""The transaction that deletes the row settles the race of build and delete, or of build and change: `revision` counts
the changes of `instance`. `sealed` is the guest's password."""

request_specs = Table(
    "request_specs",
    metadata,
    Column("instance_uuid", ascii_id(), primary_key=True),
    Column("created_at", Utc, nullable=False),
    Column("spec", Json(RequestSpec), nullable=False),
)

placement_notes = Table(
    "placement_notes",
    metadata,
    Column("instance_uuid", ascii_id(), primary_key=True),
    Column("created_at", Utc, nullable=False, index=True),
    Column("note", Text, nullable=False),
)
"""Why the scheduler chose each instance's host, as of the last choice."""

# -- on the way from one host to another --------------------------------------------------------

moves = Table(
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
    Column("plan", Json(MovePlan), nullable=False),
    Column("attempt", Integer, nullable=False, server_default="0"),
    Column("fence", Integer, nullable=False, server_default="0"),
    Column("owner", exact(255)),
    Column("lease_until", Utc),
    Column("not_before", Utc),
    Column("sealed", Text),
    Index("ix_moves_work", "finished_at", "lease_until"),
    Index("ix_moves_source", "source_host", "finished_at"),
)
"""Moves of instances, run by super-conductors. `active` is the instance's uuid while no other move of it may begin,
else NULL. The row's fence decides which super-conductor may write. `sealed` is the password that the guest is to
get, and is NULL when its host has it."""

host_moves = Table(
    "host_moves",
    metadata,
    Column("host", exact(255), primary_key=True),
    Column("source_cell", Integer, nullable=False),
    Column("target_cell", Integer, nullable=False),
    Column("step", ascii_id(32), nullable=False),
    Column("started_at", Utc, nullable=False),
    Column("updated_at", Utc),
)
"""Hosts that are being moved to another cell, with the last step that is done."""

progress_marks = Table(
    "progress_marks",
    metadata,
    Column("name", exact(255), primary_key=True),
    Column("position", Text, nullable=False),
    Column("updated_at", Utc, nullable=False),
)
"""Where a long command stopped, by the command's name with what it works on."""

# -- what users and administrators define ------------------------------------------------------

flavors = Table(
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
    Column("extra_specs", Json(dict[str, str]), nullable=False),
    Column("created_at", Utc, nullable=False),
    Column("updated_at", Utc),
)

flavor_projects = Table(
    "flavor_projects",
    metadata,
    Column("flavor_id", Integer, ForeignKey("flavors.id", ondelete="CASCADE"), primary_key=True),
    Column("project_id", exact(255), primary_key=True),
)

key_pairs = Table(
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

quotas = Table(
    "quotas",
    metadata,
    Column("project_id", exact(255), primary_key=True),
    Column("resource", ascii_id(64), primary_key=True),
    Column("hard_limit", Integer, nullable=False),
)

project_user_quotas = Table(
    "project_user_quotas",
    metadata,
    Column("project_id", exact(255), primary_key=True),
    Column("user_id", exact(255), primary_key=True),
    Column("resource", ascii_id(64), primary_key=True),
    Column("hard_limit", Integer, nullable=False),
)

quota_classes = Table(
    "quota_classes",
    metadata,
    Column("class_name", exact(255), primary_key=True),
    Column("resource", ascii_id(64), primary_key=True),
    Column("hard_limit", Integer, nullable=False),
)

quota_usages = Table(
    "quota_usages",
    metadata,
    Column("project_id", exact(255), primary_key=True),
    Column("user_id", exact(255), primary_key=True),
    Column("resource", ascii_id(64), primary_key=True),
    Column("in_use", Integer, nullable=False),
)
"""instances, cores and ram in use, counted in the transaction that accepts a create or a delete. The row with
user_id "" is the project's."""

aggregates = Table(
    "aggregates",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("uuid", ascii_id(), nullable=False, unique=True),
    Column("name", exact(255), nullable=False, unique=True),
    Column("metadata", Json(dict[str, str]), nullable=False),
    Column("created_at", Utc, nullable=False),
    Column("updated_at", Utc),
)

aggregate_hosts = Table(
    "aggregate_hosts",
    metadata,
    Column("aggregate_id", Integer, ForeignKey("aggregates.id", ondelete="CASCADE"), primary_key=True),
    Column("host", exact(255), primary_key=True),
)

instance_groups = Table(
    "instance_groups",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("uuid", ascii_id(), nullable=False, unique=True),
    Column("project_id", exact(255), nullable=False, index=True),
    Column("user_id", exact(255), nullable=False),
    Column("name", exact(255), nullable=False),
    Column("policy", ascii_id(32), nullable=False),
    Column("rules", Json(dict[str, Any]), nullable=False),
    Column("created_at", Utc, nullable=False),
)

instance_group_members = Table(
    "instance_group_members",
    metadata,
    Column("group_id", Integer, ForeignKey("instance_groups.id", ondelete="CASCADE"), primary_key=True),
    Column("instance_uuid", ascii_id(), primary_key=True),
    Column("host", exact(255)),
    Index("ix_instance_group_members_instance", "instance_uuid"),
)
"""`host` is set in the transaction that claims it, under a lock on the group's row: so races can't break policies."""

# -- placement --------------------------------------------------------------------------------

resource_providers = Table(
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

inventories = Table(
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
"""`capacity` is floor((total - reserved) * allocation_ratio). A claim is UPDATE … SET used = used + n WHERE
used + n <= capacity, so races can't over-commit."""

resource_classes = Table(
    "resource_classes",
    metadata,
    Column("name", ascii_id(255), primary_key=True),
)
"""Custom classes only; the standard ones are those of os-resource-classes."""

traits = Table("traits", metadata, Column("name", ascii_id(255), primary_key=True))
"""Custom traits only; the standard ones are those of os-traits."""

resource_provider_traits = Table(
    "resource_provider_traits",
    metadata,
    Column("resource_provider_id", Integer, ForeignKey("resource_providers.id"), primary_key=True),
    Column("trait", ascii_id(255), primary_key=True),
    Index("ix_resource_provider_traits_trait", "trait"),
)

resource_provider_aggregates = Table(
    "resource_provider_aggregates",
    metadata,
    Column("resource_provider_id", Integer, ForeignKey("resource_providers.id"), primary_key=True),
    Column("aggregate_uuid", ascii_id(), primary_key=True),
    Index("ix_resource_provider_aggregates_aggregate", "aggregate_uuid"),
)

consumers = Table(
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

allocations = Table(
    "allocations",
    metadata,
    Column("consumer_uuid", ascii_id(), ForeignKey("consumers.uuid"), primary_key=True),
    Column("resource_provider_id", Integer, primary_key=True),
    Column("resource_class", ascii_id(255), primary_key=True),
    Column("used", Integer, nullable=False),
    Index("ix_allocations_provider", "resource_provider_id"),
)
"""No foreign key to the provider: `inventories.used` guards it, and a claim need not lock the provider's row."""

placement_changes = Table(
    "placement_changes",
    metadata,
    Column("id", BIG, primary_key=True, autoincrement=True),
    Column("resource_provider_id", Integer, nullable=False),
    Column("created_at", Utc, nullable=False, index=True),
)
"""A row for each change of a provider (inventory, traits, aggregates, use), written with it; provider 0 means
the host aggregates. Schedulers follow it by id; old rows are purged, but never the newest."""

sealing_keys = sealing_keys_table(metadata)
"""One row (id 1): the key that seals the secrets of this database, wrapped by the operator's keys."""
