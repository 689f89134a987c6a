"""One cell with a conductor and simulated hosts, run step by step: real code, a SQLite file, peers in memory, and a
clock turned by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

from sqlalchemy import Connection

from cell_service import wire
from cell_service.conductor.config import ConductorSettings
from cell_service.conductor.context import ConductorContext
from cell_service.conductor.duties import Duties
from cell_service.conductor.endpoint import ConductorEndpoint
from cell_service.context import Context, Deadline, ManualClock, new_request_id
from cell_service.db import actions, instances, operations
from cell_service.db.sql.engine import Database
from cell_service.model.instance import Flavor, Instance
from cell_service.model.lifecycle import State, VmState
from cell_service.model.operation import OUTCOME, Alternate, BuildArguments, Outcome, StoredOperation
from cell_service.operations.builds import BUILD
from cell_service.operations.declaration import Operation
from cell_service.operations.deletes import DELETE
from cell_service.operations.images import unfinished_images
from cell_service.operations.rule import begin
from cell_service.peers.shares import Shares
from cell_service.peers.volumes import Volumes
from cell_service.rpc.conductor import Conductor
from cell_service.rpc.contract import client, dispatcher
from compute_host.agent import Agent
from compute_host.config import HostSettings, SimulatedOptions
from compute_host.dependencies import HostDependencies
from compute_host.image_cache import ImageCache
from compute_host.image_settings import SignatureOptions
from compute_host.image_signatures import Signatures
from compute_host.timers import Timers
from compute_host.virt.driver import Driver
from compute_host.virt.simulated import SimulatedDriver
from tests.suites.key_manager import MemoryCertificates
from tests.suites.peers import MemoryImages, MemoryNetworks, MemoryPlacement
from tests.suites.schemas import prepare
from tests.suites.steps import Killed, KillSwitch, StepPools, StepQueue

QUICK = SimulatedOptions(
    vcpus=8, memory_mib=8192, disk_gib=100, boot_seconds=0, verb_seconds=0, move_seconds=0, live_seconds=0
)
VERBS = (
    "spawn", "destroy", "power_on", "power_off", "reboot", "pause", "suspend", "pack", "send", "receive", "arrive",
    "snapshot", "snapshot_running", "rescue", "unrescue", "attach_interface", "detach_interface", "attach_volume",
    "detach_volume", "swap_volume", "extend_volume", "snapshot_volume", "remove_volume_snapshot",
    "set_admin_password", "trigger_crash_dump",
)  # fmt: skip
FLAVOR = Flavor(flavorid="1", name="small", vcpus=1, memory_mib=512, root_gib=1)
YEAR = 365 * 86400.0


NewDriver = Callable[[HostSettings, KillSwitch], Driver]
"""Makes the driver of a host, whose parts may go through the switch."""


class OneCell:
    def __init__(
        self, directory: Path, database_url: str | None = None, volumes: Volumes | None = None,
        shares: Shares | None = None, new_driver: NewDriver | None = None,
    ) -> None:  # fmt: skip
        """`new_driver`: of hosts that are not simulated."""
        self.directory, self.volumes, self.shares, self.new_driver = directory, volumes, shares, new_driver
        self.clock = ManualClock()
        self.db = Database(database_url or f"sqlite:///{directory}/cell.db")
        prepare(self.db)
        self.queue = StepQueue()
        self.images, self.networks, self.placement = MemoryImages(), MemoryNetworks(), MemoryPlacement()
        self.image_id = self.images.add()
        self.certificates, self.signatures = MemoryCertificates(), SignatureOptions()
        self.hosts: dict[str, Host] = {}
        self.conductor = self.new_conductor()

    # -- processes -----------------------------------------------------------------------------------

    def new_conductor(self, switch: KillSwitch | None = None, **settings: Any) -> OneConductor:
        """A conductor in the place of the one before."""
        self.conductor = OneConductor(self, switch or KillSwitch(), ConductorSettings(host="conductor1", **settings))
        return self.conductor

    def host(self, name: str, *, switch: KillSwitch | None = None, resume_guests: bool = False, **options: Any) -> Host:
        """A host that is up, its agent new; another one of that name was killed."""
        self.hosts[name] = Host(self, name, switch or KillSwitch(), resume_guests, options)
        self.hosts[name].agent.start()
        self.settle()
        return self.hosts[name]

    def settle(self) -> None:
        """Let everybody do all that they can do now."""
        busy = True
        while busy:
            busy = self.queue.deliver()
            for host in list(self.hosts.values()):
                busy = host.run() or busy
            busy = self.conductor.work() or busy

    def pass_time(self, seconds: float, step: float = 10.0) -> None:
        """Turn the clock, and let everybody live meanwhile."""
        while seconds > 0:
            self.clock.advance(min(step, seconds))
            seconds -= step
            self.conductor.watch()
            self.settle()

    # -- what the API would do -----------------------------------------------------------------------

    def ctx(self) -> Context:
        return Context(
            request_id=new_request_id(), user_id="u", project_id="p", deadline=Deadline.after(60, self.clock)
        )

    def boot(
        self, host: str, *alternates: str, name: str = "server", deadline_seconds: float = 3600, **fields: Any
    ) -> str:
        """An instance accepted for `host`, its allocation made; answers its uuid. `build=` for BuildArguments."""
        ctx, now, uuid = self.ctx(), self.clock.now(), str(uuid4())
        build = fields.pop("build", BuildArguments())
        build = replace(build, alternates=tuple(self.alternate(other) for other in alternates))
        instance = Instance(
            uuid=uuid,
            project_id="p",
            user_id="u",
            display_name=name,
            flavor=fields.pop("flavor", FLAVOR),
            created_at=now,
            image_ref=fields.pop("image_ref", self.image_id),
            host=host,
            node=host,
            **fields,
        )

        def work(tx: Connection) -> None:
            instances.insert_new(tx, instance)
            actions.start(tx, ctx, uuid, "create", now)
            until = now + timedelta(seconds=deadline_seconds)
            sealer = self.db.sealer_in(tx)
            new = operations.new_operation(BUILD, ctx, uuid, host, now, build=build, sealer=sealer, deadline=until)
            operations.insert(tx, new)

        self.db.run(work)
        self.placement.allocations[uuid] = self.alternate(host).allocations
        return uuid

    def act(
        self,
        uuid: str,
        kind: Operation[Any, Any],
        deadline_seconds: float = 600,
        arguments: dict[str, Any] | None = None,
        **columns: Any,
    ) -> Context:
        """Begin an action as the API does."""
        ctx, now = self.ctx(), self.clock.now()

        def work(tx: Connection) -> None:
            instance = instances.get(tx, uuid)
            begun = begin(kind, instance.state)
            assert instances.change(tx, uuid, now=now, expect=instance.state, task_state=begun.task, **columns)
            actions.start(tx, ctx, uuid, kind.action, now)
            given = dict(arguments or {})
            if kind is DELETE:
                given = {"unfinished_images": list(unfinished_images(operations.unfinished(tx, uuid))), **given}
                operations.supersede(tx, uuid, now)
            until, sealer = now + timedelta(seconds=deadline_seconds), self.db.sealer_in(tx)
            new = operations.new_operation(
                kind, ctx, uuid, instance.host, now, kind.read(given), sealer=sealer, deadline=until
            )
            operations.insert(tx, new)

        self.db.run(work)
        if self.instance(uuid).host is None:
            self.rpc().wake(ctx)
        return ctx

    def errand(self, uuid: str, kind: Operation[Any, Any], host: str, **arguments: Any) -> int:
        """What the engine of moves asks a host to do; answers the operation's id."""
        ctx, now = self.ctx(), self.clock.now()
        new = operations.new_operation(
            kind, ctx, uuid, host, now, kind.read(arguments), sealer=self.db.sealer(),
            deadline=now + timedelta(seconds=600),
        )  # fmt: skip
        return self.db.run(lambda tx: operations.insert(tx, new))

    def ended(self, errand: int) -> Outcome | None:
        """How the errand ended; None while it has not."""
        with self.db.connect() as tx:
            operation = operations.get(tx, errand)
        assert operation is not None
        plain = operation.arguments.get(OUTCOME)
        return None if plain is None else wire.from_plain(Outcome, plain)

    def active(self, host: str, **fields: Any) -> str:
        uuid = self.boot(host, **fields)
        self.settle()
        assert self.instance(uuid).state == State(VmState.ACTIVE)
        return uuid

    # -- looking ---------------------------------------------------------------------------------------

    def alternate(self, host: str) -> Alternate:
        provider = self.hosts[host].node_uuid if host in self.hosts else str(uuid4())
        return Alternate(host, host, provider, {provider: {"VCPU": 1}})

    def instance(self, uuid: str) -> Instance:
        with self.db.connect() as tx:
            return instances.get(tx, uuid, deleted=True)

    def unfinished(self, uuid: str) -> list[StoredOperation]:
        with self.db.connect() as tx:
            return operations.unfinished(tx, uuid)

    def events(self, uuid: str, request_id: str | None = None) -> list[tuple[str, str | None, str | None]]:
        """(event, host, result) of the newest (or that) action, newest first."""
        with self.db.connect() as tx:
            newest = actions.list_of(tx, uuid)[0] if request_id is None else actions.get(tx, uuid, request_id)
            return [(event.event, event.host, event.result) for event in actions.events_of(tx, newest.id)]

    def guests_of(self, uuid: str) -> list[str]:
        """The hosts that have this guest."""
        return [name for name, host in self.hosts.items() if uuid in host.guests()]

    def rpc(self) -> Conductor:
        return client(Conductor, self.queue)


class OneConductor:
    """A conductor whose duties run when told."""

    def __init__(self, cell: OneCell, switch: KillSwitch, settings: ConductorSettings) -> None:
        self._cell, self._switch = cell, switch
        self.deps = ConductorContext(
            switch.guard(cell.db, "run"),
            cell.queue,
            switch.guard(cell.networks),
            switch.guard(cell.placement),
            cell.clock,
            settings,
            switch.guard(cell.images),
            switch.guard(cell.volumes) if cell.volumes is not None else None,
        )
        self.duties = Duties(self.deps, f"conductor:{uuid4()}")
        self.deps.work.set()
        cell.queue.serve("conductor", dispatcher(ConductorEndpoint(self.deps), cell.clock))

    def work(self) -> bool:
        """Do what conductors do themselves, if somebody said that there is something."""
        if self._switch.dead or not self.deps.work.is_set():
            return False
        self.deps.work.clear()
        try:
            for operation in self.duties.take(10):
                self.duties.do(operation)
        except Killed:
            self._cell.queue.handlers.pop("conductor", None)
        return True

    def watch(self) -> None:
        """What is done every few seconds."""
        if self._switch.dead:
            return
        self.deps.work.set()
        self.duties.report()
        self.duties.watch_hosts()
        self.duties.watch_deadlines()


class Host:
    """A host with its agent; the state directory outlives it."""

    def __init__(
        self, cell: OneCell, name: str, switch: KillSwitch, resume_guests: bool, options: dict[str, Any]
    ) -> None:
        self._cell, self.name, self.switch = cell, name, switch
        simulated = replace(QUICK, **options)
        self.settings = HostSettings(
            host=name,
            state=cell.directory / name,
            image_cache=cell.directory / "images",
            resume_guests=resume_guests,
            sync_power_seconds=YEAR,  # hosts compare all their guests with the cell when they start, and as tests say
            simulated=simulated,
        )
        self.pools = StepPools()
        self.timers = Timers(cell.clock, threaded=False)
        self.driver: Any = (
            SimulatedDriver(self.settings, self.timers, self.pools.control)
            if cell.new_driver is None
            else cell.new_driver(self.settings, switch)
        )
        queue = switch.guard(cell.queue, "call", "cast")
        dependencies = HostDependencies(
            queue,
            networks=switch.guard(cell.networks),
            placement=cell.placement,
            volumes=switch.guard(cell.volumes) if cell.volumes is not None else None,
            shares=switch.guard(cell.shares) if cell.shares is not None else None,
        )
        self.agent = Agent(
            self.settings,
            dependencies,
            driver=switch.guard(self.driver, *VERBS),
            transport=queue,
            images=ImageCache(
                switch.guard(cell.images),
                self.settings.image_cache,
                signatures=Signatures(cell.signatures, cell.certificates, cell.clock),
            ),
            timers=self.timers,
            pools=self.pools,
        )

    @property
    def node_uuid(self) -> str:
        uuid: str = self.driver.nodes()[0].uuid
        return uuid

    @property
    def faults(self) -> Path:
        return self.settings.state / "faults.json"

    def guests(self) -> dict[str, Any]:
        return {guest.uuid: guest.power_state for guest in self.driver.guests()}

    def run(self) -> bool:
        """Let the agent do what is due. Answers whether there was anything."""
        if self.switch.dead:
            self._cell.queue.handlers.pop(f"compute.{self.name}", None)
            return False
        self.timers.fire()
        return self.pools.run()

    def claim(self) -> None:
        """Ask for work, as after a heartbeat."""
        self.agent.claim_soon()
        self._cell.settle()
