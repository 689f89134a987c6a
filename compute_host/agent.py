"""The agent of one host: it claims the cell's operations for the host, does them, and reports how they ended.

It owns no threads: its steps run on pools and timers that it shares with other agents of the process. It needs no
database, and survives the loss of its queue, its conductor and its driver: it reports later what it could not report.

    registration ── heartbeat, placement, change of cell ──┐
    claiming ────── operations and their leases ───────────┤ cell_link ──► the cell's conductor
    execution ───── operations done, outcomes reported ────┤
    guest_comparison  what runs against what should run ───┘
"""

from __future__ import annotations

import logging

from cell_service.context import Context, internal
from cell_service.errors import Unavailable
from cell_service.logs import about
from cell_service.model.instance import Instance
from cell_service.model.lifecycle import PowerState
from cell_service.rpc.contract import dispatcher
from cell_service.rpc.transport import Handler, Transport
from compute_host.cell_link import CellLink
from compute_host.claiming import Claiming
from compute_host.config import HostSettings
from compute_host.dependencies import HostDependencies
from compute_host.endpoint import ComputeEndpoint
from compute_host.execution import Execution
from compute_host.guest_comparison import GuestComparison
from compute_host.image_cache import ImageCache
from compute_host.operations.context import HostContext
from compute_host.operations.share_access import HostShares
from compute_host.plugging import Plugging
from compute_host.precaching import Precaching
from compute_host.registration import Registration
from compute_host.resource_tracker import Tracker
from compute_host.timers import Pools, Repeated, Step, Timers
from compute_host.virt.driver import Driver

log = logging.getLogger(__name__)


class Agent:
    """`start` returns at once; `ready` is set when the host is registered and serves."""

    def __init__(
        self,
        settings: HostSettings,
        dependencies: HostDependencies,
        *,
        driver: Driver,
        transport: Transport,
        images: ImageCache | None,
        timers: Timers,
        pools: Pools,
    ) -> None:
        """`transport`: the queue of the cell that the host belongs to now."""
        self.settings, self.driver = settings, driver
        self._clock = clock = timers.clock
        self._pools = pools
        self._loops: list[Repeated] = []
        self._link = CellLink(settings.host, settings.state, transport, dependencies.queues)
        self._plugging = Plugging(clock, settings.plugging_seconds, fatal=settings.plugging_is_fatal)
        self._precaching = Precaching(images, clock, settings.host, settings.cached_images.precache_concurrency)
        context = HostContext(
            settings.host, driver, dependencies.networks, images, clock, settings.shutdown_seconds, dependencies.drive,
            settings.force_config_drive, dependencies.volumes, self._shares(dependencies), self._plugging.wait,
        )  # fmt: skip
        self._execution = Execution(
            context,
            settings,
            link=self._link,
            clock=clock,
            timers=timers,
            pools=pools,
            ended=self._operation_ended,
            lost=self._operation_lost,
        )
        self._backlog = self._execution.backlog

        def loop(what: str, step: Step, seconds: float | None) -> Repeated:
            self._loops.append(Repeated(f"{settings.host}: {what}", timers, pools.control, step, seconds))
            return self._loops[-1]

        self._claiming = Claiming(
            settings.host,
            link=self._link,
            backlog=self._backlog,
            driver=driver,
            clock=clock,
            renew_seconds=settings.renew_seconds,
            is_ready=lambda: self.ready.is_set(),
            loop=loop,
        )
        self._registration = Registration(
            settings,
            driver=driver,
            power_changed=self._power_changed,
            link=self._link,
            tracker=Tracker(settings.host, driver, dependencies.placement, self._link),
            claiming=self._claiming,
            comparison=GuestComparison(settings, context, link=self._link, backlog=self._backlog, clock=clock),
            backlog=self._backlog,
            clock=clock,
            handler=self._handler,
            loop=loop,
        )
        self.ready = self._registration.ready
        seconds = settings.cached_images.manager_seconds
        self._tidying = None if images is None or seconds is None else loop("image cache", images.tidy, seconds)

    def start(self) -> None:
        """Bring the host up as soon as driver and conductor answer."""
        self._registration.start()
        if self._tidying is not None:
            self._tidying.start()

    def close(self) -> None:
        """Claim nothing new; running operations go on."""
        for loop in self._loops:
            loop.stop()
        self._link.stop(0)
        self._backlog.close()

    def stop(self, grace_seconds: float = 30.0) -> None:
        """Claim nothing new, and finish running operations within the grace. The next start continues the others."""
        self.close()
        self._link.stop(min(grace_seconds, 5.0))
        if not self._backlog.wait_idle(grace_seconds):
            log.warning("stopped in the middle of work", extra=about(None, host=self.settings.host))
        self._execution.stop()
        self._registration.stop_driver()

    def claim_soon(self) -> None:
        """Poll for operations now: there may be work for this host."""
        self._claiming.trigger()

    def reconcile_soon(self) -> None:
        """Compare the guests with the cell now, before the next period."""
        self._registration.compare_soon()

    def join_cell(self, transport_url: str, cell_name: str) -> None:
        """Change to that cell's queue once no operation is claimed any more. Raises NotSupported, Invalid."""
        self._registration.join_cell(transport_url, cell_name)

    def _handler(self) -> Handler:
        endpoint = ComputeEndpoint(
            self.driver, self.claim_soon, self.join_cell, self._plugging, self.settings.consoles, self._precaching.want
        )
        return dispatcher(endpoint, self._clock)

    def _shares(self, dependencies: HostDependencies) -> HostShares | None:
        if dependencies.shares is None:
            return None
        settings = self.settings
        return HostShares(
            settings.host, settings.share_address, dependencies.shares, settings.share_seconds, self._clock,
            self._instances_here,
        )  # fmt: skip

    def _instances_here(self, ctx: Context) -> tuple[Instance, ...]:
        return self._link.conductor.instances_on_host(ctx, self.settings.host)

    def _operation_ended(self) -> None:
        self._claiming.ended()
        self._registration.operation_ended()

    def _operation_lost(self) -> None:
        self._claiming.trigger()
        self._registration.operation_ended()

    def _power_changed(self, uuid: str, state: PowerState) -> None:
        """The driver's listener: report to the cell on another thread, unless an operation works on the guest."""
        try:
            self._pools.control.submit(self._report_power, uuid, state)
        except RuntimeError:
            return

    def _report_power(self, uuid: str, state: PowerState) -> None:
        if self._execution.is_stopped or self._backlog.is_busy(uuid):
            return
        try:
            self._link.conductor.power_event(internal(self._clock, 30), self.settings.host, uuid, state)
        except Unavailable:
            self.reconcile_soon()
