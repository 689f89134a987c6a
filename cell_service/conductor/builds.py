"""Builds that fail on a host: they go on to the next alternate, or to ERROR with nothing left behind.

A build that leaves its host is MOVING, and only conductors work on it. Its `arguments` say why it left (`fault`) and
whether it is over (`final`). Steps of a moving build, each safe to repeat:
1. its ports are deleted; 2. its allocation is moved to an alternate; 3. the operation is open for that host and the
   instance points there (one transaction, the operation's fence decides); 4. the host is woken.
No alternate: 2. the instance is ERROR and the operation `final` (one transaction); 3. allocations are released;
4. the operation ends.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection

from cell_service import wire
from cell_service.conductor.context import ConductorContext, about_operation, context_of
from cell_service.context import Context
from cell_service.db import actions, instances, operations, services
from cell_service.errors import InstanceNotFound, InventoryExceeded, MaxRetriesExceeded, OperationLost
from cell_service.model.instance import Fault, Instance
from cell_service.model.lifecycle import Task, VmState
from cell_service.model.operation import Alternate, BuildArguments, Outcome, Phase, StoredOperation
from cell_service.peers.volume_ends import release_volumes

log = logging.getLogger(__name__)


def leave_host(tx: Connection, operation: StoredOperation, outcome: Outcome) -> None:
    """Make the failed build MOVING, so that a conductor claims it next. Raises OperationLost."""
    build = operation.build or BuildArguments()
    tried = replace(build, hosts_tried=(*build.hosts_tried, operation.host or ""))
    arguments = {**operation.arguments, "fault": wire.to_plain(outcome.fault), "final": not outcome.retriable}
    operations.to_moving(tx, operation.id, operation.fence, tried, arguments)


def advance(deps: ConductorContext, operation: StoredOperation) -> None:
    """Bring a moving build, which the caller has claimed, to its next host or to its end.

    Raises OperationLost, PeerUnavailable (to be tried again).
    """
    ctx = context_of(operation, deps.clock)
    if deps.networks is not None and (instance := _instance_of(deps, operation)) is not None:
        deps.networks.deallocate(ctx, instance.uuid, project_id=instance.project_id)
    if not operation.arguments.get("final"):
        if _moved(deps, ctx, operation):
            return
        _give_up(deps, operation)
    _release_volumes(deps, ctx, operation)
    if deps.placement is not None:
        deps.placement.release(ctx, operation.instance_uuid)
    deps.db.run(lambda tx: _end(tx, deps, operation))
    log.warning("build given up", extra=about_operation(deps, operation))


def _instance_of(deps: ConductorContext, operation: StoredOperation) -> Instance | None:
    """The build's instance, also a deleted one."""
    with deps.db.connect() as tx:
        return instances.get_many(tx, [operation.instance_uuid], deleted=True).get(operation.instance_uuid)


def _release_volumes(deps: ConductorContext, ctx: Context, operation: StoredOperation) -> None:
    instance = _instance_of(deps, operation)
    if instance is not None:
        release_volumes(deps.volumes, ctx, instance.uuid, instance.block_devices)


def _moved(deps: ConductorContext, ctx: Context, operation: StoredOperation) -> bool:
    """Whether the build is on its way to another host by now. Raises OperationLost, PeerUnavailable."""
    for alternate in _alternates(deps, operation):
        if deps.placement is not None:
            try:
                deps.placement.move(
                    ctx, operation.instance_uuid, alternate.allocations, operation.project_id, operation.user_id
                )
            except InventoryExceeded as error:
                log.info(
                    "alternate is full", extra=about_operation(deps, operation, alternate=alternate.host, reason=error)
                )
                continue
        try:
            deps.db.run(lambda tx, to=alternate: _reopen(tx, deps, operation, to))  # type: ignore[misc]
        except OperationLost:
            _release_if_deleted(deps, ctx, operation)
            raise
        log.info("build moves", extra=about_operation(deps, operation, to=alternate.host))
        deps.wake(ctx, alternate.host)
        return True
    return False


def _alternates(deps: ConductorContext, operation: StoredOperation) -> Iterator[Alternate]:
    """The hosts that may still be tried: up, enabled, and not tried before."""
    build = operation.build or BuildArguments()
    with deps.db.connect() as tx:
        able = {
            service.host
            for service in services.list_all(tx, binary=services.COMPUTE)
            if not service.disabled and service.is_up(deps.now(), deps.settings.service_down_seconds)
        }
    for alternate in build.alternates:
        if alternate.host in able and alternate.host not in build.hosts_tried:
            yield alternate


def _reopen(tx: Connection, deps: ConductorContext, operation: StoredOperation, to: Alternate) -> None:
    build = operation.build or BuildArguments()
    operations.reopen_on(tx, operation.id, operation.fence, to.host, build)
    instances.change(
        tx,
        operation.instance_uuid,
        now=deps.now(),
        host=to.host,
        node=to.node,
        task_state=Task.SCHEDULING,
        network_info=(),
    )


def _release_if_deleted(deps: ConductorContext, ctx: Context, operation: StoredOperation) -> None:
    """Release what was just allocated for the next host if the instance was deleted in between."""
    with deps.db.connect() as tx:
        try:
            instance = instances.get(tx, operation.instance_uuid)
        except InstanceNotFound:
            instance = None
    if deps.placement is not None and (instance is None or instance.task_state is Task.DELETING):
        deps.placement.release(ctx, operation.instance_uuid)


def _give_up(deps: ConductorContext, operation: StoredOperation) -> None:
    last = _fault_of(deps, operation)
    error = MaxRetriesExceeded(instance_uuid=operation.instance_uuid)
    details = "\n".join(filter(None, (f"Last: {last.message}", last.details)))
    fault = Fault(code=500, message=str(error), created_at=deps.now(), details=details)

    def work(tx: Connection) -> None:
        operations.note(tx, operation.id, operation.fence, {**operation.arguments, "final": True})
        _to_error(tx, deps, operation, fault)

    deps.db.run(work)


def _to_error(tx: Connection, deps: ConductorContext, operation: StoredOperation, fault: Fault) -> None:
    """Set the instance to ERROR, without a host."""
    columns: dict[str, Any] = {"vm_state": VmState.ERROR, "task_state": None, "fault": fault, "network_info": (),
                               "host": None, "node": None}  # fmt: skip
    instance: Instance
    try:
        instance = instances.get(tx, operation.instance_uuid)
    except InstanceNotFound:
        return
    if instance.task_state is not Task.DELETING:
        instances.change(tx, operation.instance_uuid, now=deps.now(), expect=instance.state, **columns)


def _end(tx: Connection, deps: ConductorContext, operation: StoredOperation) -> None:
    operations.finish(tx, operation, Phase.FAILED, deps.now())
    actions.finish(tx, operation.instance_uuid, operation.request_id, deps.now(), message=actions.ERROR)


def _fault_of(deps: ConductorContext, operation: StoredOperation) -> Fault:
    plain = operation.arguments.get("fault")
    if plain is None:
        return Fault(code=500, message="The build was not finished.", created_at=deps.now())
    return wire.from_plain(Fault, plain)
