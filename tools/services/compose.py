"""From configuration files to parts. Imports are made where a role needs them, so that each process stays small."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from oslo_config import cfg

from cell_service.config import DatabaseSettings, Defaults, SecretSettings, load, option, read
from cell_service.context import SYSTEM_CLOCK
from cell_service.errors import Invalid, PeerUnavailable
from cell_service.logs import about
from cell_service.peers.settings import (
    CinderSettings,
    GlanceSettings,
    LimitSettings,
    ManilaSettings,
    NeutronSettings,
    PlacementSettings,
)
from tools.services.part import Made, Part

if TYPE_CHECKING:
    from api_cell.edge.auth import Authenticator
    from mapping_db.cells.bus import CellBus
    from mapping_db.cloud import Cloud
    from tools.companions.app import Companion
    from tools.companions.network.wiring.settings import WiringSettings

log = logging.getLogger(__name__)

API_PORTS = {"api": 8774, "placement": 8778, "identity": 5000, "image": 9292, "network": 9696, "volume": 8776,
             "share": 8786}  # fmt: skip
ROLES = (*API_PORTS, "metadata", "super-conductor", "conductor", "compute", "console", "queue")
CONSOLE_PORT = 6080
GLOBAL_READ_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class CompanionSection:
    """[companions]: where the companion services keep their data."""

    GROUP: ClassVar[str] = "companions"
    data_path: str = option(cfg.StrOpt("data_path", default="$state_path/companions"))


@dataclass(slots=True)
class Composer:
    """Builds the parts that the same files describe; parts of one process share its connections to the cloud."""

    files: Sequence[str]
    _cloud: Cloud | None = None
    _asking: CellBus | None = None
    """The way to super-conductors, for those who ask them; behind a breaker, as each cell's queue is."""
    _users: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def part(self, role: str, *, host: str = "", port: int = 0, address: str = "", reuse_port: bool = False) -> Part:
        """The service of that role. `host` in place of the files'; `port` and `address` where it listens.

        Raises Invalid for what the files lack or get wrong.
        """
        conf = load(self.files)
        listen = (port or API_PORTS.get(role, 0), address or "127.0.0.1", reuse_port)
        match role:
            case "api":
                return self._api(conf, *listen)
            case "placement":
                return self._placement(conf, *listen)
            case "metadata":
                return self._metadata(conf, port, address, reuse_port)
            case "identity" | "image" | "network" | "volume" | "share":
                return self._companion(conf, role, *listen)
            case "super-conductor":
                return self._super_conductor(conf)
            case "conductor":
                return self._conductor(conf, host)
            case "compute":
                return self._compute(conf, [host] if host else [])
            case "console":
                return self._console(conf, port, address, reuse_port)
            case "queue":
                return self._queue(conf)
        raise Invalid(reason=f"There is no role {role!r}; there are {', '.join(ROLES)}.")

    def fleet(self, hosts: Sequence[str]) -> Part:
        """Several compute hosts of one cell in this process."""
        return self._compute(load(self.files), list(hosts))

    # -- the global side --------------------------------------------------------------------------

    def _shared_cloud(self, conf: cfg.ConfigOpts) -> Cloud:
        from api_cell.config import ApiDatabase
        from cell_service.db.sql.engine import Database, PoolLimits
        from cell_service.rpc.transports import open_transport
        from mapping_db.cells.bus import CellBus
        from mapping_db.cells.registry import Cells, CellSettings
        from mapping_db.cloud import Cloud
        from mapping_db.global_database import GlobalDatabase
        from mapping_db.locating.locator import Locator
        from mapping_db.locating.shared_cache import CacheSettings, open_shared

        with self._lock:
            self._users += 1
            if self._cloud is None:
                settings, own = read(conf, ApiDatabase), read(conf, Defaults)
                if not settings.connection:
                    raise Invalid(reason="[api_database] connection is not set")
                limits = PoolLimits(
                    size=settings.max_pool_size, overflow=settings.max_overflow,
                    wait_seconds=settings.pool_timeout, read_seconds=GLOBAL_READ_SECONDS,
                )  # fmt: skip
                keys = read(conf, SecretSettings).keys
                db = GlobalDatabase(settings.connection, limits, secret_keys=keys)
                cell_urls = CellSettings(
                    database_connection=read(conf, DatabaseSettings).connection, transport_url=own.transport_url
                )
                self._asking = CellBus(
                    "the global one", own.transport_url, SYSTEM_CLOCK,
                    places=cell_urls.calls, waiting=cell_urls.waiting, open_transport=open_transport,
                )  # fmt: skip
                watched = [db.guard, self._asking.guard]
                cells = Cells(
                    db, open_transport, SYSTEM_CLOCK, cell_urls, partial(Database, secret_keys=keys), watched=watched
                )
                cells.start()
                locator = Locator(db, open_shared(read(conf, CacheSettings)))
                self._cloud = Cloud(db, open_transport(own.transport_url), cells, locator, SYSTEM_CLOCK)
            return self._cloud

    def _release_cloud(self) -> None:
        with self._lock:
            self._users -= 1
            if self._users == 0 and self._cloud is not None:
                self._cloud.cells.close()
                self._cloud.bus.close()
                if self._asking is not None:
                    self._asking.close()
                self._cloud.db.dispose()
                self._cloud = None

    def _authenticator(self, conf: cfg.ConfigOpts) -> Authenticator:
        from api_cell.app import authenticator_for
        from api_cell.config import read_settings

        return authenticator_for(read_settings(conf))

    def _api(self, conf: cfg.ConfigOpts, port: int, address: str, reuse_port: bool) -> Part:
        from api_cell.app import ApiServer, Services, make_compute_app
        from api_cell.config import read_settings
        from api_cell.contract import SuperConductor
        from cell_service.peers.cinder import open_volumes
        from cell_service.peers.glance.images import open_images
        from cell_service.peers.limits import UnifiedLimits
        from cell_service.peers.manila import open_shares
        from cell_service.peers.neutron.ports import open_networks
        from cell_service.rpc.contract import client

        settings, cloud = read_settings(conf), self._shared_cloud(conf)
        assert self._asking is not None
        services = Services(
            settings,
            client(SuperConductor, self._asking),
            open_images(read(conf, GlanceSettings)),
            open_networks(read(conf, NeutronSettings)),
            open_volumes(read(conf, CinderSettings)),
            open_shares(read(conf, ManilaSettings)),
            UnifiedLimits(read(conf, LimitSettings), SYSTEM_CLOCK),
        )
        edge = make_compute_app(cloud, services, settings, self._authenticator(conf))
        server = ApiServer(edge)

        def begin() -> None:
            server.start(port, address, reuse_port=reuse_port)
            edge.get_ready()

        def end(grace_seconds: float) -> None:
            server.drain(grace_seconds)
            self._release_cloud()

        return Made(begin, end)

    def _placement(self, conf: cfg.ConfigOpts, port: int, address: str, reuse_port: bool) -> Part:
        from api_cell.config import read_settings
        from api_cell.edge.server import ApiServer
        from api_cell.placement.app import make_placement_app

        app = make_placement_app(self._shared_cloud(conf), read_settings(conf), self._authenticator(conf))
        server = ApiServer(app)

        def end(grace_seconds: float) -> None:
            server.drain(grace_seconds)
            self._release_cloud()

        return Made(lambda: server.start(port, address, reuse_port=reuse_port), end)

    def _super_conductor(self, conf: cfg.ConfigOpts) -> Part:
        from api_cell.config import Zones
        from api_cell.scheduler.config import read_settings
        from api_cell.scheduler.scheduler import Scheduler
        from api_cell.superconductor.context import settings_from
        from api_cell.superconductor.service import SuperConductorService

        cloud, settings = self._shared_cloud(conf), settings_from(conf)
        zone = read(conf, Zones).default_availability_zone
        scheduling = read_settings(
            conf, service_down_seconds=settings.service_down_seconds, default_availability_zone=zone
        )
        service = SuperConductorService(cloud, Scheduler(cloud, scheduling), settings)

        def end(grace_seconds: float) -> None:
            service.stop(grace_seconds)
            self._release_cloud()

        return Made(service.start, end)

    # -- a cell -----------------------------------------------------------------------------------

    def _conductor(self, conf: cfg.ConfigOpts, host: str) -> Part:
        from cell_service.conductor.config import settings_from
        from cell_service.conductor.service import ConductorService
        from cell_service.db.sql.engine import Database, PoolLimits
        from cell_service.peers.cinder import open_volumes
        from cell_service.peers.glance.images import open_images
        from cell_service.peers.neutron.ports import open_networks
        from cell_service.peers.placement_http import open_placement
        from cell_service.rpc.transports import open_transport

        settings, database = settings_from(conf), read(conf, DatabaseSettings)
        if not database.connection:
            raise Invalid(reason="[database] connection is not set")
        limits = PoolLimits(size=database.max_pool_size, overflow=database.max_overflow, read_seconds=30.0)
        db = Database(database.connection, limits, read(conf, SecretSettings).keys)
        transport = open_transport(read(conf, Defaults).transport_url)
        networks, placement = open_networks(read(conf, NeutronSettings)), open_placement(read(conf, PlacementSettings))
        service = ConductorService(
            db, transport, networks, placement, replace(settings, host=host) if host else settings,
            images=open_images(read(conf, GlanceSettings)), volumes=open_volumes(read(conf, CinderSettings)),
        )  # fmt: skip

        def end(grace_seconds: float) -> None:
            service.stop()
            transport.close()
            db.dispose()

        return Made(service.start, end)

    def _console(self, conf: cfg.ConfigOpts, port: int, address: str, reuse_port: bool) -> Part:
        """The console proxy, for every kind of console: of the whole cloud where there is a global database, else of
        the cell whose database the files name."""
        from api_cell.config import ApiDatabase
        from api_cell.servers import consoles
        from cell_service.consoles.config import ConsoleOrigins, ConsoleProxySettings
        from cell_service.consoles.proxy import ConsoleProxy
        from cell_service.db import console_tokens
        from cell_service.db.sql.engine import Database, PoolLimits
        from cell_service.model.console import ConsoleToken

        database, release = read(conf, DatabaseSettings), self._release_cloud
        if read(conf, ApiDatabase).connection:
            cloud = self._shared_cloud(conf)

            def lookup(secret: str) -> ConsoleToken | None:
                return consoles.opened_by(cloud, secret)
        elif database.connection:
            db = Database(database.connection, PoolLimits(size=database.max_pool_size, overflow=database.max_overflow))
            release = db.dispose

            def lookup(secret: str) -> ConsoleToken | None:
                with db.connect() as tx:
                    return console_tokens.find(tx, secret, SYSTEM_CLOCK.now())
        else:
            raise Invalid(reason="[api_database] or [database] connection is not set")
        origins = read(conf, ConsoleOrigins).allowed_origins
        proxy = ConsoleProxy(lookup, allowed_origins=origins, web=read(conf, ConsoleProxySettings).web)

        def end(grace_seconds: float) -> None:
            proxy.drain(grace_seconds)
            release()

        return Made(lambda: proxy.start(port or CONSOLE_PORT, address or "127.0.0.1", reuse_port=reuse_port), end)

    def _compute(self, conf: cfg.ConfigOpts, hosts: list[str]) -> Part:
        from cell_service.metadata.config import read_settings
        from cell_service.peers.cinder import open_volumes
        from cell_service.peers.glance.images import open_images
        from cell_service.peers.manila import open_shares
        from cell_service.peers.neutron.ports import open_networks
        from cell_service.peers.placement_http import open_placement
        from cell_service.rpc.transports import open_transport
        from compute_host.config import for_host, settings_from
        from compute_host.dependencies import HostDependencies
        from compute_host.fleet import Fleet
        from compute_host.host_queue import HostQueues
        from compute_host.operations.config_drive import ConfigDrives

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
        )
        fleet = Fleet(several or [settings], dependencies)

        def end(grace_seconds: float) -> None:
            fleet.stop(grace_seconds)
            drives.close()
            queues.close()
            transport.close()

        return Made(fleet.start, end)

    def _queue(self, conf: cfg.ConfigOpts) -> Part:
        from cell_service.rpc.local.broker import LocalBroker

        url = read(conf, Defaults).transport_url
        if not url.startswith("local:///"):
            raise Invalid(reason="[DEFAULT] transport_url must look like local:///path/to/socket for the role queue")
        broker = LocalBroker(url.removeprefix("local://"))
        return Made(broker.start, lambda grace_seconds: broker.stop())

    # -- metadata ---------------------------------------------------------------------------------

    def _metadata(self, conf: cfg.ConfigOpts, port: int, address: str, reuse_port: bool) -> Part:
        """Of the whole cloud where there is a global database, unless told otherwise; else of the cell."""
        from api_cell.config import ApiDatabase
        from api_cell.metadata.instances import CloudInstances
        from cell_service.db.sql.engine import Database, PoolLimits
        from cell_service.metadata.config import read_settings
        from cell_service.metadata.instances import CellInstances, Instances
        from cell_service.metadata.server import MetadataServer
        from cell_service.metadata.service import MetadataService
        from cell_service.peers.neutron.ports import open_networks

        settings, database = read_settings(conf), read(conf, DatabaseSettings)
        release: Callable[[], None]
        instances: Instances
        if read(conf, ApiDatabase).connection and not settings.api.local_metadata_per_cell:
            instances, release = CloudInstances(self._shared_cloud(conf)), self._release_cloud
        elif database.connection:
            limits = PoolLimits(size=database.max_pool_size, overflow=database.max_overflow, read_seconds=10.0)
            db = Database(database.connection, limits)
            instances, release = CellInstances(db, SYSTEM_CLOCK), db.dispose
        else:
            raise Invalid(reason="[api_database] or [database] connection is not set")
        networks = open_networks(read(conf, NeutronSettings))
        server = MetadataServer(MetadataService(instances, networks, settings, SYSTEM_CLOCK))
        at = (port or settings.defaults.metadata_listen_port, address or settings.defaults.metadata_listen)

        def end(grace_seconds: float) -> None:
            server.drain(grace_seconds)
            release()

        return Made(lambda: server.start(*at, reuse_port=reuse_port), end)

    # -- companions -------------------------------------------------------------------------------

    def _companion(self, conf: cfg.ConfigOpts, role: str, port: int, address: str, reuse_port: bool) -> Part:
        from tools.companions.identity.service import make_identity
        from tools.companions.image.service import make_image
        from tools.companions.network.service import make_network
        from tools.companions.share.service import make_share

        data = Path(read(conf, CompanionSection).data_path.replace("$state_path", read(conf, Defaults).state_path))
        data.mkdir(parents=True, exist_ok=True)
        if role == "identity":
            companion = make_identity(data)
        elif role == "volume":
            companion = self._volumes(conf, data)
        elif role == "share":
            companion = make_share(data, self._authenticator(conf))
        else:
            authenticator = self._authenticator(conf)
            companion = (
                make_image(data, authenticator)
                if role == "image"
                else make_network(data, authenticator, wiring_settings=_wiring(conf), notify=_network_events(conf))
            )
        return Made(lambda: companion.start(port, address), companion.drain)

    def _volumes(self, conf: cfg.ConfigOpts, data: Path) -> Companion:
        from cell_service.peers.glance.images import open_images
        from tools.companions.volume.service import make_volume

        images = open_images(read(conf, GlanceSettings))
        return make_volume(data, self._authenticator(conf), images, _volume_event(conf))


def _volume_event(conf: cfg.ConfigOpts) -> Callable[[str, str, str], None]:
    """Tells compute what has become of a server's volume."""
    external = _external_events(conf, "2.93")

    def notify(name: str, server_id: str, volume_id: str) -> None:
        try:
            external([{"name": name, "server_uuid": server_id, "tag": volume_id}])
        except PeerUnavailable as error:
            log.warning("compute not told of a volume", extra=about(None, volume=volume_id, event=name, reason=error))

    return notify


def _network_events(conf: cfg.ConfigOpts) -> Callable[[list[dict[str, str]]], None] | None:
    """Tells compute what changed of servers' ports; None where the files name no account for that."""
    from cell_service.peers.settings import NovaSettings

    return _external_events(conf, "2.1") if read(conf, NovaSettings).endpoint_override else None


def _external_events(conf: cfg.ConfigOpts, version: str) -> Callable[[list[dict[str, str]]], None]:
    """Passes events on to compute (os-server-external-events). Raises PeerUnavailable."""
    from cell_service.context import Context, Deadline, new_request_id
    from cell_service.peers.session import Peer
    from cell_service.peers.settings import NovaSettings

    peer = Peer("compute", read(conf, NovaSettings), "/v2.1", {"OpenStack-API-Version": f"compute {version}"})

    def notify(events: list[dict[str, str]]) -> None:
        ctx = Context(new_request_id(), deadline=Deadline.after(10, SYSTEM_CLOCK))
        peer.ask(ctx, "POST", "/os-server-external-events", body={"events": events})

    return notify


def _wiring(conf: cfg.ConfigOpts) -> WiringSettings:
    from tools.companions.network.wiring.settings import WiringSettings

    settings = read(conf, WiringSettings)
    return replace(settings, hypervisors=settings.hypervisors.replace("$state_path", read(conf, Defaults).state_path))
