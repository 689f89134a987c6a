"""The companion services: identity, image, network, volume, share and key manager."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from oslo_config import cfg

from api_cell.app import authenticator_for
from api_cell.config import read_settings
from cell_service.config import Defaults, SecretSettings, option, read
from cell_service.context import Clock, Context, Deadline, new_request_id
from cell_service.errors import PeerUnavailable
from cell_service.logs import about
from cell_service.peers.castellan_keys import open_keys
from cell_service.peers.glance.images import open_images
from cell_service.peers.session import Peer
from cell_service.peers.settings import BarbicanSettings, GlanceSettings, KeyManagerSettings, NovaSettings
from tools.companions.app import Companion
from tools.companions.identity.service import make_identity
from tools.companions.image.service import make_image
from tools.companions.keys.service import make_keys
from tools.companions.network.service import make_network
from tools.companions.network.wiring.settings import WiringSettings
from tools.companions.share.service import make_share
from tools.companions.volume.service import make_volume
from tools.companions.volume.settings import VolumeSettings
from tools.services.part import Made, Part
from tools.services.shared import Listen, Shared

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class CompanionSection:
    """[companions]: where the companion services keep their data."""

    GROUP: ClassVar[str] = "companions"
    data_path: str = option(
        cfg.StrOpt("data_path", default="$state_path/companions", help="Directory for what companions store.")
    )


def make(conf: cfg.ConfigOpts, shared: Shared, listen: Listen, role: str) -> Part:
    data = Path(_in_state(conf, read(conf, CompanionSection).data_path))
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    companion = _companion(conf, shared.clock, role, data)
    return Made(lambda: companion.start(listen.port, listen.address, settings=listen.connections), companion.drain)


def _companion(conf: cfg.ConfigOpts, clock: Clock, role: str, data: Path) -> Companion:
    if role == "identity":
        return make_identity(data, clock=clock)
    authenticator = authenticator_for(read_settings(conf))
    match role:
        case "image":
            return make_image(data, authenticator)
        case "network":
            settings = read(conf, WiringSettings)
            wiring = replace(settings, hypervisors=_in_state(conf, settings.hypervisors))
            return make_network(data, authenticator, wiring_settings=wiring, notify=_network_events(conf, clock))
        case "volume":
            images = open_images(read(conf, GlanceSettings))
            options = read(conf, VolumeSettings)
            keys = open_keys(read(conf, BarbicanSettings), read(conf, KeyManagerSettings))
            return make_volume(data, authenticator, images, _volume_event(conf, clock), options, keys=keys)
        case "key-manager":
            return make_keys(data, authenticator, read(conf, SecretSettings).keys)
        case _:
            return make_share(data, authenticator)


def _in_state(conf: cfg.ConfigOpts, path: str) -> str:
    return path.replace("$state_path", read(conf, Defaults).state_path)


def _volume_event(conf: cfg.ConfigOpts, clock: Clock) -> Callable[[str, str, str], None]:
    """Notifies compute what has become of a server's volume."""
    external = _external_events(conf, clock, "2.93")

    def notify(name: str, server_id: str, volume_id: str) -> None:
        try:
            external([{"name": name, "server_uuid": server_id, "tag": volume_id}])
        except PeerUnavailable as error:
            log.warning(
                "compute not notified of a volume", extra=about(None, volume=volume_id, event=name, reason=error)
            )

    return notify


def _network_events(conf: cfg.ConfigOpts, clock: Clock) -> Callable[[list[dict[str, str]]], None] | None:
    """Notifies compute what changed of servers' ports; None where the files name no account for that."""
    return _external_events(conf, clock, "2.1") if read(conf, NovaSettings).endpoint_override else None


def _external_events(conf: cfg.ConfigOpts, clock: Clock, version: str) -> Callable[[list[dict[str, str]]], None]:
    """Passes events on to compute (os-server-external-events). Raises PeerUnavailable."""
    peer = Peer("compute", read(conf, NovaSettings), "/v2.1", {"OpenStack-API-Version": f"compute {version}"})

    def notify(events: list[dict[str, str]]) -> None:
        ctx = Context(new_request_id(), deadline=Deadline.after(10, clock))
        peer.ask(ctx, "POST", "/os-server-external-events", body={"events": events})

    return notify
