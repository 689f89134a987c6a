"""The metadata service: of the whole cloud where there is a global database (unless configured otherwise), else of a
cell."""

from __future__ import annotations

from collections.abc import Callable

from oslo_config import cfg

from api_cell.metadata.instances import CloudInstances
from cell_service.config import DatabaseSettings, read
from cell_service.db.sql.engine import Database, PoolLimits
from cell_service.errors import Invalid
from cell_service.metadata.config import read_settings
from cell_service.metadata.instances import CellInstances, Instances
from cell_service.metadata.server import MetadataServer
from cell_service.metadata.service import MetadataService
from cell_service.peers.neutron.ports import open_networks
from cell_service.peers.settings import NeutronSettings
from tools.services.configured import configured_cloud, has_cloud
from tools.services.part import Made, Part
from tools.services.shared import Listen, Shared


def make(conf: cfg.ConfigOpts, shared: Shared, listen: Listen) -> Part:
    settings, database = read_settings(conf), read(conf, DatabaseSettings)
    release: Callable[[], None]
    instances: Instances
    if has_cloud(conf) and not settings.api.local_metadata_per_cell:
        cloud = shared.cloud(lambda: configured_cloud(conf, shared.clock)).cloud
        instances, release = CloudInstances(cloud), shared.release
    elif database.connection:
        limits = PoolLimits(size=database.max_pool_size, overflow=database.max_overflow, read_seconds=10.0)
        db = Database(database.connection, limits)
        instances, release = CellInstances(db, shared.clock), db.dispose
    else:
        raise Invalid(reason="[api_database] or [database] connection is not set")
    networks = open_networks(read(conf, NeutronSettings))
    server = MetadataServer(MetadataService(instances, networks, settings, shared.clock))
    defaults = settings.defaults
    at = (listen.port or defaults.metadata_listen_port, listen.address or defaults.metadata_listen)

    def end(grace_seconds: float) -> None:
        server.drain(grace_seconds)
        release()

    return Made(lambda: server.start(*at, reuse_port=listen.reuse_port, settings=listen.connections), end)
