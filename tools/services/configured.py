"""The cloud that configuration files describe."""

from __future__ import annotations

from functools import partial

from oslo_config import cfg

from api_cell.config import ApiDatabase
from cell_service.config import CellsSection, DatabaseSettings, Defaults, SecretSettings, read
from cell_service.context import Clock
from cell_service.db.sql.engine import Database, PoolLimits
from cell_service.errors import Invalid
from cell_service.rpc.transports import open_transport
from mapping_db.cells.registry import CellSettings
from mapping_db.global_database import GlobalDatabase
from mapping_db.locating.shared_cache import CacheSettings, open_shared
from tools.services.open_cloud import OpenCloud, open_cloud

GLOBAL_READ_SECONDS = 10.0


def has_cloud(conf: cfg.ConfigOpts) -> bool:
    """Whether the files name a global database."""
    return bool(read(conf, ApiDatabase).connection)


def configured_cloud(conf: cfg.ConfigOpts, clock: Clock) -> OpenCloud:
    """Open the cloud. Raises Invalid where the files name no global database."""
    settings, own = read(conf, ApiDatabase), read(conf, Defaults)
    if not settings.connection:
        raise Invalid(reason="[api_database] connection is not set")
    limits = PoolLimits(
        size=settings.max_pool_size, overflow=settings.max_overflow,
        wait_seconds=settings.pool_timeout, read_seconds=GLOBAL_READ_SECONDS,
    )  # fmt: skip
    keys, patience = read(conf, SecretSettings).keys, read(conf, CellsSection).server_patience
    return open_cloud(
        GlobalDatabase(settings.connection, limits, clock, keys, patience), own.transport_url, clock,
        open_transport=open_transport,
        settings=CellSettings(read(conf, DatabaseSettings).connection, own.transport_url, patience=patience),
        open_database=partial(Database, secret_keys=keys),
        shared_cache=open_shared(read(conf, CacheSettings), clock),
    )  # fmt: skip
