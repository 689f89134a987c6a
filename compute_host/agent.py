"""The agent of one host: it takes the cell's operations for the host, does them, and tells how they ended.

It owns no threads: its steps run on pools and at times that it shares with other agents of the process. It needs no
database, and outlives the loss of its queue, its conductor and its driver: what could not be told is told later.
"""

from __future__ import annotations

import logging
import random
import threading
from datetime import timedelta

from cell_service.context import Context, Deadline, internal
from cell_service.errors import (
    DriverError,
    NotSupported,
    OperationLost,
    PolycellError,
    ServiceNotFound,
    Unavailable,
)
from cell_service.logs import about
from cell_service.model.instance import Instance
from cell_service.model.lifecycle import PowerState, Task
from cell_service.model.operation import Outcome
from cell_service.peers.network import Networks
from cell_service.peers.placement import Placement
from cell_service.peers.shares import Shares
from cell_service.peers.volumes import Volumes
from cell_service.rpc.conductor import Conductor, HostRegistration, HostStanding
from cell_service.rpc.contract import client, dispatcher
from cell_service.rpc.transport import Subscription, Transport
from compute_host.backlog import Backlog, Held
from compute_host.config import HostSettings
from compute_host.endpoint import ComputeServant
from compute_host.host_queue import Lines
from compute_host.image_cache import ImageCache
from compute_host.operations.context import DriveMaker, HostContext, Job
from compute_host.operations.share_access import HostShares
from compute_host.operations.table import perform, undo
from compute_host.plugging import Plugging
from compute_host.precaching import Precaching
from compute_host.reconcile import reconcile
from compute_host.resource_tracker import Tracker
from compute_host.resume import resume_guests
from compute_host.timers import Pools, Repeated, Timers
from compute_host.virt.driver import Driver, HostSwitch, Sendings

log = logging.getLogger(__name__)

VERSION = 1
WORK_SECONDS = 1800.0
TELL_ATTEMPTS = 40
"""How often an outcome is told to a conductor that answers with an error nobody expects. One that does not answer
is asked for ever."""
CALLING_SECONDS = 0.5
"""How often a guest on its way to another host is called back when something has overtaken its move."""
RESUME_SECONDS = 30.0
"""How long it is tried again to start guests with their host, whose network may come up after it."""


class Agent:
    """`start` returns at once; `ready` is set when the host is registered and serves."""

    def __init__(
        self,
        settings: HostSettings,
        *,
        driver: Driver,
        transport: Transport,
        networks: Networks | None,
        placement: Placement | None,
        images: ImageCache | None,
        timers: Timers,
        pools: Pools,
        drive: DriveMaker | None = None,
        lines: Lines | None = None,
        volumes: Volumes | None = None,
        shares: Shares | None = None,
    ) -> None:
        self.settings, self.driver = settings, driver
        self.ready = threading.Event()
        self._clock = clock = timers.clock
        self._timers, self._pools, self._transport, self._images = timers, pools, transport, images
        self._conductor = client(Conductor, transport)
        self._precaching = Precaching(images, clock, settings.host)
        self._lines = lines
        self._url = lines.url_of(settings.state) if lines else ""
        self._url_to_join = self._url
        self._taking = threading.Lock()
        """Held while operations are taken, and while the host changes its cell."""
        self._plugging = Plugging(clock, settings.plugging_seconds, fatal=settings.plugging_is_fatal)
        self._context = HostContext(
            settings.host, driver, networks, images, clock, settings.shutdown_seconds, drive,
            settings.force_config_drive, volumes,
            None if shares is None else HostShares(
                settings.host, settings.share_address, shares, settings.share_seconds, clock, self._neighbours
            ),
            self._plugging.wait,
        )  # fmt: skip
        self._backlog = Backlog(clock, settings.max_concurrent_builds, settings.max_concurrent_verbs, self._begin_work)
        self._tracker = Tracker(settings.host, driver, placement, self._conductor)
        self._standing: HostStanding | None = None
        """What the cell last said of this host; None once it has been acted upon."""
        self._subscription: Subscription | None = None
        self._started_driver = False
        self._gone = False
        self._crowded = False
        self._driver_lost = False
        """The driver has not answered, or not yet: behind it the host may have been started again."""
        self._resume_until = clock.now()
        self._lose_driver()

        def repeated(what: str, step: object, seconds: float | None) -> Repeated:
            return Repeated(f"{settings.host}: {what}", timers, pools.control, step, seconds)  # type: ignore[arg-type]

        self._starting = repeated("start", self._start, None)
        self._heartbeat = repeated("heartbeat", self._beat, settings.report_seconds)
        self._claiming = repeated("claim", self._claim, None)
        self._joining = repeated("change of cell", self._join, None)
        self._renewing = repeated("renewal of leases", self._renew, None)
        self._renewal_waits = False
        self._calling_back = repeated("calling back of guests", self._call_back, None)
        self._reconciling = repeated("reconciliation", self._reconcile, settings.sync_power_seconds)
        self._providing = repeated("report to placement", self._provide, settings.update_resources_seconds)
        self._loops = (
            self._starting, self._heartbeat, self._claiming, self._joining, self._renewing, self._calling_back,
            self._reconciling, self._providing,
        )  # fmt: skip

    # -- life ----------------------------------------------------------------------------------------

    def start(self) -> None:
        """Bring the host up as soon as driver and conductor answer."""
        self._starting.start(0)

    def close(self) -> None:
        """Take nothing new; what runs goes on."""
        for loop in self._loops:
            loop.stop()
        if self._subscription is not None:
            self._subscription.stop(0)
        self._backlog.close()

    def stop(self, grace_seconds: float = 30.0) -> None:
        """Take nothing new, finish what runs within the grace. What is left is taken up after the next start."""
        self.close()
        if self._subscription is not None:
            self._subscription.stop(min(grace_seconds, 5.0))
        if not self._backlog.wait_idle(grace_seconds):
            log.warning("stopped in the middle of work", extra=about(None, host=self.settings.host))
        self._gone = True
        if self._started_driver:
            self.driver.stop()

    def claim_soon(self) -> None:
        """There may be work for this host."""
        self._claiming.hurry()

    def reconcile_soon(self) -> None:
        """Compare with the cell now rather than at the next time."""
        self._reconciling.hurry()

    def _start(self) -> None:
        if self.ready.is_set():
            return
        if not self._started_driver:
            self.driver.start(self._power_changed, self._driver_returned)
            self._started_driver = True
        if not self._is_on():
            self._subscription = self._subscription or self._serve(self._transport)  # to be told to start
            raise DriverError(reason="The host is off.")
        self._register()
        ctx = self._ctx()
        self._compare()
        if self._subscription is None:
            self._subscription = self._serve(self._transport)
        self._providing.start(0)
        self._heartbeat.start()
        self._reconciling.start()
        self.ready.set()
        self._claiming.hurry()
        log.info("host is up", extra=about(ctx, host=self.settings.host))

    def _serve(self, transport: Transport) -> Subscription:
        servant = ComputeServant(
            self.driver, self.claim_soon, self.join_cell, self._plugging, self.settings.consoles, self._precaching.want
        )
        handler = dispatcher(servant, self._clock)
        return transport.serve(f"compute.{self.settings.host}", handler, threads=2)

    def _register(self) -> None:
        nodes = self.driver.nodes()
        registration = HostRegistration(self.settings.host, VERSION, nodes)
        self._standing = self._conductor.register_host(self._ctx(), registration)
        self._tracker.told(nodes)

    # -- what is done again and again ----------------------------------------------------------------

    def _beat(self) -> None:
        """No driver, no heartbeat: a host that can do nothing goes down by itself."""
        try:
            nodes = self._tracker.news()
        except DriverError:
            self._lose_driver()
            raise
        if self._driver_lost:
            self.reconcile_soon()
        try:
            waiting = self._conductor.heartbeat(self._ctx(), self.settings.host, nodes)
        except ServiceNotFound:
            self._register()
            return
        self._tracker.told(nodes)
        if waiting:
            self.claim_soon()

    def _claim(self) -> None:
        with self._taking:
            if self._url == self._url_to_join:
                self._take()

    def _take(self) -> None:
        if not self.ready.is_set() or not self._is_on():
            return  # what is taken now would fail; it waits for the host
        builds, verbs = self._backlog.room()
        self._crowded = not (builds and verbs)
        if not builds and not verbs:
            return
        works = self._conductor.claim_operations(
            self._ctx(),
            self.settings.host,
            builds + verbs,
            self.settings.host,
            builds,
            tuple(self._backlog.fences()),
        )
        self._crowded = self._crowded or len(works) >= min(builds, verbs)
        if works:
            self._backlog.add(works)
            self._renew_later()
            if self._backlog.overtaken():
                self._calling_back.hurry()

    def _call_back(self) -> None:
        """A guest on its way to another host does not keep what has overtaken it waiting. Again until nothing waits
        so: the sending may begin only now."""
        overtaken = self._backlog.overtaken()
        if overtaken and isinstance(self.driver, Sendings):
            for uuid in overtaken:
                self.driver.steer_sending(uuid, finish=False)
            self._calling_back.start(CALLING_SECONDS)

    def _renew(self) -> None:
        """Only while something is held."""
        self._renewal_waits = False
        held = self._backlog.fences()
        if held:
            named = {str(operation_id): fence for operation_id, fence in held.items()}
            self._backlog.mark_lost(self._conductor.renew_leases(self._ctx(), self.settings.host, named))
            self._renew_later()

    def _renew_later(self) -> None:
        if not self._renewal_waits:
            self._renewal_waits = True
            self._renewing.start(self.settings.renew_seconds)

    def _reconcile(self) -> None:
        self._compare()
        self._ask_left_cell()
        if self._images is not None and self.settings.image_unused_seconds is not None:
            self._images.sweep(self.settings.image_unused_seconds)

    def _compare(self) -> None:
        """Hold what runs against what the cell believes; with a host that was started again, its guests come first."""
        ctx, was_lost = self._ctx(), self._driver_lost
        self._driver_lost = False  # before the look: what is lost during it is lost anew
        try:
            if was_lost and self.settings.resume_guests:
                left = resume_guests(ctx, self._context, self._conductor, self._backlog)
                if left and self._clock.now() < self._resume_until:
                    raise DriverError(reason=f"{left} guests could not be started with the host yet.")
            reconcile(ctx, self.settings.host, self.driver, self._conductor, self._backlog, self._clock)
        except BaseException:
            self._driver_lost = self._driver_lost or was_lost
            raise

    def _ask_left_cell(self) -> None:
        """What the host still has of instances that are gone, only the cell knows in which they were. Asked once."""
        left = self._lines.left(self.settings.state) if self._lines is not None else None
        if self._lines is None or left is None or left == self._url:
            return
        conductor = client(Conductor, self._lines.to(left))
        try:
            reconcile(self._ctx(), self.settings.host, self.driver, conductor, self._backlog, self._clock)
        except Unavailable as error:
            log.info("the cell left does not answer", extra=about(self._ctx(), host=self.settings.host, reason=error))
            return
        self._lines.asked(self.settings.state)

    def _lose_driver(self) -> None:
        if not self._driver_lost:
            self._driver_lost = True
            self._resume_until = self._clock.now() + timedelta(seconds=RESUME_SECONDS)

    def _driver_returned(self) -> None:
        """The driver's listener, on its thread."""
        self._lose_driver()
        self._resume_until = self._clock.now() + timedelta(seconds=RESUME_SECONDS)
        if self.ready.is_set():
            self._heartbeat.hurry()
            self.reconcile_soon()
        else:
            self._starting.hurry()

    def _is_on(self) -> bool:
        return not isinstance(self.driver, HostSwitch) or self.driver.host_is_on()

    def _provide(self) -> None:
        if self._standing is None:
            self._register()
        assert self._standing is not None
        standing, self._standing = self._standing, None
        self._tracker.provide(self._ctx(), disabled=standing.disabled, whole=True)
        began = self._clock.monotonic()
        self._tracker.heal(self._ctx(), lambda: self._backlog.touched_after(began))

    # -- another cell --------------------------------------------------------------------------------

    def join_cell(self, transport_url: str, cell_name: str) -> None:
        """Go over to that cell's queue once nothing is held any more. Raises NotSupported, Invalid."""
        if self._lines is None:
            raise NotSupported(reason="This host cannot change its cell.")
        self._lines.to(transport_url)
        left = None if transport_url == self._url else self._url
        self._lines.join(self.settings.state, transport_url, cell_name, left)
        self._url_to_join = transport_url
        self._joining.hurry()

    def _join(self) -> None:
        """The new cell is told of the host before the old one is left; a cell that does not answer is asked again."""
        url = self._url_to_join
        if self._lines is None or url == self._url or self._backlog.fences():
            return
        transport = self._lines.to(url)
        conductor = client(Conductor, transport)
        nodes = self.driver.nodes()
        standing = conductor.register_host(self._ctx(), HostRegistration(self.settings.host, VERSION, nodes))
        with self._taking:
            if self._backlog.fences():
                return  # taken just before; their end brings us here again
            left, self._subscription = self._subscription, self._serve(transport)
            self._transport, self._conductor, self._url = transport, conductor, url
            self._tracker.follow(conductor)
            self._tracker.told(nodes)
            self._standing = standing
        if left is not None:
            left.stop()
        self._heartbeat.hurry()
        self.reconcile_soon()
        self.claim_soon()
        log.info("host has changed its cell", extra=about(self._ctx(), host=self.settings.host))

    def _neighbours(self, ctx: Context) -> tuple[Instance, ...]:
        return self._conductor.instances_on_host(ctx, self.settings.host)

    # -- work ----------------------------------------------------------------------------------------

    def _begin_work(self, held: Held) -> None:
        pool = self._pools.builds if held.is_build else self._pools.verbs
        try:
            pool.submit(self._work, held)
        except RuntimeError:
            log.info("work not begun, the process ends", extra=about(None, host=self.settings.host))

    def _work(self, held: Held) -> None:
        job = self._job(held)
        if self._gone:
            return
        try:
            outcome = perform(self._context, job)
        except OperationLost:
            if not self._gone:
                self._lost(held, job)
            return
        self._tell(held, job, outcome, 1)

    def _tell(self, held: Held, job: Job, outcome: Outcome, attempt: int) -> None:
        if self._gone:
            return
        try:
            self._conductor.operation_done(self._telling_ctx(job), outcome)
        except OperationLost:
            if not self._gone:
                self._lost(held, job)
            return
        except PolycellError as error:
            if isinstance(error, Unavailable) or attempt < TELL_ATTEMPTS:
                if attempt in (1, 10, 100):
                    log.warning(
                        "outcome not told yet",
                        extra=about(job.ctx, instance=held.uuid, operation=held.id, reason=error),
                    )
                pause = min(15.0, 0.2 * 2 ** min(attempt, 7)) * random.uniform(0.5, 1.5)
                self._timers.after(pause, self._pools.control, lambda: self._tell(held, job, outcome, attempt + 1))
                return
            log.error("outcome not told", extra=about(job.ctx, instance=held.uuid, operation=held.id, reason=error))
        self._end(held)

    def _lost(self, held: Held, job: Job) -> None:
        """Somebody else has the operation: what this host made of a build must not stay. That somebody may have been
        this host before its last restart: it is asked for again."""
        log.warning("operation lost", extra=about(job.ctx, instance=held.uuid, operation=held.id))
        undo(self._context, job)
        self._backlog.end(held)
        self.claim_soon()
        self._go_over()

    def _end(self, held: Held) -> None:
        self._backlog.end(held)
        if self._crowded:
            self.claim_soon()
        self._go_over()

    def _go_over(self) -> None:
        if self._url != self._url_to_join:
            self._joining.hurry()

    def _job(self, held: Held) -> Job:
        operation = held.work.operation
        left = (operation.deadline - self._clock.now()).total_seconds()
        ctx = Context(
            request_id=operation.request_id,
            user_id=operation.user_id,
            project_id=operation.project_id,
            is_admin=True,
            deadline=Deadline.after(max(60.0, min(left, WORK_SECONDS)), self._clock),
        )

        def check() -> None:
            held.check()
            if self._gone:
                raise OperationLost(operation_id=operation.id, fence=operation.fence)

        def progress(task: Task) -> None:
            try:
                self._conductor.operation_progress(ctx, operation.id, operation.fence, task.value)
            except Unavailable as error:
                log.info("progress not told", extra=about(ctx, instance=held.uuid, reason=error))

        return Job(ctx, held.work, check, progress)

    def _power_changed(self, uuid: str, state: PowerState) -> None:
        """The driver's listener: told to the cell on another thread, unless an operation is at it anyway."""
        try:
            self._pools.control.submit(self._tell_power, uuid, state)
        except RuntimeError:
            return

    def _tell_power(self, uuid: str, state: PowerState) -> None:
        if self._gone or self._backlog.is_busy(uuid):
            return
        try:
            self._conductor.power_event(self._ctx(), self.settings.host, uuid, state)
        except Unavailable:
            self.reconcile_soon()

    def _ctx(self) -> Context:
        return internal(self._clock, 30)

    def _telling_ctx(self, job: Job) -> Context:
        return job.ctx.until(Deadline.after(30, self._clock))
