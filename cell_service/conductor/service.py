"""A conductor: the servant on its queue, and the threads of its duties."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from uuid import uuid4

from cell_service.conductor.config import ConductorSettings
from cell_service.conductor.context import ConductorContext
from cell_service.conductor.duties import Duties
from cell_service.conductor.endpoint import ConductorEndpoint
from cell_service.context import SYSTEM_CLOCK, Clock
from cell_service.db.sql.engine import Database
from cell_service.errors import PolycellError
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
    """One conductor of a cell. `start` returns when it serves; `stop` when it has let go of everything."""

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
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []
        self._subscription: Subscription | None = None
        self._pool = ThreadPoolExecutor(OWN_WORK_AT_ONCE, thread_name_prefix="conductor-work")
        self._running: dict[int, Future[None]] = {}

    def start(self) -> None:
        settings = self.deps.settings
        self._subscription = self.deps.transport.serve(
            Conductor.topic, dispatcher(ConductorEndpoint(self.deps), self.deps.clock), threads=settings.workers
        )
        for name, loop in (("work", self._work), ("watch", self._watch)):
            thread = threading.Thread(target=loop, name=f"conductor-{name}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def stop(self, grace_seconds: float = 10.0) -> None:
        """Take nothing new; what is not finished within the grace is left to others. Safe to call twice."""
        self._stopping.set()
        self.deps.work.set()
        if self._subscription is not None:
            self._subscription.stop(grace_seconds)
        for thread in self._threads:
            thread.join(grace_seconds)
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _work(self) -> None:
        """Operations that conductors do themselves, as soon as there are any."""
        while not self._stopping.is_set():
            self.deps.work.clear()
            self._attempt("own work", self._take)
            self.deps.clock.wait(self.deps.work, self.deps.settings.poll_seconds)

    def _take(self) -> None:
        self._running = {key: future for key, future in self._running.items() if not future.done()}
        room = OWN_WORK_AT_ONCE - len(self._running)
        if room <= 0:
            return
        for claimed in self.duties.take(room, tuple(self._running)):
            self._running[claimed.id] = self._pool.submit(self._do, claimed)

    def _do(self, claimed: ClaimedOperation) -> None:
        self._attempt("own work", lambda: self.duties.do(claimed))
        self.deps.work.set()

    def _watch(self) -> None:
        settings, clock = self.deps.settings, self.deps.clock
        report_at = purge_at = offload_at = clock.monotonic()
        heal_at = clock.monotonic() + settings.heal_seconds
        while not self._stopping.is_set():
            if clock.monotonic() >= report_at and self._attempt("heartbeat", self.duties.report):
                report_at = clock.monotonic() + settings.report_seconds
            seen = self._attempt("queue", lambda: self.deps.transport.ping(timeout=2.0))
            seen = self._attempt("watching hosts", self.duties.watch_hosts) and seen
            if not seen:
                self.duties.blinded()
            self._attempt("watching deadlines", self.duties.watch_deadlines)
            if clock.monotonic() >= purge_at and self._attempt("purge", self.duties.purge):
                purge_at = clock.monotonic() + PURGE_SECONDS
            if clock.monotonic() >= offload_at and self._attempt("offload", self.duties.offload_shelved):
                offload_at = clock.monotonic() + OFFLOAD_SECONDS
            if settings.heal_seconds > 0 and clock.monotonic() >= heal_at:
                heal_at = clock.monotonic() + settings.heal_seconds
                self._attempt("healing of ports", self.duties.heal_network_info)
            clock.wait(self._stopping, settings.poll_seconds)

    def _attempt(self, what: str, act: Callable[[], None]) -> bool:
        """Whether it went well; what fails is tried again at its next time."""
        try:
            act()
        except PolycellError as error:
            log.warning("conductor: %s failed: %s", what, error)
            return False
        except Exception:
            log.exception("conductor: %s failed", what)
            return False
        return True
