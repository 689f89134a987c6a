"""A conductor: the endpoint on its queue, and the threads of its duties."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from uuid import uuid4

from cell_service.conductor.config import ConductorSettings
from cell_service.conductor.context import ConductorContext
from cell_service.conductor.duties import Duties
from cell_service.conductor.endpoint import ConductorEndpoint
from cell_service.context import SYSTEM_CLOCK, Clock
from cell_service.db.sql.engine import Database
from cell_service.errors import PolycellError
from cell_service.loop import Duty, Loop
from cell_service.model.operation import ClaimedOperation
from cell_service.peers.image import Images
from cell_service.peers.network import Networks
from cell_service.peers.placement import Placement
from cell_service.peers.volumes import Volumes
from cell_service.rpc.conductor import Conductor
from cell_service.rpc.contract import dispatcher
from cell_service.rpc.transport import Subscription, Transport

log = logging.getLogger(__name__)

OWN_WORK_AT_ONCE = 8
PURGE_SECONDS = 600.0
OFFLOAD_SECONDS = 60.0


class ConductorService:
    """One conductor of a cell. `start` returns when it serves; `stop` when it has released everything."""

    def __init__(
        self,
        db: Database,
        transport: Transport,
        networks: Networks | None,
        placement: Placement | None,
        settings: ConductorSettings,
        clock: Clock = SYSTEM_CLOCK,
        images: Images | None = None,
        volumes: Volumes | None = None,
    ) -> None:
        self.deps = ConductorContext(db, transport, networks, placement, clock, settings, images, volumes)
        self.duties = Duties(self.deps, owner=f"conductor:{settings.host}:{uuid4().hex[:8]}")
        self._subscription: Subscription | None = None
        self._pool = ThreadPoolExecutor(OWN_WORK_AT_ONCE, thread_name_prefix="conductor-work")
        self._running: dict[int, Future[None]] = {}
        self._loops = [
            Loop("conductor-work", [Duty("own work", self._take, settings.poll_seconds)], clock, wake=self.deps.work),
            Loop("conductor-watch", self._watch_duties(), clock, retry_seconds=settings.poll_seconds),
        ]
        if (heal := settings.heal_seconds) > 0:  # apart: it asks another service, which may be slow or away
            duty = Duty("healing of ports", self.duties.heal_network_info, heal, delay=heal)
            self._loops.append(Loop("conductor-heal", [duty], clock))

    def start(self) -> None:
        settings = self.deps.settings
        self._subscription = self.deps.transport.serve(
            Conductor.topic, dispatcher(ConductorEndpoint(self.deps), self.deps.clock), threads=settings.workers
        )
        for loop in self._loops:
            loop.start()

    def stop(self, grace_seconds: float = 10.0) -> None:
        """Claim nothing new; what is not finished within the grace is left to other conductors. Safe to call twice."""
        for loop in self._loops:
            loop.halt()
        if self._subscription is not None:
            self._subscription.stop(grace_seconds)
        for loop in self._loops:
            loop.stop(grace_seconds)
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _watch_duties(self) -> list[Duty]:
        settings, duties = self.deps.settings, self.duties
        check_queue = partial(self._or_blind, partial(self.deps.transport.ping, timeout=2.0))
        return [
            Duty("heartbeat", duties.report, settings.report_seconds),
            Duty("check of the queue", check_queue, settings.poll_seconds),
            Duty("watching of hosts", partial(self._or_blind, duties.watch_hosts), settings.poll_seconds),
            Duty("watching of deadlines", duties.watch_deadlines, settings.poll_seconds),
            Duty("purge", duties.purge, PURGE_SECONDS),
            Duty("offload", duties.offload_shelved, OFFLOAD_SECONDS),
        ]

    def _take(self) -> None:
        self._running = {key: future for key, future in self._running.items() if not future.done()}
        free = OWN_WORK_AT_ONCE - len(self._running)
        if free <= 0:
            return
        for claimed in self.duties.take(free, tuple(self._running)):
            self._running[claimed.id] = self._pool.submit(self._do, claimed)

    def _do(self, claimed: ClaimedOperation) -> None:
        """Do a claimed operation, at the edge of a worker's thread. A failed operation is claimed again once its lease
        has ended."""
        try:
            self.duties.do(claimed)
        except PolycellError as error:
            log.warning("conductor: own work failed: %s", error)
        except Exception:
            log.exception("conductor: own work failed")
        self.deps.work.set()

    def _or_blind(self, check: Callable[[], object]) -> None:
        """Run a duty, and record where it fails that hosts can't be watched: they count as down only while queue and
        database have answered without a gap."""
        try:
            check()
        except Exception:
            self.duties.blinded()
            raise
