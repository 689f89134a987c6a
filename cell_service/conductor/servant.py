"""The Conductor contract, answered."""

from __future__ import annotations

import logging

from sqlalchemy import Connection

from cell_service.conductor import outcomes, power
from cell_service.conductor.events import take_over as take_over_events
from cell_service.conductor.means import Means, event_of
from cell_service.context import Context
from cell_service.db import actions, compute_nodes, instances, operations, services
from cell_service.errors import InstanceNotFound, ServiceNotFound
from cell_service.logs import about
from cell_service.model import lifecycle
from cell_service.model.events import ServerEvent
from cell_service.model.host import NodeReport
from cell_service.model.instance import Instance
from cell_service.model.lifecycle import PowerState, Task
from cell_service.model.operation import Kind, Outcome, Phase, Work
from cell_service.rpc.conductor import Conductor, GuestReport, GuestVerdict, HostRegistration, HostStanding

log = logging.getLogger(__name__)

_STAGES: dict[Kind, tuple[Task | None, ...]] = {
    Kind.BUILD: (None, Task.SCHEDULING, Task.NETWORKING, Task.SPAWNING),
    Kind.REBUILD: (Task.REBUILDING, Task.REBUILD_SPAWNING),
    Kind.SHELVE: (Task.SHELVING, Task.SHELVING_IMAGE_UPLOADING),
    Kind.CREATE_IMAGE: (Task.IMAGE_SNAPSHOT_PENDING, Task.IMAGE_SNAPSHOT, Task.IMAGE_UPLOADING),
    Kind.CREATE_BACKUP: (Task.IMAGE_BACKUP, Task.IMAGE_SNAPSHOT, Task.IMAGE_UPLOADING),
}
"""Which tasks follow one another while such work runs, in this order: news that was overtaken on its way is old."""


class ConductorServant(Conductor):
    """Any number of these serve one cell side by side; they share nothing but its database."""

    def __init__(self, means: Means) -> None:
        self._means = means

    def register_host(self, ctx: Context, registration: HostRegistration) -> HostStanding:
        now = self._means.now()
        waits = None if self._means.settings.enable_new_services else "New compute service disabled due to config."

        def work(tx: Connection) -> HostStanding:
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
            return HostStanding(service.uuid, service.disabled, service.forced_down)

        standing = self._means.db.run(work)
        log.info("host registered", extra=about(ctx, host=registration.host, nodes=len(registration.nodes)))
        return standing

    def heartbeat(self, ctx: Context, host: str, nodes: tuple[NodeReport, ...]) -> int:
        """Raises ServiceNotFound when the host must register anew."""
        now = self._means.now()

        def work(tx: Connection) -> int:
            if not services.heartbeat(tx, host, services.COMPUTE, now):
                raise ServiceNotFound(service_id=f"{services.COMPUTE} on {host}")
            if nodes:
                service = services.by_host(tx, host, services.COMPUTE)
                for node in nodes:
                    compute_nodes.report(tx, service.id, host, node, now)
            return operations.open_for(tx, host, now)

        return self._means.db.run(work)

    def claim_operations(
        self,
        ctx: Context,
        host: str,
        limit: int,
        owner: str,
        builds: int | None = None,
        holding: tuple[int, ...] = (),
    ) -> tuple[Work, ...]:
        """A host that was forced down, or is leaving for another cell, gets nothing."""
        now = self._means.now()

        def work(tx: Connection) -> tuple[Work, ...]:
            service = services.by_host(tx, host, services.COMPUTE)
            if service.forced_down or service.leaving:
                return ()
            taken = operations.claim(
                tx,
                host,
                owner=owner,
                now=now,
                lease_seconds=self._means.settings.lease_seconds,
                limit=limit,
                builds=builds,
                holding=holding,
            )
            found = instances.get_many(tx, [operation.instance_uuid for operation in taken], deleted=True)
            works = []
            for operation in taken:
                instance = found.get(operation.instance_uuid)
                gone = instance is None or (instance.deleted_at and operation.kind is not Kind.MOVE_DROP)
                if instance is None or gone:
                    operations.finish(tx, operation.id, operation.fence, Phase.SUPERSEDED, now)
                    continue
                event = event_of(operation)
                if event is not None:
                    actions.start_event(tx, instance.uuid, operation.request_id, event, host, now)
                works.append(Work(operation, instance))
            return tuple(works)

        works = self._means.db.run(work)
        for one in works:
            log.info(
                "operation taken",
                extra=about(
                    ctx,
                    host=host,
                    instance=one.instance.uuid,
                    operation=one.operation.id,
                    kind=one.operation.kind.value,
                    fence=one.operation.fence,
                    request=one.operation.request_id,
                ),
            )
        return works

    def renew_leases(self, ctx: Context, host: str, held: dict[str, int]) -> tuple[int, ...]:
        now, seconds = self._means.now(), self._means.settings.lease_seconds

        def work(tx: Connection) -> tuple[int, ...]:
            return tuple(
                int(key)
                for key, fence in sorted(held.items(), key=lambda item: int(item[0]))
                if not operations.renew(tx, int(key), fence, now=now, lease_seconds=seconds)
            )

        return self._means.db.run(work)

    def wake(self, ctx: Context) -> None:
        self._means.work.set()

    def operation_progress(self, ctx: Context, operation_id: int, fence: int, task_state: str) -> None:
        """Late and unknown news are dropped."""
        try:
            task = Task(task_state)
        except ValueError:
            log.warning("unknown task state", extra=about(ctx, operation=operation_id, task_state=task_state))
            return
        now, seconds = self._means.now(), self._means.settings.lease_seconds

        def work(tx: Connection) -> None:
            operation = operations.get(tx, operation_id)
            if operation is None or operation.kind not in _STAGES or operation.phase is not Phase.RUNNING:
                return
            if not operations.renew(tx, operation_id, fence, now=now, lease_seconds=seconds):
                return
            try:
                instance = instances.get(tx, operation.instance_uuid)
            except InstanceNotFound:
                return
            allowed = lifecycle.RULES[operation.kind.value].allowed
            if instance.vm_state in allowed and task in _after(operation.kind, instance.task_state):
                instances.change(tx, instance.uuid, now=now, expect=instance.state, task_state=task)

        self._means.db.run(work)

    def operation_done(self, ctx: Context, outcome: Outcome) -> None:
        outcomes.record(self._means, outcome)

    def reconcile(self, ctx: Context, host: str, guests: tuple[GuestReport, ...]) -> tuple[GuestVerdict, ...]:
        return power.reconcile(self._means, ctx, host, guests)

    def external_events(self, ctx: Context, events: tuple[ServerEvent, ...]) -> None:
        take_over_events(self._means, ctx, events)

    def power_event(self, ctx: Context, host: str, instance_uuid: str, power_state: PowerState) -> None:
        power.take_over(self._means, ctx, host, instance_uuid, power_state)

    def known_deleted(self, ctx: Context, instance_uuids: tuple[str, ...]) -> tuple[str, ...]:
        with self._means.db.connect() as tx:
            found = instances.get_many(tx, instance_uuids, deleted=True)
        return tuple(uuid for uuid, instance in found.items() if instance.deleted_at is not None)

    def instances_on_host(self, ctx: Context, host: str) -> tuple[Instance, ...]:
        with self._means.db.connect() as tx:
            return tuple(instances.on_host(tx, host))


def _after(kind: Kind, now: Task | None) -> tuple[Task | None, ...]:
    """The stages that may still come."""
    stages = _STAGES[kind]
    return stages[stages.index(now) + 1 :] if now in stages else ()
