"""Doing the operations that a host has claimed, and reporting their outcomes until the cell has recorded them."""

from __future__ import annotations

import logging
from collections.abc import Callable

from cell_service.backoff import Backoff
from cell_service.context import Clock, Context, Deadline
from cell_service.errors import OperationLost, PolycellError, Unavailable
from cell_service.logs import about
from cell_service.model.lifecycle import Task
from cell_service.model.operation import ClaimedOperation, Outcome
from compute_host.backlog import Backlog, is_build
from compute_host.cell_link import CellLink
from compute_host.config import HostSettings
from compute_host.operations.context import HostContext, OperationContext
from compute_host.operations.table import perform, undo
from compute_host.timers import Pools, Timers

log = logging.getLogger(__name__)

WORK_SECONDS = 1800.0
REPORT_SECONDS = 30.0
REPORT_ATTEMPTS = 40
"""How often an outcome is reported to a conductor that answers with an unexpected kind of error. As long as no
conductor answers, the report is repeated without end."""
_PAUSES = Backoff(first=0.4, longest=15.0)


class Execution:
    """Does the operations of one host. It calls `ended` after each operation, and `lost` after one that another worker
    has claimed."""

    def __init__(
        self,
        context: HostContext,
        settings: HostSettings,
        *,
        link: CellLink,
        clock: Clock,
        timers: Timers,
        pools: Pools,
        ended: Callable[[], None],
        lost: Callable[[], None],
    ) -> None:
        self._context, self._link, self._clock, self._timers, self._pools = context, link, clock, timers, pools
        self._on_end, self._on_loss = ended, lost
        self.backlog = Backlog(clock, settings.max_concurrent_builds, settings.max_concurrent_verbs, self._begin)
        self.is_stopped = False

    def stop(self) -> None:
        """Report nothing more: unfinished operations are continued after the next start."""
        self.is_stopped = True

    def _begin(self, claimed: ClaimedOperation) -> None:
        pool = self._pools.builds if is_build(claimed) else self._pools.verbs
        try:
            pool.submit(self._work, claimed)
        except RuntimeError:
            log.info("work not begun, the process ends", extra=about(None, host=self._context.host))

    def _work(self, claimed: ClaimedOperation) -> None:
        work = self._context_of(claimed)
        if self.is_stopped:
            return
        try:
            outcome = perform(self._context, work)
        except OperationLost:
            self._lost(claimed, work)
            return
        self._report(claimed, work, outcome, 1)

    def _report(self, claimed: ClaimedOperation, work: OperationContext, outcome: Outcome, attempt: int) -> None:
        if self.is_stopped:
            return
        try:
            self._link.conductor.operation_done(work.ctx.until(Deadline.after(REPORT_SECONDS, self._clock)), outcome)
        except OperationLost:
            self._lost(claimed, work)
            return
        except PolycellError as error:
            shown = about(work.ctx, instance=claimed.instance.uuid, operation=claimed.id, reason=error)
            if isinstance(error, Unavailable) or attempt < REPORT_ATTEMPTS:
                if attempt in (1, 10, 100):
                    log.warning("outcome not reported yet", extra=shown)
                again = attempt + 1
                pause = _PAUSES.pause(attempt)
                self._timers.after(pause, self._pools.control, lambda: self._report(claimed, work, outcome, again))
                return
            log.error("outcome not reported", extra=shown)
        self.backlog.end(claimed)
        self._on_end()

    def _lost(self, claimed: ClaimedOperation, work: OperationContext) -> None:
        """Another worker has claimed the operation, so undo what this host made of a build. That worker may be this
        host before its last restart, so claim the operation again."""
        if self.is_stopped:
            return
        log.warning("operation lost", extra=about(work.ctx, instance=claimed.instance.uuid, operation=claimed.id))
        undo(self._context, work)
        self.backlog.end(claimed)
        self._on_loss()

    def _context_of(self, claimed: ClaimedOperation) -> OperationContext:
        operation = claimed.operation
        left = (operation.deadline - self._clock.now()).total_seconds()
        ctx = Context(
            request_id=operation.request_id,
            user_id=operation.user_id,
            project_id=operation.project_id,
            is_admin=True,
            deadline=Deadline.after(max(60.0, min(left, WORK_SECONDS)), self._clock),
        )

        def check() -> None:
            self.backlog.check(claimed)
            if self.is_stopped:
                raise OperationLost(operation_id=operation.id, fence=operation.fence)

        def progress(task: Task) -> None:
            try:
                self._link.conductor.operation_progress(ctx, operation.id, operation.fence, task.value)
            except Unavailable as error:
                log.info("progress not reported", extra=about(ctx, instance=claimed.instance.uuid, reason=error))

        return OperationContext(ctx, claimed, check, progress)
