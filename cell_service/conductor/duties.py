"""What conductors do of their own accord. Every duty may run in several conductors at once: each hand-over is
decided by an operation's fence."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from datetime import timedelta

from sqlalchemy import Connection

from cell_service.conductor import builds, dead_hosts, deletes, events, outcomes, shelving
from cell_service.conductor.context import ConductorContext, context_of
from cell_service.context import internal
from cell_service.db import claims, network_info, operations, services
from cell_service.errors import Conflict, InstanceNotFound, OperationLost, PolycellError
from cell_service.logs import about
from cell_service.model.host import Service
from cell_service.model.instance import Fault
from cell_service.model.operation import HELD_BY_GUESTS, Kind, Operation, Phase
from cell_service.rpc.conductor import Conductor

log = logging.getLogger(__name__)

VERSION = 1
PURGE_BATCH = 500
HEAL_BATCH = 500


class Duties:
    """The duties of one conductor. `owner` names it in the operations it takes."""

    def __init__(self, deps: ConductorContext, owner: str) -> None:
        self._deps = deps
        self._owner = owner
        self._watched_since: float | None = None
        self._looked_at = deps.clock.monotonic()
        self._down: set[str] = set()
        self._healed = 0
        """The row of the last instance whose ports were looked at."""

    # -- each of these is called every few seconds -----------------------------------------------

    def report(self) -> None:
        """This conductor's service is up."""
        deps = self._deps
        now = deps.now()

        def work(tx: Connection) -> None:
            host = deps.settings.host
            if not services.heartbeat(tx, host, services.CONDUCTOR, now):
                services.register(
                    tx, host=host, binary=services.CONDUCTOR, topic=Conductor.topic, version=VERSION, now=now
                )

        deps.db.run(work)

    def take(self, limit: int, holding: Collection[int] = ()) -> list[Operation]:
        """Operations for this conductor to do itself (see `do`), without those it is at already."""
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

    def do(self, operation: Operation) -> None:
        """Bring one taken operation forward; what can't be done now is left for later."""
        try:
            self._do(operation)
        except OperationLost:
            log.info("operation taken by somebody else", extra=self._about(operation))
        except PolycellError as error:
            self._postpone(operation)
            log.warning("operation put off", extra=self._about(operation, reason=error))
        except Exception:
            self._postpone(operation)
            log.exception("operation put off", extra=self._about(operation))

    def watch_hosts(self) -> None:
        """Builds of hosts that are down move on, deletes are done without them, and what only a host that is dead could
        do with volumes and ports; other work waits for its deadline.

        Nobody is taken for dead on old news: after a pause in which this conductor could not see (its start, a
        lost database or queue, its own freezing) it first looks for as long as a host may be silent.
        """
        deps = self._deps
        now = deps.now()
        with deps.db.connect() as tx:
            known = {service.host: service for service in services.list_all(tx, binary=services.COMPUTE)}
            waiting = operations.abandoned(tx, now)
        seeing = self._seeing()
        down = {host for host, service in known.items() if not service.is_up(now, deps.settings.service_down_seconds)}
        self._tell(down)
        for operation in waiting:
            host = operation.host or ""
            if self._is_gone(known.get(host), host in down, seeing):
                self._safely(operation, self._leave_dead_host)

    def watch_deadlines(self) -> None:
        """What was not done in time is given up with a fault that says so."""
        with self._deps.db.connect() as tx:
            late = operations.overdue(tx, self._deps.now())
        for operation in late:
            self._safely(operation, self._too_late)

    def purge(self) -> None:
        """Finished operations go after a while."""
        deps = self._deps
        before = deps.now() - timedelta(seconds=deps.settings.keep_operations_seconds)
        while deps.db.run(lambda tx: operations.purge(tx, before, PURGE_BATCH)) == PURGE_BATCH:
            pass

    def offload_shelved(self) -> None:
        """What was shelved long enough ago leaves its host."""
        shelving.offload_late(self._deps)

    def heal_network_info(self) -> None:
        """The ports of some more instances are shown as they are now; after the last ones begins the first again."""
        with self._deps.db.connect() as tx:
            some = network_info.page(tx, self._healed, HEAL_BATCH)
        self._healed = some[-1].id or 0 if len(some) == HEAL_BATCH else 0
        changed = events.renew(self._deps, internal(self._deps.clock), some)
        if changed:
            log.info("ports of instances had changed", extra=about(None, instances=changed))

    def blinded(self) -> None:
        """This conductor could not see for a moment: see `watch_hosts`."""
        self._watched_since = None

    # -----------------------------------------------------------------------------------------------

    def _do(self, operation: Operation) -> None:
        if operation.phase is Phase.MOVING:
            builds.advance(self._deps, operation)
        elif operation.kind is Kind.DELETE:
            deletes.do_here(self._deps, operation)
        elif operation.kind is Kind.SHELVE_OFFLOAD:
            self._offload(operation)
        elif operation.kind is Kind.BUILD:
            fault = self._fault("The instance has no host to be built on.")
            builds.leave_host(self._deps, operation, fault, retriable=False, host_clean=True)
        elif operation.kind in HELD_BY_GUESTS and operation.kind is not Kind.ATTACH_INTERFACE:
            dead_hosts.do_here(self._deps, operation)
        else:
            outcomes.fail(self._deps, operation, self._fault("The instance has no host."))

    def _offload(self, operation: Operation) -> None:
        try:
            shelving.do_here(self._deps, operation)
        except (Conflict, InstanceNotFound) as error:
            if isinstance(error, OperationLost):
                raise
            outcomes.fail(self._deps, operation, self._fault(str(error)))

    def _leave_dead_host(self, operation: Operation) -> None:
        if operation.kind is Kind.BUILD:
            fault = self._fault(f"Host {operation.host} went down while it was building the instance.")
            builds.leave_host(self._deps, operation, fault, retriable=True, host_clean=False)
        elif operation.kind in (Kind.MOVE_OUT, Kind.MOVE_IN, Kind.MOVE_RUN):
            outcomes.fail(self._deps, operation, self._fault(f"Host {operation.host} is down."))
        elif (
            operation.kind in (Kind.DELETE, Kind.SHELVE_OFFLOAD) or dead_hosts.is_given_up(self._deps, operation)
        ) and self._deps.db.run(lambda tx: operations.hand_over(tx, operation.id, operation.fence)):
            self._deps.work.set()

    def _too_late(self, operation: Operation) -> None:
        fault = self._fault(f"The {operation.kind.value} operation was not finished in time.")
        if operation.kind is Kind.BUILD:
            builds.leave_host(self._deps, operation, fault, retriable=False, host_clean=False)
        else:
            outcomes.fail(self._deps, operation, fault)

    def _safely(self, operation: Operation, act: Callable[[Operation], None]) -> None:
        try:
            act(operation)
        except OperationLost:
            log.info("operation went on meanwhile", extra=self._about(operation))

    def _postpone(self, operation: Operation) -> None:
        until = self._deps.now() + timedelta(seconds=deletes.pause_seconds(operation.attempt))
        self._deps.db.run(lambda tx: operations.postpone(tx, operation.id, operation.fence, until))

    def _seeing(self) -> bool:
        """Whether this conductor has looked without a gap for as long as a host may be silent."""
        settings, now = self._deps.settings, self._deps.clock.monotonic()
        gap, self._looked_at = now - self._looked_at, now
        if self._watched_since is None or gap > max(3 * settings.poll_seconds, settings.service_down_seconds / 2):
            self._watched_since = now
        return now - self._watched_since >= settings.service_down_seconds

    def _is_gone(self, service: Service | None, down: bool, seeing: bool) -> bool:
        if service is not None and service.forced_down:
            return True
        return seeing and (service is None or down)

    def _tell(self, down: set[str]) -> None:
        ctx = internal(self._deps.clock)
        for host in down - self._down:
            log.warning("host is down", extra=about(ctx, host=host))
        for host in self._down - down:
            log.info("host is up again", extra=about(ctx, host=host))
        self._down = down

    def _fault(self, message: str) -> Fault:
        return Fault(code=500, message=message, created_at=self._deps.now())

    def _about(self, operation: Operation, **fields: object) -> dict[str, object]:
        return about(
            context_of(operation, self._deps.clock),
            instance=operation.instance_uuid,
            operation=operation.id,
            kind=operation.kind.value,
            host=operation.host,
            **fields,
        )
