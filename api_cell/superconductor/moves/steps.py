"""The steps towards the destination.

Each step may be done again from its beginning; what it returns says whether it is done. A step that waits for a host
answers False until the host is through. Steps raise Failed, Overtaken, Unavailable and OperationLost.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection

from api_cell.servers import act
from api_cell.servers.moves import request as asking
from api_cell.superconductor.moves import claims, ownership, rows
from api_cell.superconductor.moves import host_work as errands
from api_cell.superconductor.moves.step_context import Elsewhere, StepContext
from cell_service.db import operations
from cell_service.model.lifecycle import Task, VmState
from cell_service.model.move import Errand, MoveKind
from cell_service.model.operation import HELD_BY_GUESTS, IMAGE, Kind

_COLD = (MoveKind.COLD, MoveKind.RESIZE)
_ENDED = {MoveKind.COLD: "finished", MoveKind.RESIZE: "finished", MoveKind.LIVE: "completed",
          MoveKind.EVACUATE: "done", MoveKind.UNSHELVE: "done"}  # fmt: skip


def begin(context: StepContext) -> bool:
    """As the API does it; for when it was killed before."""
    now = context.deps.cloud.clock.now()
    context.source.db.run(lambda tx: asking.begin_in(tx, context.ctx, context.move, now), context.ctx.deadline)
    return True


def unburden(context: StepContext) -> bool:
    """What the dead host was asked to do with volumes and ports is done without it: the next host gets the instance as
    it is then. One after the other."""

    def work(tx: Connection) -> int | None:
        for each in operations.unfinished(tx, context.move.instance_uuid):
            if each.kind in HELD_BY_GUESTS and each.host in (context.move.source_host, None):
                if each.host is not None:
                    operations.hand_over(tx, each.id, each.fence)
                return each.id
        return None

    operation_id = context.source.db.run(work, context.ctx.deadline)
    if operation_id is None:
        return True
    context.note(errand=Errand(context.source.mapping.id, operation_id))
    act.wake(context.ctx, context.source, None)
    return False


def choose(context: StepContext) -> bool:
    claims.choose(context)
    return True


def carry_over(context: StepContext) -> bool:
    """In another cell: the instance is known there, hidden."""
    if context.move.crosses:
        rows.carry_over(context)
    return True


def leave(context: StepContext) -> bool:
    """The guest at the source is ready to be taken over, and what that needs is known."""
    live = context.move.kind is MoveKind.LIVE
    if context.plan.errand is None:
        rows.show(context, context.source, _task(context, Task.RESIZE_MIGRATING), "running" if live else "migrating")
    arguments = {"live": live, "shutdown": context.plan.clean_shutdown}
    outcome = errands.ask(context, context.source, context.move.source_host, Kind.MOVE_OUT, arguments, "out")
    if outcome is None:
        return False
    errands.demand(outcome)
    luggage, was_running = outcome.result.get("luggage", {}), bool(outcome.result.get("was_running"))
    context.note(luggage=luggage, was_running=was_running, errand=None, done=(*context.plan.done, "leave"))
    return True


def arrive(context: StepContext) -> bool:
    """The guest is at the destination, and does not run."""
    if context.plan.errand is None:
        rows.show(context, context.source, _task(context, Task.RESIZE_MIGRATED), "post-migrating")
    luggage = None if context.move.kind in (MoveKind.EVACUATE, MoveKind.UNSHELVE) else context.plan.luggage
    arguments = {**errands.guest(context), "luggage": luggage, "admin_password": context.plan.admin_password,
                 IMAGE: context.plan.image or None}  # fmt: skip
    outcome = errands.ask(context, context.target, context.move.target_host, Kind.MOVE_IN, arguments, "in")
    if outcome is None:
        return False
    if outcome.fault is not None and _may_go_elsewhere(context):
        raise Elsewhere(outcome.fault.message)
    errands.demand(outcome)
    return True


def seal(context: StepContext) -> bool:
    """In another cell: nobody changes the instance any more, and the copy is exact."""
    if context.move.crosses:
        rows.carry_over(context, seal=True)
    return True


def commit(context: StepContext) -> bool:
    """From here on the instance is the destination's: by its mapping, or within a cell by its row."""
    context.demand_lease()
    if context.move.crosses:
        ownership.hand_over(context, context.move.source_cell, context.target, "commit")
    else:
        rows.settle_here(context)
    return True


def reopen(context: StepContext) -> bool:
    if context.move.crosses:
        rows.reopen(context, context.target, context.source)
    return True


def run(context: StepContext) -> bool:
    """The guest runs at the destination, if it ran. What fails is tried again, and then told as a fault."""
    kind, plan = context.move.kind, context.plan
    if plan.errand is None:
        rows.show(
            context, context.target, _task(context, Task.RESIZE_FINISH), _ENDED[kind] if kind in _COLD else "running"
        )
    runs = plan.was_running if kind in _COLD else plan.before != VmState.STOPPED.value
    live = kind is MoveKind.LIVE
    arguments = {**errands.guest(context), "run": runs, "live": live, "luggage": plan.luggage if live else None,
                 IMAGE: plan.image or None}  # fmt: skip
    return errands.start(context, context.target, context.move.target_host, arguments, "run")


def settle(context: StepContext) -> bool:
    """The instance has no task any more: moved, or with a fault if its guest did not start."""
    kind, fault = context.move.kind, context.plan.fault
    vm_state = VmState.RESIZED if kind in _COLD else VmState.ERROR if fault else rows.after_move(context)
    more: dict[str, Any] = {} if kind is MoveKind.LIVE else {"launched_at": context.deps.cloud.clock.now()}
    claims.keep_flavor(context)
    if kind is MoveKind.UNSHELVE and not fault:
        claims.keep_zone(context)
    rows.finish(context, context.target, status=_ENDED[kind], vm_state=vm_state, fault=fault, **more)
    return True


def _task(context: StepContext, cold: Task) -> Task:
    """The task that shows, by kind; `cold` for resizes and cold migrations."""
    return {MoveKind.LIVE: Task.MIGRATING, MoveKind.EVACUATE: Task.REBUILDING,
            MoveKind.UNSHELVE: Task.UNSHELVING}.get(context.move.kind, cold)  # fmt: skip


def _may_go_elsewhere(context: StepContext) -> bool:
    """Nobody named the host, and not as many as may be have been tried."""
    plan = context.plan
    if context.move.kind is MoveKind.UNSHELVE or plan.target_host is not None or context.stays_on_host:
        return False
    return len(plan.tried) + 1 < context.deps.scheduler.max_attempts
