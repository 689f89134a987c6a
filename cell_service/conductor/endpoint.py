"""The implementation of the Conductor contract."""

from __future__ import annotations

import json
import logging
from dataclasses import replace

from sqlalchemy import Connection

from cell_service.conductor import outcomes, power
from cell_service.conductor.context import ConductorContext
from cell_service.conductor.events import take_over as take_over_events
from cell_service.context import Context
from cell_service.db import actions, claims, compute_nodes, instances, operations, services, stages
from cell_service.errors import SecretsUnreadable, ServiceNotFound
from cell_service.logs import about
from cell_service.model.events import ServerEvent
from cell_service.model.host import NodeReport
from cell_service.model.instance import Instance
from cell_service.model.lifecycle import PowerState, Task
from cell_service.model.operation import ClaimedOperation, Outcome, Phase
from cell_service.operations.table import declared, event_of
from cell_service.rpc.conductor import Conductor, GuestDecision, GuestReport, HostRegistration, HostStatus

log = logging.getLogger(__name__)


class ConductorEndpoint(Conductor):
    """Any number of these serve one cell side by side; they share nothing but its database."""

    def __init__(self, deps: ConductorContext) -> None:
        self._deps = deps

    def register_host(self, ctx: Context, registration: HostRegistration) -> HostStatus:
        now = self._deps.now()
        waits = None if self._deps.settings.enable_new_services else "New compute service disabled due to config."

        def work(tx: Connection) -> HostStatus:
            service = services.register(
                tx,
                host=registration.host,
                binary=services.COMPUTE,
                topic=f"compute.{registration.host}",
                version=registration.version,
                now=now,
                disabled_reason=waits,
            )
            for node in registration.nodes:
                compute_nodes.report(tx, service.id, registration.host, node, now)
            return HostStatus(service.uuid, service.disabled, service.forced_down)

        status = self._deps.db.run(work)
        log.info("host registered", extra=about(ctx, host=registration.host, nodes=len(registration.nodes)))
        return status

    def heartbeat(self, ctx: Context, host: str, nodes: tuple[NodeReport, ...]) -> int:
        """Raises ServiceNotFound when the host must register again."""
        now = self._deps.now()

        def work(tx: Connection) -> int:
            if not services.heartbeat(tx, host, services.COMPUTE, now):
                raise ServiceNotFound(service_id=f"{services.COMPUTE} on {host}")
            if nodes:
                service = services.by_host(tx, host, services.COMPUTE)
                for node in nodes:
                    compute_nodes.report(tx, service.id, host, node, now)
            return operations.open_for(tx, host, now)

        return self._deps.db.run(work)

    def claim_operations(
        self,
        ctx: Context,
        host: str,
        limit: int,
        owner: str,
        builds: int | None = None,
        holding: tuple[int, ...] = (),
    ) -> tuple[ClaimedOperation, ...]:
        """See the contract. A host that was forced down, or is leaving for another cell, gets nothing."""
        now = self._deps.now()

        def work(tx: Connection) -> list[ClaimedOperation]:
            service = services.by_host(tx, host, services.COMPUTE)
            if service.forced_down or service.leaving:
                return []
            claimed = []
            for each in claims.claim(
                tx,
                host,
                owner=owner,
                now=now,
                lease_seconds=self._deps.settings.lease_seconds,
                limit=limit,
                builds=builds,
                holding=holding,
            ):
                if each.instance.deleted_at and not declared(each.operation).removes_leftovers:
                    operations.finish(tx, each.operation, Phase.SUPERSEDED, now)
                else:
                    claimed.append(each)
            steps = [
                (each.action_id, event, host)
                for each in claimed
                if each.action_id is not None and (event := event_of(each.operation)) is not None
            ]
            actions.start_events(tx, steps, now)
            stages.begin(tx, claimed, now)
            return claimed

        claimed = self._deps.db.run(work)
        for one in claimed:
            log.info(
                "operation claimed",
                extra=about(
                    ctx,
                    host=host,
                    instance=one.instance.uuid,
                    operation=one.id,
                    kind=one.operation.kind,
                    fence=one.fence,
                    request=one.operation.request_id,
                ),
            )
        return tuple(opened for one in claimed if (opened := self._opened(ctx, one)) is not None)

    def _opened(self, ctx: Context, claimed: ClaimedOperation) -> ClaimedOperation | None:
        """The operation with its secrets opened; None when they can't be: it is claimed again when its lease ends."""
        if claimed.sealed is None:
            return claimed
        try:
            secrets = json.loads(self._deps.db.sealer().open(claimed.sealed))
        except SecretsUnreadable as error:
            log.error("operation not given to its host", extra=about(ctx, operation=claimed.id, reason=error))
            return None
        return replace(claimed, sealed=None, secrets=secrets)

    def renew_leases(self, ctx: Context, host: str, held: dict[str, int]) -> tuple[int, ...]:
        now, seconds = self._deps.now(), self._deps.settings.lease_seconds

        def work(tx: Connection) -> tuple[int, ...]:
            return tuple(
                int(key)
                for key, fence in sorted(held.items(), key=lambda item: int(item[0]))
                if not operations.renew(tx, int(key), fence, now=now, lease_seconds=seconds)
            )

        return self._deps.db.run(work)

    def wake(self, ctx: Context) -> None:
        self._deps.work.set()

    def operation_progress(self, ctx: Context, operation_id: int, fence: int, task_state: str) -> None:
        """See the contract. Late reports and unknown task states are dropped."""
        try:
            task = Task(task_state)
        except ValueError:
            log.warning("unknown task state", extra=about(ctx, operation=operation_id, task_state=task_state))
            return
        now = self._deps.now()
        self._deps.db.run_alone(lambda tx: stages.reach(tx, operation_id, fence, task, now))

    def operation_done(self, ctx: Context, outcome: Outcome) -> None:
        outcomes.record(self._deps, outcome)

    def reconcile(self, ctx: Context, host: str, guests: tuple[GuestReport, ...]) -> tuple[GuestDecision, ...]:
        return power.reconcile(self._deps, ctx, host, guests)

    def external_events(self, ctx: Context, events: tuple[ServerEvent, ...]) -> None:
        take_over_events(self._deps, ctx, events)

    def power_event(self, ctx: Context, host: str, instance_uuid: str, power_state: PowerState) -> None:
        power.take_over(self._deps, ctx, host, instance_uuid, power_state)

    def known_deleted(self, ctx: Context, instance_uuids: tuple[str, ...]) -> tuple[str, ...]:
        with self._deps.db.connect() as tx:
            found = instances.get_many(tx, instance_uuids, deleted=True)
        return tuple(uuid for uuid, instance in found.items() if instance.deleted_at is not None)

    def instances_on_host(self, ctx: Context, host: str) -> tuple[Instance, ...]:
        with self._deps.db.connect() as tx:
            return tuple(instances.on_host(tx, host))
