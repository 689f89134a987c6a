"""The steps back to the source: before the commit, and of a resize that is reverted. As in `steps`."""

from __future__ import annotations

from dataclasses import replace

from sqlalchemy import Connection

from api_cell.superconductor.moves import claims, errands, ownership, rows
from api_cell.superconductor.moves.turn import Turn
from cell_service.model.lifecycle import Task, VmState
from cell_service.model.move import MoveKind, MovePhase
from cell_service.model.operation import Kind
from mapping_db import moves


def give_back(turn: Turn) -> bool:
    """The instance has its old room, the move that of the destination."""
    if "give_back" not in turn.plan.done:
        claims.give_back(turn)
        claims.keep_flavor(turn)
    return True


def open_again(turn: Turn) -> bool:
    if "carry_over" in turn.plan.done and turn.move.crosses:
        rows.reopen(turn, turn.source, None)
    return True


def restart(turn: Turn) -> bool:
    """The guest at the source goes on, if it may have been stopped. That it fails is part of the fault."""
    move = turn.move
    if not {"choose", "leave"}.intersection(turn.plan.done) or move.kind in (MoveKind.EVACUATE, MoveKind.UNSHELVE):
        return True
    arguments = {"run": turn.plan.was_running or turn.plan.before == VmState.ACTIVE.value, "live": False}
    return errands.start(turn, turn.source, move.source_host, arguments, "restart")


def settle_undone(turn: Turn) -> bool:
    """The instance is what it was, with a fault that says why it did not move."""
    cancelled = turn.plan.cancelled
    fault = turn.plan.fault or ("" if cancelled else "The move was given up.")
    status = "cancelled" if cancelled else "failed" if turn.move.kind in (MoveKind.EVACUATE, MoveKind.LIVE) else "error"
    rows.finish(turn, turn.source, status=status, vm_state=rows.before(turn), fault=fault)
    return True


def pass_on(turn: Turn) -> bool:
    """Another move goes on where this one stood before it chose its destination, as soon as the cell knows of it; this
    one will clear that up."""
    move, plan, now = turn.move, turn.plan, turn.means.cloud.clock.now()
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

    turn.move = turn.means.cloud.db.run(work)
    return True


def show_next(turn: Turn) -> bool:
    """The cell knows the move that goes on, as well as that this one does not; then the other one may."""
    with turn.means.cloud.db.connect() as tx:
        successor = moves.get(tx, moves.next_uuid(turn.move))
    if successor is not None:
        rows.pass_on(turn, successor)
        turn.means.cloud.db.run(lambda tx: moves.unblock(tx, successor.uuid))
    return True


def begin_revert(turn: Turn) -> bool:
    rows.begin_action(turn, turn.target, Task.RESIZE_REVERTING, "reverting")
    return True


def stop_there(turn: Turn) -> bool:
    """The guest at the destination stands still. A host that is down has nothing to stop."""
    arguments = {"live": False, "shutdown": turn.plan.clean_shutdown}
    return errands.ask(turn, turn.target, turn.move.target_host, Kind.MOVE_OUT, arguments, "stop") is not None


def shrink_back(turn: Turn) -> bool:
    """On the same host: the guest has its old size again."""
    if not turn.stays_on_host:
        return True
    arguments = {"luggage": turn.plan.luggage, "live": False, "flavor": errands.plain(turn.plan.old_flavor)}
    outcome = errands.ask(turn, turn.source, turn.move.source_host, Kind.MOVE_IN, arguments, "shrink")
    if outcome is None:
        return False
    if outcome.fault is not None:
        turn.note(fault=outcome.fault.message)
    return True


def carry_back(turn: Turn) -> bool:
    if turn.move.crosses:
        rows.carry_over(turn, back=True, seal=True)
    return True


def uncommit(turn: Turn) -> bool:
    """From here on the instance is the source's again."""
    turn.demand_lease()
    if turn.move.crosses:
        assert turn.move.target_cell is not None
        ownership.hand_over(turn, turn.move.target_cell, turn.source, "uncommit")
    else:
        rows.settle_back(turn)
    return True


def reopen_source(turn: Turn) -> bool:
    if turn.move.crosses:
        rows.reopen(turn, turn.source, turn.target)
    return True


def take_room_back(turn: Turn) -> bool:
    return give_back(turn)


def settle_reverted(turn: Turn) -> bool:
    fault = turn.plan.fault
    rows.finish(turn, turn.source, status="reverted", vm_state=VmState.ERROR if fault else None, fault=fault)
    return True
