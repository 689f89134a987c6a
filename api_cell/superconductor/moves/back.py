"""The steps back to the source: before the commit, and of a resize that is reverted. As in `steps`."""

from __future__ import annotations

from dataclasses import replace

from sqlalchemy import Connection

from api_cell.superconductor.moves import claims, ownership, rows
from api_cell.superconductor.moves import host_work as errands
from api_cell.superconductor.moves.step_context import StepContext
from cell_service.model.lifecycle import Task, VmState
from cell_service.model.move import MoveKind, MovePhase
from cell_service.model.operation import Kind
from mapping_db import moves


def give_back(context: StepContext) -> bool:
    """The instance has its old room, the move that of the destination."""
    if "give_back" not in context.plan.done:
        claims.give_back(context)
        claims.keep_flavor(context)
    return True


def open_again(context: StepContext) -> bool:
    if "carry_over" in context.plan.done and context.move.crosses:
        rows.reopen(context, context.source, None)
    return True


def restart(context: StepContext) -> bool:
    """The guest at the source goes on, if it may have been stopped. That it fails is part of the fault."""
    move = context.move
    if not {"choose", "leave"}.intersection(context.plan.done) or move.kind in (MoveKind.EVACUATE, MoveKind.UNSHELVE):
        return True
    arguments = {"run": context.plan.was_running or context.plan.before == VmState.ACTIVE.value, "live": False}
    return errands.start(context, context.source, move.source_host, arguments, "restart")


def settle_undone(context: StepContext) -> bool:
    """The instance is what it was, with a fault that says why it did not move."""
    cancelled = context.plan.cancelled
    fault = context.plan.fault or ("" if cancelled else "The move was given up.")
    status = (
        "cancelled" if cancelled else "failed" if context.move.kind in (MoveKind.EVACUATE, MoveKind.LIVE) else "error"
    )
    rows.finish(context, context.source, status=status, vm_state=rows.before(context), fault=fault)
    return True


def pass_on(context: StepContext) -> bool:
    """Another move goes on where this one stood before it chose its destination, as soon as the cell knows of it; this
    one will clear that up."""
    move, plan, now = context.move, context.plan, context.deps.cloud.clock.now()
    successor = replace(
        move,
        uuid=moves.next_uuid(move),
        phase=MovePhase.GOING,
        created_at=now,
        updated_at=now,
        target_cell=None,
        target_host=None,
        attempt=0,
        fence=1,
        owner=None,
        lease_until=None,
        not_before=moves.BLOCKED,
        plan=replace(
            plan,
            tried=(*plan.tried, *([move.target_host] if move.target_host else [])),
            done=tuple(name for name in plan.done if name in ("begin", "leave")),
            errand=None,
            retries=0,
            node=None,
            provider_uuid="",
            availability_zone=None,
            fault="",
        ),
    )

    def work(tx: Connection) -> moves.Move:
        after = moves.record(tx, move, now, active=None, plan=replace(plan, done=(*plan.done, "pass_on")))
        moves.insert_new(tx, successor)
        return after

    context.move = context.deps.cloud.db.run(work)
    return True


def show_next(context: StepContext) -> bool:
    """The cell knows the move that goes on, as well as that this one does not; then the other one may."""
    with context.deps.cloud.db.connect() as tx:
        successor = moves.get(tx, moves.next_uuid(context.move))
    if successor is not None:
        rows.pass_on(context, successor)
        context.deps.cloud.db.run(lambda tx: moves.unblock(tx, successor.uuid))
    return True


def begin_revert(context: StepContext) -> bool:
    rows.begin_action(context, context.target, Task.RESIZE_REVERTING, "reverting")
    return True


def stop_there(context: StepContext) -> bool:
    """The guest at the destination stands still. A host that is down has nothing to stop."""
    arguments = {"live": False, "shutdown": context.plan.clean_shutdown}
    return errands.ask(context, context.target, context.move.target_host, Kind.MOVE_OUT, arguments, "stop") is not None


def shrink_back(context: StepContext) -> bool:
    """On the same host: the guest has its old size again."""
    if not context.stays_on_host:
        return True
    arguments = {"luggage": context.plan.luggage, "live": False, "flavor": errands.plain(context.plan.old_flavor)}
    outcome = errands.ask(context, context.source, context.move.source_host, Kind.MOVE_IN, arguments, "shrink")
    if outcome is None:
        return False
    if outcome.fault is not None:
        context.note(fault=outcome.fault.message)
    return True


def carry_back(context: StepContext) -> bool:
    if context.move.crosses:
        rows.carry_over(context, back=True, seal=True)
    return True


def uncommit(context: StepContext) -> bool:
    """From here on the instance is the source's again."""
    context.demand_lease()
    if context.move.crosses:
        assert context.move.target_cell is not None
        ownership.hand_over(context, context.move.target_cell, context.source, "uncommit")
    else:
        rows.settle_back(context)
    return True


def reopen_source(context: StepContext) -> bool:
    if context.move.crosses:
        rows.reopen(context, context.source, context.target)
    return True


def take_room_back(context: StepContext) -> bool:
    return give_back(context)


def settle_reverted(context: StepContext) -> bool:
    fault = context.plan.fault
    rows.finish(context, context.source, status="reverted", vm_state=VmState.ERROR if fault else None, fault=fault)
    return True
