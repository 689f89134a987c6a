"""The Compute API."""

from __future__ import annotations

from oslo_config import cfg

from api_cell.app import ApiServer, Services, authenticator_for, make_compute_app
from api_cell.config import read_settings
from api_cell.contract import SuperConductor
from cell_service.config import read
from cell_service.peers.cinder import open_volumes
from cell_service.peers.glance.images import open_images
from cell_service.peers.limits import UnifiedLimits
from cell_service.peers.manila import open_shares
from cell_service.peers.neutron.ports import open_networks
from cell_service.peers.settings import CinderSettings, GlanceSettings, LimitSettings, ManilaSettings, NeutronSettings
from cell_service.rpc.contract import client
from tools.services.configured import configured_cloud
from tools.services.part import Made, Part
from tools.services.shared import Listen, Shared


def make(conf: cfg.ConfigOpts, shared: Shared, listen: Listen) -> Part:
    settings, opened = read_settings(conf), shared.cloud(lambda: configured_cloud(conf, shared.clock))
    services = Services(
        settings,
        client(SuperConductor, opened.superconductors),
        open_images(read(conf, GlanceSettings)),
        open_networks(read(conf, NeutronSettings)),
        open_volumes(read(conf, CinderSettings)),
        open_shares(read(conf, ManilaSettings)),
        UnifiedLimits(read(conf, LimitSettings), shared.clock),
    )
    edge = make_compute_app(opened.cloud, services, settings, authenticator_for(settings))
    server = ApiServer(edge)

    def begin() -> None:
        server.start(listen.port, listen.address, reuse_port=listen.reuse_port, settings=listen.connections)
        edge.get_ready()

    return Made(begin, shared.ending(server.drain))
