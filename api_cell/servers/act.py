"""Actions on servers: the change of state and the operation that carries it out are one transaction in the cell."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from api_cell.caller import Caller
from api_cell.servers import find
from api_cell.servers.able import demand_able
from cell_service.context import Context
from cell_service.db import actions, instances, operations
from cell_service.errors import Conflict, InstanceInvalidState, InstanceIsLocked, Unavailable
from cell_service.logs import about
from cell_service.model.instance import Instance
from cell_service.operations.declaration import Operation
from cell_service.operations.rule import begin_on
from mapping_db.cells.registry import Cell
from mapping_db.cloud import Cloud

log = logging.getLogger(__name__)

ATTEMPTS = 5


@dataclass(frozen=True, slots=True)
class Doing:
    """An action: the operation that does it, and the policy rule that allows it."""

    operation: Operation[Any, Any]
    rule: str


Prepare = Callable[[Instance], tuple[Any, dict[str, Any]]]
"""The operation's arguments (None: it has none), and the instance's columns that change with its acceptance."""


@dataclass(frozen=True, slots=True)
class Begun:
    """An accepted action: the operation that carries it out, and where."""

    cell: Cell
    host: str
    operation_id: int


class AlreadyBegun(Conflict):
    """The request has begun the action before."""

    message = "Action '{action}' of request {request_id} has begun already."


def begin(
    cloud: Cloud,
    caller: Caller,
    server_id: str,
    doing: Doing,
    prepare: Prepare = lambda _instance: (None, {}),
    *,
    again: bool = False,
) -> Begun:
    """Accept the action, which will be carried out. `again`: the request was accepted before, and may have begun the
    action already (AlreadyBegun); it waits for a server that is busy (InstanceInvalidState).

    Raises InstanceNotFound, InstanceNotReady, InstanceIsLocked, InstanceInvalidState, PolicyForbidden, CellUnavailable;
    `unable` of the operation when the host lacks the ability that it needs.
    """

    operation = doing.operation

    def work(tx: Connection, cell: Cell) -> Begun:
        for _ in range(ATTEMPTS):
            instance = find.to_change(cloud, caller.ctx, tx, cell, server_id)
            caller.demand(doing.rule, find.target(instance))
            if again:
                _demand_its_turn(tx, caller.ctx, instance, operation)
            demand_unlocked(caller.ctx, instance)
            after = begin_on(operation, instance)
            demand_able(tx, instance, operation)
            arguments, columns = prepare(instance)
            now = cloud.clock.now()
            if instances.change(tx, server_id, now=now, expect=instance.state, task_state=after.task, **columns):
                actions.start(tx, caller.ctx, server_id, operation.action, now)
                sealer = cell.db.sealer_in(tx) if operation.has_secrets else None
                new = operations.new_operation(
                    operation, caller.ctx, server_id, instance.host, now, arguments, sealer=sealer
                )
                return Begun(cell, instance.host or "", operations.insert(tx, new))
        raise InstanceInvalidState(
            action=operation.action, instance_uuid=server_id, attribute="task_state", state=str(instance.task_state)
        )

    begun = find.change(cloud, caller.ctx, server_id, work)
    cell, host = begun.cell, begun.host
    log.info(
        "action accepted",
        extra=about(caller.ctx, instance=server_id, action=operation.action, cell=cell.name, host=host),
    )
    wake(caller.ctx, cell, host)
    return begun


def _demand_its_turn(tx: Connection, ctx: Context, instance: Instance, operation: Operation[Any, Any]) -> None:
    """Raises AlreadyBegun, InstanceInvalidState."""
    if actions.has(tx, instance.uuid, ctx.request_id, operation.action):
        raise AlreadyBegun(action=operation.action, request_id=ctx.request_id)
    if instance.task_state is not None:
        raise InstanceInvalidState(
            action=operation.action, instance_uuid=instance.uuid, attribute="task_state", state=instance.task_state
        )


def demand_unlocked(ctx: Context, instance: Instance) -> None:
    """Raises InstanceIsLocked, but for administrators."""
    if instance.locked and not ctx.is_admin:
        raise InstanceIsLocked(instance_uuid=instance.uuid)


def wake(ctx: Context, cell: Cell, host: str | None) -> None:
    """Notify the host (None: the conductors) of work. The work is recorded: a lost message only delays it."""
    try:
        if host is None:
            cell.conductor().wake(ctx)
        else:
            cell.compute(host).wake(ctx)
    except Unavailable as error:
        log.warning(
            "no agent woken, work waits for the next poll", extra=about(ctx, cell=cell.name, host=host, reason=error)
        )
