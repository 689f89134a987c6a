"""Evacuation: the server of a host that is down is made again on another one. The dead host removes what it has of the
server when it is back."""

from __future__ import annotations

from sqlalchemy import Connection

from api_cell.servers import act
from api_cell.servers.moves import kinds
from api_cell.superconductor.moves import rows
from api_cell.superconductor.moves.recipe import MoveRecipe, Step
from api_cell.superconductor.moves.step_context import StepContext
from api_cell.superconductor.moves.steps import (
    COMMIT,
    COPY_ROWS,
    FREEZE,
    RELEASE,
    REOPEN,
    Shown,
    activate,
    begin,
    choose,
    launched,
    prepare_destination,
)
from cell_service.db import instances, operations
from cell_service.model.lifecycle import Task
from cell_service.model.move import AwaitedTask, MovePhase, Owner
from cell_service.operations.table import declared


def detach_from_dead_host(context: StepContext) -> bool:
    """Have conductors do or end, one after the other, what the dead host has not finished: the next host gets the
    instance as it is then, and shows that it is made again. Only clean-ups wait for the dead host."""

    def work(tx: Connection) -> int | None:
        instances.lock_row(tx, context.move.instance_uuid)
        for each in operations.unfinished(tx, context.move.instance_uuid):
            if not declared(each).removes_leftovers and each.host in (context.move.source_host, None):
                if each.host is not None:
                    operations.hand_over(tx, each.id, each.fence)
                return each.id
        if context.plan.awaited is not None and rows.living(tx, context.move.instance_uuid).task_state is None:
            now = context.deps.cloud.clock.now()
            instances.change(tx, context.move.instance_uuid, now=now, task_state=Task.REBUILDING)
        return None

    operation_id = context.source.db.run(work, context.ctx.deadline)
    if operation_id is None:
        return True
    context.note(awaited=AwaitedTask(context.source.mapping.id, operation_id))
    act.wake(context.ctx, context.source, None)
    return False


def settle(context: StepContext) -> bool:
    """End the move: the instance runs, or is off as it was, or in ERROR if its guest did not start."""
    rows.finish(
        context, context.target, status="done", vm_state=rows.after_move(context), fault=context.plan.fault,
        changes=launched(context),
    )  # fmt: skip
    return True


EVACUATION = MoveRecipe(
    kind=kinds.EVACUATION,
    steps=(
        begin(undone="failed"),
        Step("unburden", detach_from_dead_host),
        choose(),
        COPY_ROWS,
        prepare_destination(Shown(Task.REBUILDING, "post-migrating"), from_image=True),
        FREEZE,
        COMMIT,
        REOPEN,
        activate(Shown(Task.REBUILDING, "running"), "compute_rebuild_instance"),
        RELEASE,
        Step("settle", settle),
    ),
    after=MovePhase.TIDYING,
    owner=Owner.TARGET,
)
