"""Resetting a server's state: an administrator's last resort for one whose work does not come to its end.

An operation that shows in the state is abandoned, and its record says so. One that does not (volumes, ports) goes on,
since only the host knows how far it is; if that is down, conductors do it without it. So does an accepted delete. A
move finds the new state by itself, and is undone or finished; one that waits to be confirmed or reverted waits in vain,
and is confirmed: the server stays where it is.
"""

from __future__ import annotations

import logging
from datetime import datetime

from sqlalchemy import Connection

from api_cell.caller import Caller
from api_cell.servers import act, delete, find, global_records
from api_cell.servers.moves import request as move
from api_cell.services import Services
from cell_service.db import actions, global_updates, instances, operations
from cell_service.db.global_updates import StateReset
from cell_service.model.lifecycle import VmState
from cell_service.model.operation import Phase, StoredOperation
from cell_service.operations.declaration import HostDeath
from cell_service.operations.images import FORGET_IMAGES, ForgetImagesArguments, unfinished_images
from cell_service.operations.table import declared, event_of
from mapping_db.cells.registry import Cell
from mapping_db.cloud import Cloud

log = logging.getLogger(__name__)

RULE = "os_compute_api:os-admin-actions:reset_state"


def state(cloud: Cloud, services: Services, caller: Caller, server_id: str, wanted: VmState) -> None:
    """Set the server to that state, with no task. Raises InstanceNotFound, PolicyForbidden, CellUnavailable."""

    def work(tx: Connection, cell: Cell) -> Cell:
        find.to_change(cloud, caller.ctx, tx, cell, server_id)
        caller.demand(RULE)
        now = cloud.clock.now()
        unfinished = operations.unfinished(tx, server_id)
        waiting = [each for each in unfinished if declared(each).when_host_dies is HostDeath.DO_HERE_ONCE_DEAD]
        _leave_dead_host(tx, waiting, now, delete.down_after(services))
        images = tuple(image for each in unfinished for image in _give_up(tx, each, now))
        if images:
            forget = ForgetImagesArguments(images)
            operations.insert(tx, operations.new_operation(FORGET_IMAGES, caller.ctx, server_id, None, now, forget))
        instances.change(tx, server_id, now=now, vm_state=wanted, task_state=None)
        actions.start(tx, caller.ctx, server_id, "resetState", now)
        actions.finish(tx, server_id, caller.ctx.request_id, now)
        global_updates.record(tx, server_id, StateReset(caller.ctx.user_id, caller.ctx.project_id), now)
        return cell

    cell = find.change(cloud, caller.ctx, server_id, work)
    act.wake(caller.ctx, cell, None)
    if global_records.carry_up(cloud, caller.ctx, cell, server_id):
        move.wake(caller.ctx, services.superconductor, server_id)


def _leave_dead_host(tx: Connection, waiting: list[StoredOperation], now: datetime, down_after_seconds: float) -> None:
    """Have the conductors do what waits for a host that is down."""
    for each in waiting:
        if each.host is not None and delete.awake(tx, each.host, now, down_after_seconds) is None:
            operations.hand_over(tx, each.id, each.fence)


def _give_up(tx: Connection, operation: StoredOperation, now: datetime) -> tuple[str, ...]:
    """End an operation that a reset ends, so that late workers are refused. Answers the images that it was making."""
    if not declared(operation).given_up_by_reset:
        return ()
    operations.finish(tx, operation, Phase.SUPERSEDED, now)
    uuid, request_id = operation.instance_uuid, operation.request_id
    actions.finish_event(
        tx, uuid, request_id, event_of(operation) or "", operation.host, now, result=actions.ERROR,
        details="The state of the server was reset.",
    )  # fmt: skip
    actions.finish(tx, uuid, request_id, now, message=actions.ERROR)
    return unfinished_images([operation])
