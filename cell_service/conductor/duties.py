"""The periodic duties of conductors. Every duty may run in several conductors at once: an operation's fence decides
each hand-over."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from datetime import datetime, timedelta

from sqlalchemy import Connection

from cell_service.conductor import builds, dead_hosts, events, outcomes, shelving
from cell_service.conductor.context import ConductorContext, about_operation, pause_seconds
from cell_service.context import internal
from cell_service.db import claims, network_info, operations, services
from cell_service.errors import OperationLost, PolycellError
from cell_service.logs import about
from cell_service.model.host import Service
from cell_service.model.instance import Fault
from cell_service.model.operation import ClaimedOperation, Outcome, Phase, StoredOperation
from cell_service.operations.declaration import Event, HostDeath
from cell_service.operations.table import declared
from cell_service.rpc.conductor import Conductor

log = logging.getLogger(__name__)

VERSION = 1
PURGE_BATCH = 500
HEAL_BATCH = 500
NOTED_EACH = 1 / 6
"""How often a conductor records that it watches, in parts of the time after which a host counts as down."""


class Duties:
    """The duties of one conductor. `owner` names it in the operations it takes."""

    def __init__(self, deps: ConductorContext, owner: str) -> None:
        self._deps = deps
        self._owner = owner
        self._watched_since: float | None = None
        self._noted_at = float("-inf")
        self._checked_at = deps.clock.monotonic()
        self._down: set[str] = set()
        self._healed = 0
        """The row id of the last instance whose ports were scanned."""

    # -- each of these is called every few seconds -----------------------------------------------

    def report(self) -> None:
        """Record that this conductor's service is up."""
        deps = self._deps
        now = deps.now()

        def work(tx: Connection) -> None:
            host = deps.settings.host
            if not services.heartbeat(tx, host, services.CONDUCTOR, now):
                services.register(
                    tx, host=host, binary=services.CONDUCTOR, topic=Conductor.topic, version=VERSION, now=now
                )

        deps.db.run(work)

    def take(self, limit: int, holding: Collection[int] = ()) -> list[ClaimedOperation]:
        """Claim operations for this conductor to do itself (see `do`), without those that it is doing already."""
        deps = self._deps
        return deps.db.run(
            lambda tx: claims.claim(
                tx,
                None,
                owner=self._owner,
                now=deps.now(),
                lease_seconds=deps.settings.lease_seconds,
                limit=limit,
                holding=holding,
            )
        )

    def do(self, claimed: ClaimedOperation) -> None:
        """Work on one claimed operation; what can't be done now is postponed."""
        operation = claimed.operation
        try:
            self._do(claimed)
        except OperationLost:
            log.info("operation claimed by another worker", extra=about_operation(self._deps, operation))
        except PolycellError as error:
            self._postpone(operation)
            log.warning("operation put off", extra=about_operation(self._deps, operation, reason=error))
        except Exception:
            self._postpone(operation)
            log.exception("operation put off", extra=about_operation(self._deps, operation))

    def watch_hosts(self) -> None:
        """Take over the operations of hosts that are down: builds move to other hosts, deletes are done without the
        host; if the host is dead, so is work on volumes and ports. Other operations wait for their deadlines.

        No host counts as down on old data: after a time in which this conductor could not watch (before its start,
        a lost database or queue, its own freezing) it first watches for as long as a heartbeat may be late.
        """
        deps = self._deps
        now = deps.now()
        with deps.db.connect() as tx:
            known = {service.host: service for service in services.list_all(tx, binary=services.COMPUTE)}
            waiting = operations.abandoned(tx, now)
        seeing = self._seeing()
        if seeing:
            self._note_watching(now)
        down = {host for host, service in known.items() if not service.is_up(now, deps.settings.service_down_seconds)}
        self._log(down)
        for operation in waiting:
            host = operation.host or ""
            if self._is_gone(known.get(host), host in down, seeing):
                self._safely(operation, self._leave_dead_host)

    def watch_deadlines(self) -> None:
        """End operations that were not done in time, with a fault that says so."""
        with self._deps.db.connect() as tx:
            late = operations.overdue(tx, self._deps.now())
        for operation in late:
            self._safely(operation, self._too_late)

    def purge(self) -> None:
        """Remove operations that finished long enough ago."""
        deps = self._deps
        before = deps.now() - timedelta(seconds=deps.settings.keep_operations_seconds)
        while deps.db.run(lambda tx: operations.purge(tx, before, PURGE_BATCH)) == PURGE_BATCH:
            pass

    def offload_shelved(self) -> None:
        """Offload instances that were shelved long enough ago."""
        shelving.offload_late(self._deps)

    def heal_network_info(self) -> None:
        """Renew the stored ports of the next instances from the network service; the first follow after the last."""
        with self._deps.db.connect() as tx:
            some = network_info.page(tx, self._healed, HEAL_BATCH)
        self._healed = some[-1].id or 0 if len(some) == HEAL_BATCH else 0
        changed = events.renew(self._deps, internal(self._deps.clock), some)
        if changed:
            log.info("ports of instances had changed", extra=about(None, instances=changed))

    def blinded(self) -> None:
        """Record that this conductor could not watch hosts for a moment: see `watch_hosts`."""
        self._watched_since = None

    # -----------------------------------------------------------------------------------------------

    def _do(self, claimed: ClaimedOperation) -> None:
        operation, host = claimed.operation, claimed.instance.host
        if operation.phase is Phase.MOVING:
            builds.advance(self._deps, operation)
            return
        fault = self._fault(f"Host {host} is down." if host else "The instance has no host.")
        outcomes.conclude(self._deps, claimed, Event.HOST_DIED, Outcome(claimed.id, claimed.fence, fault=fault))

    def _leave_dead_host(self, operation: StoredOperation) -> None:
        death = declared(operation).when_host_dies
        if death is HostDeath.RETRY:
            fault = self._fault(f"Host {operation.host} went down while it was building the instance.")
            self._conclude(operation, Event.HOST_DIED, fault, retriable=True)
        elif death is HostDeath.FAIL:
            self._conclude(operation, Event.HOST_DIED, self._fault(f"Host {operation.host} is down."))
        elif (
            death is HostDeath.DO_HERE
            or (death is HostDeath.DO_HERE_ONCE_DEAD and dead_hosts.is_given_up(self._deps, operation))
        ) and self._deps.db.run(lambda tx: operations.hand_over(tx, operation.id, operation.fence)):
            self._deps.work.set()

    def _too_late(self, operation: StoredOperation) -> None:
        fault = self._fault(f"The {operation.kind} operation was not finished in time.")
        self._conclude(operation, Event.LATE, fault)

    def _conclude(self, operation: StoredOperation, event: Event, fault: Fault, *, retriable: bool = False) -> None:
        """End an operation without its host; how far the host has come is unknown."""
        outcome = Outcome(operation.id, operation.fence, fault=fault, retriable=retriable, host_clean=False)
        with self._deps.db.connect() as tx:
            found = claims.with_instances(tx, [operation.id]).get(operation.id)
        if found is not None and found.fence == operation.fence:
            outcomes.conclude(self._deps, found, event, outcome)

    def _safely(self, operation: StoredOperation, act: Callable[[StoredOperation], None]) -> None:
        try:
            act(operation)
        except OperationLost:
            log.info("operation went on meanwhile", extra=about_operation(self._deps, operation))

    def _postpone(self, operation: StoredOperation) -> None:
        until = self._deps.now() + timedelta(seconds=pause_seconds(operation.attempt))
        self._deps.db.run(lambda tx: operations.postpone(tx, operation.id, operation.fence, until))

    def _seeing(self) -> bool:
        """Whether this conductor has watched without a gap for as long as a heartbeat may be late."""
        settings, now = self._deps.settings, self._deps.clock.monotonic()
        gap, self._checked_at = now - self._checked_at, now
        if self._watched_since is None or gap > max(3 * settings.poll_seconds, settings.service_down_seconds / 2):
            self._watched_since = now
        return now - self._watched_since >= settings.service_down_seconds

    def _note_watching(self, now: datetime) -> None:
        """Record it from time to time, for schedulers: see `services.watched_at`."""
        settings, moment = self._deps.settings, self._deps.clock.monotonic()
        if moment - self._noted_at >= min(settings.report_seconds, settings.service_down_seconds * NOTED_EACH):
            self._deps.db.run(lambda tx: services.note_watching(tx, settings.host, now))
            self._noted_at = moment

    def _is_gone(self, service: Service | None, down: bool, seeing: bool) -> bool:
        if service is not None and service.forced_down:
            return True
        return seeing and (service is None or down)

    def _log(self, down: set[str]) -> None:
        ctx = internal(self._deps.clock)
        for host in down - self._down:
            log.warning("host is down", extra=about(ctx, host=host))
        for host in self._down - down:
            log.info("host is up again", extra=about(ctx, host=host))
        self._down = down

    def _fault(self, message: str) -> Fault:
        return Fault(code=500, message=message, created_at=self._deps.now())
