"""Bringing a host up: it is registered with its cell and placement, and sends heartbeats from then on."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from cell_service.context import Clock, Context, internal
from cell_service.errors import DriverError, ServiceNotFound
from cell_service.logs import about
from cell_service.rpc.conductor import HostStatus
from cell_service.rpc.transport import Handler
from compute_host.backlog import Backlog
from compute_host.cell_link import CellLink
from compute_host.claiming import Claiming, is_on
from compute_host.config import HostSettings
from compute_host.guest_comparison import GuestComparison
from compute_host.resource_tracker import Tracker
from compute_host.timers import MakeLoop
from compute_host.virt.abilities import nodes_of
from compute_host.virt.driver import Driver, PowerListener

log = logging.getLogger(__name__)


class Registration:
    """Registers one host. `ready` is set when the host is registered and serves."""

    def __init__(
        self,
        settings: HostSettings,
        *,
        driver: Driver,
        power_changed: PowerListener,
        link: CellLink,
        tracker: Tracker,
        claiming: Claiming,
        comparison: GuestComparison,
        backlog: Backlog,
        clock: Clock,
        handler: Callable[[], Handler],
        loop: MakeLoop,
    ) -> None:
        self._host, self._driver, self._link, self._tracker = settings.host, driver, link, tracker
        self._claiming, self._comparison, self._backlog, self._clock = claiming, comparison, backlog, clock
        self._power_changed, self._handler = power_changed, handler
        self.ready = threading.Event()
        self._started_driver = False
        self._status: HostStatus | None = None
        """The cell's last answer about this host; None once it has been handled."""
        self._starting = loop("start", self._start, None)
        self._heartbeat = loop("heartbeat", self._beat, settings.report_seconds)
        self._joining = loop("change of cell", self._join, None)
        self._comparing = loop("reconciliation", comparison.run, settings.sync_power_seconds)
        self._providing = loop("report to placement", self._provide, settings.update_resources_seconds)

    def start(self) -> None:
        """Begin to bring the host up, as soon as driver and conductor answer; returns at once."""
        self._starting.start(0)

    def stop_driver(self) -> None:
        """Disconnect the driver, so that it reports no more changes."""
        if self._started_driver:
            self._driver.stop()

    def compare_soon(self) -> None:
        """Compare the guests with the cell now, before the next period."""
        self._comparing.trigger()

    def join_cell(self, transport_url: str, cell_name: str) -> None:
        """Change to that cell's queue once no operation is claimed any more. Raises NotSupported, Invalid."""
        self._link.plan_join(transport_url, cell_name)
        self._joining.trigger()

    def operation_ended(self) -> None:
        """Continue a change of cell that waits for operations: one has ended."""
        if self._link.is_leaving:
            self._joining.trigger()

    def _start(self) -> None:
        if self.ready.is_set():
            return
        if not self._started_driver:
            self._driver.start(self._power_changed, self._driver_returned)
            self._started_driver = True
        if not is_on(self._driver):
            self._link.serve(self._handler())  # a request may switch the host on
            raise DriverError(reason="The host is off.")
        self._register()
        self._comparison.compare()
        self._link.serve(self._handler())
        self._providing.start(0)
        self._heartbeat.start()
        self._comparing.start()
        self.ready.set()
        self._claiming.trigger()
        log.info("host is up", extra=about(self._ctx(), host=self._host))

    def _register(self) -> None:
        nodes = nodes_of(self._driver)
        self._status = self._link.register(self._ctx(), nodes)
        self._tracker.reported(nodes)

    def _beat(self) -> None:
        """Send a heartbeat, unless the driver fails: a host that can do nothing counts as down then."""
        try:
            nodes = self._tracker.news()
        except DriverError:
            self._comparison.lose_driver()
            raise
        if self._comparison.driver_lost:
            self.compare_soon()
        try:
            waiting = self._link.conductor.heartbeat(self._ctx(), self._host, nodes)
        except ServiceNotFound:
            self._register()
            return
        self._tracker.reported(nodes)
        if waiting:
            self._claiming.trigger()

    def _driver_returned(self) -> None:
        """Called on the driver's thread when the driver answers again."""
        self._comparison.lose_driver(again=True)
        if self.ready.is_set():
            self._heartbeat.trigger()
            self.compare_soon()
        else:
            self._starting.trigger()

    def _provide(self) -> None:
        if self._status is None:
            self._register()
        assert self._status is not None
        status, self._status = self._status, None
        self._tracker.provide(self._ctx(), disabled=status.disabled, whole=True)
        began = self._clock.monotonic()
        self._tracker.heal(self._ctx(), lambda: self._backlog.touched_after(began))

    def _join(self) -> None:
        nodes = nodes_of(self._driver)
        status = self._link.join(self._ctx(), nodes, lambda: not self._backlog.fences())
        if status is None:
            return
        self._tracker.forget_reports()
        self._tracker.reported(nodes)
        self._status = status
        self._heartbeat.trigger()
        self.compare_soon()
        self._claiming.trigger()

    def _ctx(self) -> Context:
        return internal(self._clock, 30)
