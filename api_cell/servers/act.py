"""Actions on servers: the change of state and the operation that carries it out are one transaction in the cell."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import Connection

from api_cell.caller import Caller
from api_cell.servers import find
from cell_service.context import Context
from cell_service.db import actions, instances, operations
from cell_service.errors import InstanceHasShares, InstanceInvalidState, InstanceIsLocked, InstanceNotReady, Unavailable
from cell_service.logs import about
from cell_service.model import lifecycle
from cell_service.model.instance import Instance
from cell_service.model.operation import Kind
from mapping_db.cells.registry import Cell
from mapping_db.cloud import Cloud

log = logging.getLogger(__name__)

SECONDS_TO_ACT = 600.0
"""After so long an action that no host has finished is given up, with a fault in its record."""
ATTEMPTS = 5


@dataclass(frozen=True, slots=True)
class Doing:
    """An action: what it is, nova's name for it in the server's history and in errors, and the rule that allows it."""

    kind: Kind
    name: str
    rule: str
    seconds: float = SECONDS_TO_ACT


Prepare = Callable[[Instance], tuple[dict[str, Any], dict[str, Any]]]
"""The operation's arguments, and the instance's columns that change with its acceptance."""


@dataclass(frozen=True, slots=True)
class Begun:
    """An accepted action: the operation that carries it out, and where."""

    cell: Cell
    host: str
    operation_id: int


def begin(
    cloud: Cloud, caller: Caller, server_id: str, doing: Doing, prepare: Prepare = lambda _instance: ({}, {})
) -> Begun:
    """The action is accepted and will be carried out.

    Raises InstanceNotFound, InstanceNotReady, InstanceIsLocked, InstanceInvalidState, PolicyForbidden, CellUnavailable.
    """

    def work(tx: Connection, cell: Cell) -> Begun:
        for _ in range(ATTEMPTS):
            instance = find.to_change(cloud, caller.ctx, tx, cell, server_id)
            caller.demand(doing.rule, find.target(instance))
            demand_unlocked(caller.ctx, instance)
            demand_no_shares(instance, doing.kind.value)
            after = lifecycle.begin(doing.kind.value, instance.state, server_id, said=doing.name)
            if instance.host is None:
                raise InstanceNotReady(instance_uuid=server_id)
            arguments, columns = prepare(instance)
            now = cloud.clock.now()
            if instances.change(tx, server_id, now=now, expect=instance.state, task_state=after.task, **columns):
                return Begun(cell, instance.host, _record(tx, cloud, caller.ctx, instance, doing, arguments))
        raise InstanceInvalidState(
            action=doing.name, instance_uuid=server_id, attribute="task_state", state=str(instance.task_state)
        )

    begun = find.change(cloud, caller.ctx, server_id, work)
    cell, host = begun.cell, begun.host
    log.info(
        "action accepted", extra=about(caller.ctx, instance=server_id, action=doing.name, cell=cell.name, host=host)
    )
    wake(caller.ctx, cell, host)
    return begun


def demand_unlocked(ctx: Context, instance: Instance) -> None:
    """Raises InstanceIsLocked, but for administrators."""
    if instance.locked and not ctx.is_admin:
        raise InstanceIsLocked(instance_uuid=instance.uuid)


def demand_no_shares(instance: Instance, action: str) -> None:
    """Raises InstanceHasShares for what no instance with shares can do."""
    if instance.shares and action in lifecycle.WITHOUT_SHARES:
        raise InstanceHasShares(instance_uuid=instance.uuid, action=action)


def wake(ctx: Context, cell: Cell, host: str | None) -> None:
    """Tell the host (None: the conductors) that there is work. The work is recorded: a lost message only delays it."""
    try:
        if host is None:
            cell.conductor().wake(ctx)
        else:
            cell.compute(host).wake(ctx)
    except Unavailable as error:
        log.warning(
            "no agent woken, work waits for the next poll", extra=about(ctx, cell=cell.name, host=host, reason=error)
        )


def _record(
    tx: Connection, cloud: Cloud, ctx: Context, instance: Instance, doing: Doing, arguments: dict[str, Any]
) -> int:
    now = cloud.clock.now()
    actions.start(tx, ctx, instance.uuid, doing.name, now)
    return operations.insert(
        tx,
        ctx,
        instance_uuid=instance.uuid,
        kind=doing.kind,
        host=instance.host,
        now=now,
        deadline=now + timedelta(seconds=doing.seconds),
        arguments=arguments,
    )
