"""The super-conductor process: threads that place what is waiting, and duties on a beat."""

from __future__ import annotations

import logging
import os
import threading
from datetime import timedelta
from functools import partial

from api_cell.contract import SuperConductor
from api_cell.scheduler.hosts import HostState
from api_cell.scheduler.scheduler import Scheduler
from api_cell.superconductor import (
    comparing,
    deletes,
    discovery,
    following,
    heartbeat,
    placing,
    reclaiming,
    recorded_actions,
    retention,
)
from api_cell.superconductor.context import SuperConductorContext, SuperConductorSettings
from api_cell.superconductor.moves.runner import POLL_SECONDS, Runner
from api_cell.superconductor.waiting import Waiting
from cell_service.context import Context
from cell_service.errors import Unavailable
from cell_service.loop import Duty, Loop
from cell_service.rpc.contract import dispatcher
from cell_service.rpc.transport import Subscription
from mapping_db import build_requests, idempotency_keys
from mapping_db.cloud import Cloud
from mapping_db.placement import changes

log = logging.getLogger(__name__)

BATCH = 50
GATHER_SECONDS = 0.05
"""How long deletes are gathered into one batch."""
RETAIN_SECONDS = 3600.0
TIDY_SECONDS = 600.0
RECLAIM_SECONDS = 60.0
CONFIRM_SECONDS = 10.0
"""How often resizes are confirmed that have waited for the configured time."""
COMPARE_SECONDS = 60.0
"""How often it is seen whether a comparison of allocations is due."""
KEEP_CHANGES = timedelta(hours=1)


class SuperConductorService(SuperConductor):
    """One super-conductor. Any number run side by side; each claims what no other has claimed."""

    def __init__(self, cloud: Cloud, scheduler: Scheduler, settings: SuperConductorSettings | None = None) -> None:
        settings = settings or SuperConductorSettings()
        owner = f"{settings.host}:{os.getpid()}:{id(self):x}"
        self._deps = SuperConductorContext(cloud, scheduler, settings, owner)
        self._waiting = Waiting()
        self._runner = Runner(self._deps)
        self._deletes_pending = True
        self._placers: list[threading.Thread] = []
        self._stopping = threading.Event()
        self._deletes = self._loop("deletes", Duty("deletes", self._see_through, self._deletes_pause))
        self._moves = self._loop(
            "moves",
            Duty("scan of moves", self._runner.scan, settings.scan_seconds),
            Duty("moves", self._runner.poll, self._moves_pause),
            wake=self._runner.woken,
        )
        self._loops = [self._deletes, self._moves, *(self._loop(duty.name, duty) for duty in self._periodic())]
        self._subscription: Subscription | None = None

    def start(self) -> None:
        """Serve the topic and scan for work without a message from now on."""
        self._deps.scheduler.start()
        for number in range(self._deps.settings.workers):
            thread = threading.Thread(target=self._place, name=f"super-conductor-place-{number}", daemon=True)
            self._placers.append(thread)
            thread.start()
        for loop in self._loops:
            loop.start()
        self._subscription = self._deps.cloud.bus.serve(self.topic, dispatcher(self, self._deps.cloud.clock), threads=2)

    def stop(self, grace_seconds: float = 10.0) -> None:
        """Claim nothing more; others go on with what is half done when its lease ends."""
        self._stopping.set()
        for loop in self._loops:
            loop.halt()
        if self._subscription is not None:
            self._subscription.stop(grace_seconds)
        self._waiting.close()
        for loop in self._loops:
            loop.stop(grace_seconds)
        for thread in self._placers:
            thread.join(grace_seconds)
        self._runner.stop()
        self._deps.scheduler.stop()

    def _loop(self, name: str, *duties: Duty, wake: threading.Event | None = None) -> Loop:
        return Loop(f"super-conductor-{name}", duties, self._deps.cloud.clock, wake=wake)

    def _periodic(self) -> list[Duty]:
        """The duties that have a thread each, for some take long."""
        settings = self._deps.settings
        duties = [
            Duty("heartbeat", partial(heartbeat.report, self._deps), settings.report_seconds),
            Duty("scan", self._scan, settings.scan_seconds),
            Duty("global updates", self._follow, settings.scan_seconds * 5),
            Duty("recorded actions", partial(recorded_actions.replay, self._deps), settings.scan_seconds * 5),
            Duty("tidy", self._tidy, TIDY_SECONDS),
            Duty("confirm", self._runner.confirm_late, CONFIRM_SECONDS),
        ]
        if settings.reclaim_seconds:
            duties.append(Duty("reclaim", self.reclaim, RECLAIM_SECONDS))
        if settings.retention.deleted_days or settings.retention.archived_days:
            duties.append(Duty("retention", self._retain, RETAIN_SECONDS))
        if settings.compare_seconds:
            seconds = min(settings.compare_seconds, COMPARE_SECONDS)
            duties.append(Duty("comparison", partial(comparing.compare, self._deps, self._stopping), seconds))
        if settings.discover_seconds > 0:
            duties.append(Duty("discover", partial(discovery.discover, self._deps), settings.discover_seconds))
        return duties

    def hosts_known(self) -> list[str]:
        """The names of the hosts that the scheduler chooses from."""
        return sorted(self._deps.scheduler.snapshot.by_host)

    def scheduled_hosts(self) -> list[HostState]:
        """The hosts as the scheduler sees them now."""
        snapshot = self._deps.scheduler.snapshot
        with snapshot.lock:
            return list(snapshot.hosts.values())

    def reclaim(self) -> None:
        """Delete soft-deleted servers whose time is over."""
        if reclaiming.reclaim(self._deps):
            self._deletes.trigger()

    def build(self, ctx: Context, instance_uuids: tuple[str, ...]) -> None:
        self._waiting.add(instance_uuids)

    def move(self, ctx: Context, move_uuids: tuple[str, ...]) -> None:
        self._runner.wake()

    def see_through_deletes(self, ctx: Context, instance_uuids: tuple[str, ...]) -> None:
        self._deletes.trigger()

    def _place(self) -> None:
        """Place the waiting requests in batches: those that came while the last batch was placed are the next one."""
        while not self._stopping.is_set():
            wanted = self._waiting.take(BATCH)
            if not wanted or self._stopping.is_set():
                continue
            try:
                placing.place(self._deps, wanted)
            except Unavailable as error:
                log.warning("builds wait: %s", error)
            except Exception:
                log.exception("placing of builds failed")

    def _see_through(self) -> None:
        self._deps.cloud.clock.wait(self._stopping, GATHER_SECONDS)  # let a burst of deletes come together
        self._deletes_pending = True
        self._deletes_pending = bool(deletes.see_through(self._deps))

    def _deletes_pause(self) -> float:
        """The pause until deletes are looked at: triggered by a delete, then every `scan_seconds` while some are under
        way, else rarely."""
        return self._deps.settings.scan_seconds * (1 if self._deletes_pending else 10)

    def _moves_pause(self) -> float:
        """The pause until moves are looked at: short while a move waits for its host."""
        return POLL_SECONDS if self._runner.waiting else self._deps.settings.scan_seconds

    def _scan(self) -> None:
        with self._deps.cloud.db.connect() as tx:
            found = build_requests.untaken(tx, self._deps.cloud.clock.now(), BATCH)
        self._waiting.add(found)

    def _follow(self) -> None:
        if following.follow(self._deps):
            self._deletes.trigger()

    def _retain(self) -> None:
        retention.keep_up(self._deps, self._stopping.is_set)

    def _tidy(self) -> None:
        before = self._deps.cloud.clock.now() - KEEP_CHANGES
        self._deps.cloud.db.run(lambda tx: changes.purge(tx, before))
        self._deps.cloud.db.run(lambda tx: idempotency_keys.purge(tx, self._deps.cloud.clock.now()))
        self._runner.tidy()
