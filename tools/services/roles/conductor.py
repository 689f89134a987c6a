"""A conductor: in a cell, without the global side."""

from __future__ import annotations

from dataclasses import replace

from oslo_config import cfg

from cell_service.conductor.config import settings_from
from cell_service.conductor.service import ConductorService
from cell_service.config import DatabaseSettings, Defaults, SecretSettings, read
from cell_service.db.sql.engine import Database, PoolLimits
from cell_service.errors import Invalid
from cell_service.peers.cinder import open_volumes
from cell_service.peers.glance.images import open_images
from cell_service.peers.neutron.ports import open_networks
from cell_service.peers.placement_http import open_placement
from cell_service.peers.settings import CinderSettings, GlanceSettings, NeutronSettings, PlacementSettings
from cell_service.rpc.transports import open_transport
from tools.services.part import Made, Part
from tools.services.shared import Shared


def make(conf: cfg.ConfigOpts, shared: Shared, host: str) -> Part:
    """`host` in place of the files'."""
    settings, database = settings_from(conf), read(conf, DatabaseSettings)
    if not database.connection:
        raise Invalid(reason="[database] connection is not set")
    limits = PoolLimits(size=database.max_pool_size, overflow=database.max_overflow, read_seconds=30.0)
    db = Database(database.connection, limits, read(conf, SecretSettings).keys)
    transport = open_transport(read(conf, Defaults).transport_url)
    networks, placement = open_networks(read(conf, NeutronSettings)), open_placement(read(conf, PlacementSettings))
    service = ConductorService(
        db, transport, networks, placement, replace(settings, host=host) if host else settings, shared.clock,
        images=open_images(read(conf, GlanceSettings)), volumes=open_volumes(read(conf, CinderSettings)),
    )  # fmt: skip

    def end(grace_seconds: float) -> None:
        service.stop()
        transport.close()
        db.dispose()

    return Made(service.start, end)
