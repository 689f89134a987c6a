"""The Placement API."""

from __future__ import annotations

from oslo_config import cfg

from api_cell.app import authenticator_for
from api_cell.config import read_settings
from api_cell.edge.server import ApiServer
from api_cell.placement.app import make_placement_app
from tools.services.configured import configured_cloud
from tools.services.part import Made, Part
from tools.services.shared import Listen, Shared


def make(conf: cfg.ConfigOpts, shared: Shared, listen: Listen) -> Part:
    settings, opened = read_settings(conf), shared.cloud(lambda: configured_cloud(conf, shared.clock))
    server = ApiServer(make_placement_app(opened.cloud, settings, authenticator_for(settings)))

    def begin() -> None:
        server.start(listen.port, listen.address, reuse_port=listen.reuse_port, settings=listen.connections)

    return Made(begin, shared.ending(server.drain))
