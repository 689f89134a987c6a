"""Compute hosts: one, or several of one cell in this process."""

from __future__ import annotations

from collections.abc import Sequence

from oslo_config import cfg

from cell_service.config import Defaults, read
from cell_service.metadata.config import read_settings
from cell_service.peers.barbican import open_certificates
from cell_service.peers.castellan_keys import open_keys
from cell_service.peers.cinder import open_volumes
from cell_service.peers.glance.images import open_images
from cell_service.peers.manila import open_shares
from cell_service.peers.neutron.ports import open_networks
from cell_service.peers.placement_http import open_placement
from cell_service.peers.settings import (
    BarbicanSettings,
    CinderSettings,
    GlanceSettings,
    KeyManagerSettings,
    ManilaSettings,
    NeutronSettings,
    PlacementSettings,
)
from cell_service.rpc.transports import open_transport
from compute_host.config import for_host, settings_from
from compute_host.dependencies import HostDependencies
from compute_host.fleet import Fleet
from compute_host.host_queue import HostQueues
from compute_host.operations.config_drive import ConfigDrives
from tools.services.part import Made, Part
from tools.services.shared import Shared


def make(conf: cfg.ConfigOpts, shared: Shared, hosts: Sequence[str]) -> Part:
    """The hosts of these names, or the files' own."""
    settings = settings_from(conf)
    several = [for_host(settings, name) for name in hosts]
    url = read(conf, Defaults).transport_url
    transport = open_transport(url)
    queues = HostQueues(url, transport, open_transport)
    drives = ConfigDrives(read_settings(conf))
    dependencies = HostDependencies(
        transport=transport,
        networks=open_networks(read(conf, NeutronSettings)),
        placement=open_placement(read(conf, PlacementSettings)),
        images=open_images(read(conf, GlanceSettings)),
        drive=drives,
        queues=queues,
        volumes=open_volumes(read(conf, CinderSettings)),
        shares=open_shares(read(conf, ManilaSettings)),
        certificates=open_certificates(read(conf, BarbicanSettings)),
        keys=open_keys(read(conf, BarbicanSettings), read(conf, KeyManagerSettings)),
    )
    fleet = Fleet(several or [settings], dependencies, clock=shared.clock)

    def end(grace_seconds: float) -> None:
        fleet.stop(grace_seconds)
        drives.close()
        queues.close()
        transport.close()

    return Made(fleet.start, end)
