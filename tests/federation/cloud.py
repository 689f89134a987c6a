"""The whole federation in one process: real code and threads, a database and a bus for each cell, the APIs over HTTP.

Only the services beside it (identity, image, network) are stood in for, at their seams.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, TypeVar
from unittest import mock
from uuid import uuid4

import requests

from api_cell.app import ApiServer, Services, make_compute_app
from api_cell.config import ApiSection, ApiSettings, Quota, Resizes, SoftDelete
from api_cell.contract import SuperConductor
from api_cell.edge.auth import NoAuth
from api_cell.placement.app import make_placement_app
from api_cell.scheduler.scheduler import Scheduler
from api_cell.superconductor.context import SuperConductorSettings
from api_cell.superconductor.service import SuperConductorService
from cell_service.backoff import Backoff
from cell_service.conductor.config import ConductorSettings
from cell_service.conductor.service import ConductorService
from cell_service.consoles.config import ConsoleSettings, SerialConsole
from cell_service.context import SYSTEM_CLOCK, Clock, Deadline
from cell_service.db import schema
from cell_service.db.sql.engine import Database
from cell_service.model.instance import Flavor
from cell_service.peers.cinder import open_volumes
from cell_service.peers.limits import UnifiedLimits
from cell_service.peers.manila import open_shares
from cell_service.peers.placement_http import open_placement
from cell_service.peers.settings import CinderSettings, ManilaSettings, PlacementSettings
from cell_service.rpc.contract import client
from cell_service.rpc.transport import Transport
from cell_service.rpc.transports import open_transport
from compute_host.config import HostSettings, SimulatedOptions, own_address
from compute_host.dependencies import HostDependencies
from compute_host.fleet import Fleet
from compute_host.host_queue import HostQueues
from mapping_db import cell_mappings, flavors, host_mappings
from mapping_db.cells.guard import ProbeFailed
from mapping_db.cells.registry import CELL0_UUID, CellSettings
from mapping_db.global_database import GlobalDatabase
from mapping_db.locating.shared_cache import CacheSettings, open_shared
from mapping_db.upgrades import GLOBAL
from tests.edge.client import Client, Reply
from tests.suites.peers import MemoryImages, MemoryNetworks
from tests.suites.quiet_clock import QuietClock
from tests.suites.schemas import prepare
from tools.companions.share.service import make_share
from tools.companions.volume.service import make_volume
from tools.services.open_cloud import open_cloud

T = TypeVar("T")
BIG = Quota(instances=-1, cores=-1, ram=-1)
PATIENCE = 20.0
"""Servers of tests get no processor time for a while now and then, and are not down."""
POLLS = Backoff(first=0.03, longest=0.3, spread=(1, 1))


class Federation:
    """Two cells with two hosts each, unless said otherwise.

    `database` and `queue` give the URL of each part's own (parts are global, cell0, cell1, …); then all parts go by the
    machine's clock, else by one that runs while all of them wait.
    """

    def __init__(
        self, directory: Path, *, cells: int = 2, hosts: int = 2, quota: Quota = BIG,
        database: Callable[[str], str] | None = None, queue: Callable[[str], str] | None = None,
        cache: CacheSettings | None = None, reclaim: int = 0, offload_seconds: float = 0,
        same_host: bool = False,
        consoles: ConsoleSettings | None = None, limits: UnifiedLimits | None = None, **simulated: Any,
    ) -> None:  # fmt: skip
        self.clock: Clock = SYSTEM_CLOCK if database or queue else QuietClock()
        self.directory, self.reclaim_seconds = directory, reclaim
        self._same_host = same_host
        self._offload_seconds = offload_seconds
        self._consoles = consoles or ConsoleSettings(serial=SerialConsole(enabled=True))
        self._database = database or (lambda name: f"sqlite:///{directory}/{name}.db")
        self._simulated = SimulatedOptions(**{"boot_seconds": 0.02, "verb_seconds": 0.005, **simulated})
        self.settings = ApiSettings(api=ApiSection(auth_strategy="noauth2"), quota=quota,
                                    soft_delete=SoftDelete(reclaim_instance_interval=reclaim),
                                    resizes=Resizes(allow_resize_to_same_host=same_host))  # fmt: skip
        self._queue = queue or (lambda name: f"memory://{directory}/{name}")
        self._transports: list[Transport] = []
        self.images, self.networks = self.first_images(), MemoryNetworks()
        self.image_id = self.images.add()
        self.storage = make_volume(directory / "volume", NoAuth(), self.images)
        self.storage.start(0)
        storage = CinderSettings(auth_type="none", endpoint_override=self.storage.url)
        self.volumes = open_volumes(storage)
        self.share_service = make_share(directory / "share", NoAuth())
        self.share_service.start(0)
        sharing = ManilaSettings(auth_type="none", endpoint_override=self.share_service.url)
        self.shares = open_shares(sharing)
        patience = PATIENCE if database or queue else 1.0
        self.db = GlobalDatabase(self._database("global"), clock=self.clock, patience=patience)
        prepare(self.db, GLOBAL)
        self.names = [f"cell{number}" for number in range(cells + 1)]
        self.ids = {name: self._map(name) for name in self.names}
        opened = open_cloud(self.db, self._queue("global"), self.clock, open_transport=open_transport,
                            settings=CellSettings(patience=patience),
                            shared_cache=open_shared(cache) if cache else None)  # fmt: skip
        self._opened, self.cloud = opened, opened.cloud
        self.cells, self.bus = self.cloud.cells, self.cloud.bus
        self.cells.refresh()
        superconductor = client(SuperConductor, opened.superconductors)
        self.services = Services(self.settings, superconductor, self.images, self.networks, self.volumes, self.shares,
                                 limits)  # fmt: skip
        self.placement = ApiServer(make_placement_app(self.cloud, self.settings, NoAuth()))
        self.placement.start()
        self.api = ApiServer(make_compute_app(self.cloud, self.services, self.settings))
        self.api.start()
        self.superconductor = self.start_superconductor()
        self.conductors = {name: self.start_conductor(name) for name in self.names[1:]}
        self.fleets = {name: self.start_hosts(name, hosts) for name in self.names[1:]}
        self.clients: list[Client] = []
        self.admin = self.user("admin", "admin-project")
        self.first_flavor()
        self.until(lambda: len(self.superconductor.hosts_known()) == self._hosts_mapped() == cells * hosts)

    # -- parts ------------------------------------------------------------------------------------

    def first_images(self) -> MemoryImages:
        return MemoryImages()

    def first_flavor(self) -> None:
        self.db.run(lambda tx: flavors.insert_flavor(tx, Flavor("1", "tiny", 1, 64, 1), self.clock.now()))

    def transport(self, name: str) -> Transport:
        """A connection of its own to the part's queue."""
        made = open_transport(self._queue(name))
        self._transports.append(made)
        return made

    def opened(self, url: str) -> Transport:
        """A connection to that queue, closed with the federation."""
        made = open_transport(url)
        self._transports.append(made)
        return made

    def cell_database(self, name: str) -> Database:
        return Database(self._database(name))

    def start_superconductor(self) -> SuperConductorService:
        lease = 2 if isinstance(self.clock, QuietClock) else PATIENCE
        settings = SuperConductorSettings(scan_seconds=0.2, discover_seconds=1, lease_seconds=lease, report_seconds=1,
                                          allow_resize_to_same_host=self._same_host,
                                          reclaim_seconds=self.reclaim_seconds)  # fmt: skip
        made = SuperConductorService(self.cloud, Scheduler(self.cloud), settings)
        made.start()
        return made

    def start_conductor(self, name: str) -> ConductorService:
        settings = ConductorSettings(host=f"conductor-{name}", poll_seconds=0.5, report_seconds=1,
                                     shelved_offload_seconds=self._offload_seconds)  # fmt: skip
        placement = open_placement(self.placement_settings)
        made = ConductorService(self.cell_database(name), self.transport(name), self.networks, placement, settings,
                                self.clock, images=self.images, volumes=self.volumes)  # fmt: skip
        made.start()
        return made

    def start_hosts(self, name: str, count: int) -> Fleet:
        hosts = [self.host(f"{name}-host{number}") for number in range(1, count + 1)]
        transport = self.transport(name)
        dependencies = HostDependencies(
            transport=transport,
            queues=HostQueues(self._queue(name), transport, self.opened),
            networks=self.networks,
            placement=open_placement(self.placement_settings),
            images=self.images,
            volumes=self.volumes,
            shares=self.shares,
        )
        made = Fleet(hosts, dependencies, clock=self.clock)
        made.start()
        assert made.wait_ready(30)
        return made

    def host(self, name: str) -> HostSettings:
        state = self.directory / name
        return HostSettings(
            name, state, self.directory / "images", report_seconds=1, simulated=self._simulated,
            consoles=self._consoles, share_address=own_address(name, "127.0.0.1"),
        )  # fmt: skip

    @property
    def placement_settings(self) -> PlacementSettings:
        return PlacementSettings(auth_type="none", endpoint_override=f"http://127.0.0.1:{self.placement.port}")

    def close(self) -> None:
        for each in self.clients:
            each.close()
        for fleet in self.fleets.values():
            fleet.stop(5)
        for conductor in self.conductors.values():
            conductor.stop()
        self.superconductor.stop(5)
        for server in (self.api, self.placement, self.storage, self.share_service):
            server.drain(0)  # who asked is closed by now
        self._opened.close()
        for transport in self._transports:
            transport.close()
        if isinstance(self.clock, QuietClock):
            self.clock.close()

    def pause(self) -> None:
        """Its time stands still from now on."""
        if isinstance(self.clock, QuietClock):
            self.clock.pause()

    def running(self) -> AbstractContextManager[None]:
        """Its time passes meanwhile, and stands still afterwards."""
        return self.clock.running() if isinstance(self.clock, QuietClock) else nullcontext()

    # -- what tests say ---------------------------------------------------------------------------

    def user(self, name: str, project: str) -> Client:
        made = Client(self.api.port, token=f"{name}:{project}")
        self.clients.append(made)
        return made

    def post_server(self, by: Client | None = None, version: str = "2.96", hints: Any = None, **fields: Any) -> Reply:
        server = {"name": "s", "flavorRef": "1", "imageRef": self.image_id, "networks": "none", **fields}
        body = {"server": {name: value for name, value in server.items() if value is not None}}
        if hints:
            body["os:scheduler_hints"] = hints
        return (by or self.admin).post("/servers", body, version=version)

    def boot(self, by: Client | None = None, *, cell: str | None = None, **fields: Any) -> str:
        """A server that has become ACTIVE or ERROR; with `cell` on its first host."""
        if cell is not None:
            fields["availability_zone"] = f"nova:{cell}-host1"
        answer = self.post_server(by, **fields)
        assert answer.status == 202, answer.raw
        uuid: str = answer.json["server"]["id"]
        self.settled(uuid, by)
        return uuid

    def show(self, uuid: str, by: Client | None = None, version: str = "2.96") -> dict[str, Any]:
        answer = (by or self.admin).get(f"/servers/{uuid}", version=version)
        assert answer.status == 200, answer.raw
        shown: dict[str, Any] = answer.json["server"]
        return shown

    def spare(self, host: str) -> None:
        """No servers go to the host."""
        body = {"host": host, "binary": "nova-compute"}
        assert self.admin.put("/os-services/disable", body, version="2.52").status == 200

    def settled(self, uuid: str, by: Client | None = None) -> dict[str, Any]:
        """The server when nothing is in flight any more, and its cell tells so."""

        def still() -> dict[str, Any] | bool:
            shown = self.show(uuid, by)
            return (
                shown if shown.get("OS-EXT-STS:task_state", "silent") is None and shown["status"] != "BUILD" else False
            )

        return self.until(still)

    def act(self, uuid: str, action: str, content: Any = None, by: Client | None = None) -> Reply:
        return (by or self.admin).post(f"/servers/{uuid}/action", {action: content}, version="2.96")

    def share(self, project: str = "admin-project") -> str:
        """A share of the project."""
        url, headers = f"{self.share_service.url}/v2/shares", {"X-Auth-Token": f"admin:{project}"}
        wanted = {"share": {"share_proto": "NFS", "size": 1}}
        made: str = requests.post(url, json=wanted, headers=headers, timeout=10).json()["share"]["id"]
        return made

    def shared(self, uuid: str, project: str = "admin-project") -> str:
        """A share that the server, which is off, has."""
        share_id = self.share(project)
        asked, path = {"share": {"share_id": share_id}}, f"/servers/{uuid}/shares"
        reply = self.admin.post(path, asked, version="2.97")
        assert reply.status == 201, reply.raw
        self.until(lambda: self._share_status(path, share_id) == "inactive")
        return share_id

    def _share_status(self, path: str, share_id: str) -> str:
        return str(self.admin.get(f"{path}/{share_id}", version="2.97").json["share"]["status"])

    def gone(self, uuid: str, by: Client | None = None) -> bool:
        return (by or self.admin).get(f"/servers/{uuid}").status == 404

    def until(self, holds: Callable[[], T | bool], seconds: float = 100.0) -> Any:
        """What `holds` answers once it is true; fails when that takes too long."""
        end, never, polls = self.clock.monotonic() + seconds, threading.Event(), itertools.count(1)
        while not (answer := holds()):
            if self.clock.monotonic() > end:
                raise AssertionError(f"it never came to hold; unfinished: {self.unfinished()}")
            self.clock.wait(never, POLLS.pause(next(polls)) if self.clock is not SYSTEM_CLOCK else POLLS.first)
        return answer

    def guests(self) -> dict[str, list[str]]:
        """Host → uuids of the guests that its hypervisor has."""
        found = {}
        for fleet in self.fleets.values():
            for host, agent in fleet.agents.items():
                found[host] = [guest.uuid for guest in agent.driver.guests()]
        return found

    def allocations(self) -> dict[str, dict[str, int]]:
        """Consumer → resources, of everything allocated."""
        with self.db.connect() as tx:
            rows = tx.exec_driver_sql("SELECT consumer_uuid, resource_class, used FROM allocations").all()
        found: dict[str, dict[str, int]] = {}
        for consumer, resource_class, used in rows:
            found.setdefault(consumer, {})[resource_class] = used
        return found

    def silence(self, name: str) -> None:
        """The cell's database answers nobody of the global side any more."""
        self._point(name, "mysql://nobody@127.0.0.1:1/none")

    def wake(self, name: str) -> None:
        self._point(name, self._database(name))

    @contextmanager
    def without_global(self) -> Iterator[None]:
        """The global database refuses all work meanwhile."""
        with mock.patch.object(self.db, "probe", side_effect=ProbeFailed("away", unreachable=True)):
            self.db.guard.breaker.open("away")
            try:
                yield
            finally:
                self.db.guard.breaker.close()

    def unfinished(self) -> list[str]:
        """Operations that no cell has finished: what, how far, and where."""
        found = []
        for name in self.names[1:]:
            cell = self.cells.open(self.ids[name])
            with cell.db.connect(Deadline.after(10, self.clock)) as tx:
                statement = schema.operations.select().where(schema.operations.c.finished_at.is_(None))
                found += [f"{row.kind} {row.phase} {row.instance_uuid} {row.host}" for row in tx.execute(statement)]
        return found

    def _hosts_mapped(self) -> int:
        with self.db.connect() as tx:
            return sum(len(host_mappings.every(tx, cell_id)) for cell_id in self.ids.values())

    def _point(self, name: str, url: str) -> None:
        uuid = CELL0_UUID if name == "cell0" else self._uuids[name]
        with self.db.begin() as tx:
            cell_mappings.change(tx, uuid, now=self.clock.now(), database_connection=url)
        self.cells.refresh()

    def _map(self, name: str) -> int:
        self._uuids = getattr(self, "_uuids", {})
        self._uuids[name] = CELL0_UUID if name == "cell0" else str(uuid4())
        database = self.cell_database(name)
        prepare(database)
        database.dispose()
        with self.db.begin() as tx:
            return cell_mappings.insert_new(
                tx, uuid=self._uuids[name], name=name, transport_url=self._queue(name),
                database_connection=self._database(name), now=self.clock.now(),
            ).id  # fmt: skip
