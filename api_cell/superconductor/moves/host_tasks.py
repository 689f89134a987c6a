"""The tasks of hosts in a move: operations in a cell, requested once and waited for.

A host task is known by its key, so that a super-conductor which takes the move over finds the one that was requested
already; it has the fence of the requester, so that one which lost the move meanwhile can't request more.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from sqlalchemy import Connection

from api_cell.servers import act
from api_cell.superconductor.moves import rows
from api_cell.superconductor.moves.step_context import StepContext, StepFailed
from cell_service import wire
from cell_service.db import instances, operations, services
from cell_service.errors import OperationLost, ServiceNotFound
from cell_service.model.move import AwaitedTask
from cell_service.model.operation import OUTCOME, Outcome, Phase, StoredOperation
from cell_service.operations.declaration import Operation
from cell_service.operations.host_tasks import (
    ActivateArguments,
    ActivateResult,
    CleanUpArguments,
    PrepareDestinationArguments,
    PrepareSourceArguments,
)
from mapping_db.cells.registry import Cell

MOST_RETRIES = 3


A = TypeVar("A", PrepareSourceArguments, PrepareDestinationArguments, ActivateArguments, CleanUpArguments)


@dataclass(frozen=True, slots=True)
class HostTask(Generic[A]):
    """A task that a step gives to a host. `name`: part of its key, stored, within its phase; `event`: as which event of
    the server's history it shows (Nova's name), if it does."""

    kind: Operation[A, Any]
    name: str
    event: str | None = None


def request(context: StepContext, cell: Cell, host: str | None, task: HostTask[A], arguments: A) -> Outcome | None:
    """The outcome of the host task, perhaps with a fault; None while it is under way.

    Raises Superseded when the instance is being deleted, StepFailed when an administrator has ended the task,
    ServiceNotFound when a clean-up is requested of a host that the cell does not have.
    """
    assert host is not None
    if context.plan.awaited is None:
        context.demand_lease()
        key = f"{context.move.phase.value}/{task.name}/{host}/{context.plan.retries}"
        move = context.move
        requested = replace(arguments, event=task.event, move=move.uuid, fence=move.fence, key=key)
        operation_id = cell.db.run(
            lambda tx: _insert(tx, context, cell, host, task.kind, requested, key), context.ctx.deadline
        )
        context.note(awaited=AwaitedTask(cell.mapping.id, operation_id))
        act.wake(context.ctx, cell, host)
        return None
    waited_for = context.plan.awaited
    with cell.db.connect(context.ctx.deadline) as tx:
        operation = operations.get(tx, waited_for.operation_id)
        if operation is not None and operation.phase in (Phase.OPEN, Phase.RUNNING):
            return None
        if operation is None or operation.phase is Phase.SUPERSEDED:
            if task.kind.removes_leftovers:  # the cell has no rows of the instance any more, and the host nothing to do
                return Outcome(waited_for.operation_id, 0)
            rows.living(tx, context.move.instance_uuid)
    return _outcome(operation)


def demand(outcome: Outcome) -> None:
    """Raises StepFailed when the host task ended with a fault."""
    if outcome.fault is not None:
        raise StepFailed(outcome.fault.message, outcome.fault.code)


def activate(
    context: StepContext, cell: Cell, host: str | None, task: HostTask[ActivateArguments], arguments: ActivateArguments
) -> bool:
    """Have the host run the guest as requested. If it could not after some tries, that is the move's fault."""
    try:
        outcome = request(context, cell, host, task, arguments)
    except StepFailed as failed:
        context.note(fault=context.plan.fault or failed.reason)
        return True
    if outcome is None:
        return False
    rows.take_over(context, cell, outcome)
    if outcome.fault is None:
        if wire.from_plain(ActivateResult, outcome.result).image_gone:
            context.note(image="")
        return True
    if context.plan.retries < MOST_RETRIES:
        context.note(retries=context.plan.retries + 1, awaited=None)
        return False
    context.note(fault=context.plan.fault or outcome.fault.message, code=outcome.fault.code)
    return True


def clear(context: StepContext, cell: Cell, host: str | None, task: HostTask[CleanUpArguments]) -> bool:
    """Have the host remove all of the guest; a host whose service was deleted is left out."""
    if host is None:
        return True
    try:
        return request(context, cell, host, task, CleanUpArguments()) is not None
    except ServiceNotFound:
        return True


def _insert(
    tx: Connection,
    context: StepContext,
    cell: Cell,
    host: str,
    kind: Operation[A, Any],
    arguments: A,
    key: str,
) -> int:
    move, now = context.move, context.deps.cloud.clock.now()
    instances.lock_row(tx, move.instance_uuid)  # of two requests at once one comes after the other
    if kind.removes_leftovers:
        services.keep(tx, host, services.COMPUTE)
    else:
        rows.living(tx, move.instance_uuid)
    for known in operations.of_instance(tx, move.instance_uuid):
        if known.arguments.get("move") == move.uuid:
            if known.arguments["fence"] > move.fence:
                raise OperationLost(operation_id=move.uuid, fence=move.fence)
            if known.arguments["key"] == key:
                return known.id
    sealer = cell.db.sealer_in(tx) if kind.has_secrets else None
    new = operations.new_operation(kind, context.ctx, move.instance_uuid, host, now, arguments, sealer=sealer)
    return operations.insert(tx, new)


def _outcome(operation: StoredOperation | None) -> Outcome:
    if operation is None or operation.phase is Phase.SUPERSEDED:
        raise StepFailed("The move was given up by an administrator.")
    plain = operation.arguments.get(OUTCOME)
    if plain is None:
        raise StepFailed("The host's answer is lost.")
    return wire.from_plain(Outcome, plain)
