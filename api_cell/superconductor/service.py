"""The super-conductor process: threads that place what is waiting, and duties on a beat."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from datetime import timedelta
from functools import partial

from api_cell.contract import SuperConductor
from api_cell.scheduler.scheduler import Scheduler
from api_cell.superconductor import deletes, discovery, placing, reclaiming, retention
from api_cell.superconductor.context import SuperConductorContext, SuperConductorSettings
from api_cell.superconductor.moves.runner import POLL_SECONDS, Runner
from api_cell.superconductor.waiting import Waiting
from cell_service.context import Context
from cell_service.errors import Unavailable
from cell_service.rpc.contract import dispatcher
from cell_service.rpc.transport import Subscription
from mapping_db import build_requests, idempotency_keys
from mapping_db.cloud import Cloud
from mapping_db.placement import changes

log = logging.getLogger(__name__)

BATCH = 50
GATHER_SECONDS = 0.05
"""How long deletes may come together before they are seen to."""
RETAIN_SECONDS = 3600.0
RECLAIM_SECONDS = 60.0
CONFIRM_SECONDS = 10.0
"""How often resizes are looked for that are to confirm themselves."""
KEEP_CHANGES = timedelta(hours=1)


class SuperConductorService(SuperConductor):
    """Any number run side by side; each claims what no other has claimed."""

    def __init__(self, cloud: Cloud, scheduler: Scheduler, settings: SuperConductorSettings | None = None) -> None:
        settings = settings or SuperConductorSettings()
        owner = f"{settings.host}:{os.getpid()}:{id(self):x}"
        self._deps = SuperConductorContext(cloud, scheduler, settings, owner)
        self._waiting = Waiting()
        self._deleting = threading.Event()
        self._runner = Runner(self._deps)
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []
        self._subscription: Subscription | None = None

    def start(self) -> None:
        """Serve the topic and scan for forgotten work from now on."""
        settings = self._deps.settings
        self._deps.scheduler.start()
        for number in range(settings.workers):
            self._run(f"place-{number}", self._place)
        self._run("deletes", self._see_through)
        self._run("moves", self._move)
        self._run("scan", lambda: self._repeat(settings.look_seconds, self._scan))
        self._run("tidy", lambda: self._repeat(600.0, self._tidy))
        self._run("confirm", lambda: self._repeat(CONFIRM_SECONDS, self._runner.confirm_late))
        if settings.reclaim_seconds:
            self._run("reclaim", lambda: self._repeat(RECLAIM_SECONDS, self.reclaim))
        if settings.retention.deleted_days or settings.retention.archived_days:
            self._run("retention", lambda: self._repeat(RETAIN_SECONDS, self._retain))
        if settings.discover_seconds > 0:
            self._run("discover", lambda: self._repeat(settings.discover_seconds, self._discover))
        self._subscription = self._deps.cloud.bus.serve(self.topic, dispatcher(self, self._deps.cloud.clock), threads=2)

    def stop(self, grace_seconds: float = 10.0) -> None:
        """Take nothing more; what is half done is taken up by others when its lease ends."""
        self._stopping.set()
        if self._subscription is not None:
            self._subscription.stop(grace_seconds)
        self._deleting.set()
        self._runner.wake()
        self._waiting.close()
        for thread in self._threads:
            thread.join(grace_seconds)
        self._runner.stop()
        self._deps.scheduler.stop()

    def hosts_known(self) -> list[str]:
        """The hosts that could be chosen, as far as the scheduler knows."""
        return sorted(self._deps.scheduler.snapshot.by_host)

    def reclaim(self) -> None:
        """Soft-deleted servers whose time is over are deleted."""
        if reclaiming.reclaim(self._deps):
            self._deleting.set()

    def build(self, ctx: Context, instance_uuids: tuple[str, ...]) -> None:
        self._waiting.add(instance_uuids)

    def move(self, ctx: Context, move_uuids: tuple[str, ...]) -> None:
        self._runner.wake()

    def see_through_deletes(self, ctx: Context, instance_uuids: tuple[str, ...]) -> None:
        self._deleting.set()

    def _place(self) -> None:
        """Whatever has gathered while the last batch was placed makes the next one."""
        while not self._stopping.is_set():
            wanted = self._waiting.take(BATCH)
            if wanted and not self._stopping.is_set():
                self._guarded(partial(placing.place, self._deps, wanted))

    def _see_through(self) -> None:
        """Woken by a delete, then every `look_seconds` while some are under way, else rarely."""
        waiting, clock = 1, self._deps.cloud.clock
        while not self._stopping.is_set():
            pause = self._deps.settings.look_seconds
            clock.wait(self._deleting, pause if waiting else 10 * pause)
            woken = self._deleting.is_set()
            self._deleting.clear()
            if self._stopping.is_set():
                return
            waiting = 1
            if woken:
                clock.wait(self._stopping, GATHER_SECONDS)  # let a burst of deletes come together
            waiting = self._guarded(lambda: deletes.see_through(self._deps)) or 0

    def _move(self) -> None:
        """Woken by a move that may go on, soon while any waits for its host, else every `look_seconds`."""
        scanned_at = 0.0
        clock, runner, pause = self._deps.cloud.clock, self._runner, self._deps.settings.look_seconds
        while not self._stopping.is_set():
            clock.wait(runner.woken, POLL_SECONDS if runner.waiting else pause)
            woken = runner.woken.is_set()
            runner.woken.clear()
            if self._stopping.is_set():
                return
            if woken or clock.monotonic() - scanned_at >= pause:
                scanned_at = clock.monotonic()
                self._guarded(runner.scan)
            self._guarded(runner.poll)

    def _scan(self) -> None:
        with self._deps.cloud.db.connect() as tx:
            found = build_requests.untaken(tx, self._deps.cloud.clock.now(), BATCH)
        self._waiting.add(found)

    def _discover(self) -> None:
        discovery.discover(self._deps)

    def _retain(self) -> None:
        retention.keep_up(self._deps, self._stopping.is_set)

    def _tidy(self) -> None:
        before = self._deps.cloud.clock.now() - KEEP_CHANGES
        self._deps.cloud.db.run(lambda tx: changes.purge(tx, before))
        self._deps.cloud.db.run(lambda tx: idempotency_keys.purge(tx, self._deps.cloud.clock.now()))
        self._runner.tidy()

    def _repeat(self, seconds: float, work: Callable[[], None]) -> None:
        while not self._stopping.is_set():
            self._guarded(work)
            self._deps.cloud.clock.wait(self._stopping, seconds)

    def _guarded(self, work: Callable[[], int | None]) -> int | None:
        """The edge of a thread: what goes wrong is logged, and the thread lives on."""
        try:
            return work()
        except Unavailable as error:
            log.warning("work waits", extra={"about": {"reason": str(error)}})
        except Exception:
            log.exception("unexpected error in a duty")
        return 1

    def _run(self, name: str, work: Callable[[], None]) -> None:
        thread = threading.Thread(target=work, name=f"super-conductor-{name}", daemon=True)
        self._threads.append(thread)
        thread.start()
