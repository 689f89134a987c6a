"""The steps towards the destination.

Each step may be done again from its beginning; what it returns says whether it is done. A step that waits for a host
answers False until the host is through. Steps raise Failed, Overtaken, Unavailable and OperationLost.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection

from api_cell.servers import act
from api_cell.servers import move as asking
from api_cell.superconductor.moves import claims, errands, ownership, rows
from api_cell.superconductor.moves.turn import Elsewhere, Turn
from cell_service.db import operations
from cell_service.model.lifecycle import Task, VmState
from cell_service.model.move import Errand, MoveKind
from cell_service.model.operation import HELD_BY_GUESTS, IMAGE, Kind

_COLD = (MoveKind.COLD, MoveKind.RESIZE)
_ENDED = {MoveKind.COLD: "finished", MoveKind.RESIZE: "finished", MoveKind.LIVE: "completed",
          MoveKind.EVACUATE: "done", MoveKind.UNSHELVE: "done"}  # fmt: skip


def begin(turn: Turn) -> bool:
    """As the API does it; for when it was killed before."""
    now = turn.means.cloud.clock.now()
    turn.source.db.run(lambda tx: asking.begin_in(tx, turn.ctx, turn.move, now), turn.ctx.deadline)
    return True


def unburden(turn: Turn) -> bool:
    """What the dead host was asked to do with volumes and ports is done without it: the next host gets the instance as
    it is then. One after the other."""

    def work(tx: Connection) -> int | None:
        for each in operations.unfinished(tx, turn.move.instance_uuid):
            if each.kind in HELD_BY_GUESTS and each.host in (turn.move.source_host, None):
                if each.host is not None:
                    operations.hand_over(tx, each.id, each.fence)
                return each.id
        return None

    operation_id = turn.source.db.run(work, turn.ctx.deadline)
    if operation_id is None:
        return True
    turn.note(errand=Errand(turn.source.mapping.id, operation_id))
    act.wake(turn.ctx, turn.source, None)
    return False


def choose(turn: Turn) -> bool:
    claims.choose(turn)
    return True


def carry_over(turn: Turn) -> bool:
    """In another cell: the instance is known there, hidden."""
    if turn.move.crosses:
        rows.carry_over(turn)
    return True


def leave(turn: Turn) -> bool:
    """The guest at the source is ready to be taken over, and what that needs is known."""
    live = turn.move.kind is MoveKind.LIVE
    if turn.plan.errand is None:
        rows.show(turn, turn.source, _task(turn, Task.RESIZE_MIGRATING), "running" if live else "migrating")
    arguments = {"live": live, "shutdown": turn.plan.clean_shutdown}
    outcome = errands.ask(turn, turn.source, turn.move.source_host, Kind.MOVE_OUT, arguments, "out")
    if outcome is None:
        return False
    errands.demand(outcome)
    luggage, was_running = outcome.result.get("luggage", {}), bool(outcome.result.get("was_running"))
    turn.note(luggage=luggage, was_running=was_running, errand=None, done=(*turn.plan.done, "leave"))
    return True


def arrive(turn: Turn) -> bool:
    """The guest is at the destination, and does not run."""
    if turn.plan.errand is None:
        rows.show(turn, turn.source, _task(turn, Task.RESIZE_MIGRATED), "post-migrating")
    luggage = None if turn.move.kind in (MoveKind.EVACUATE, MoveKind.UNSHELVE) else turn.plan.luggage
    arguments = {**errands.guest(turn), "luggage": luggage, "admin_password": turn.plan.admin_password,
                 IMAGE: turn.plan.image or None}  # fmt: skip
    outcome = errands.ask(turn, turn.target, turn.move.target_host, Kind.MOVE_IN, arguments, "in")
    if outcome is None:
        return False
    if outcome.fault is not None and _may_go_elsewhere(turn):
        raise Elsewhere(outcome.fault.message)
    errands.demand(outcome)
    return True


def seal(turn: Turn) -> bool:
    """In another cell: nobody changes the instance any more, and the copy is exact."""
    if turn.move.crosses:
        rows.carry_over(turn, seal=True)
    return True


def commit(turn: Turn) -> bool:
    """From here on the instance is the destination's: by its mapping, or within a cell by its row."""
    turn.demand_lease()
    if turn.move.crosses:
        ownership.hand_over(turn, turn.move.source_cell, turn.target, "commit")
    else:
        rows.settle_here(turn)
    return True


def reopen(turn: Turn) -> bool:
    if turn.move.crosses:
        rows.reopen(turn, turn.target, turn.source)
    return True


def run(turn: Turn) -> bool:
    """The guest runs at the destination, if it ran. What fails is tried again, and then told as a fault."""
    kind, plan = turn.move.kind, turn.plan
    if plan.errand is None:
        rows.show(turn, turn.target, _task(turn, Task.RESIZE_FINISH), _ENDED[kind] if kind in _COLD else "running")
    runs = plan.was_running if kind in _COLD else plan.before != VmState.STOPPED.value
    live = kind is MoveKind.LIVE
    arguments = {**errands.guest(turn), "run": runs, "live": live, "luggage": plan.luggage if live else None,
                 IMAGE: plan.image or None}  # fmt: skip
    return errands.start(turn, turn.target, turn.move.target_host, arguments, "run")


def settle(turn: Turn) -> bool:
    """The instance has no task any more: moved, or with a fault if its guest did not start."""
    kind, fault = turn.move.kind, turn.plan.fault
    vm_state = VmState.RESIZED if kind in _COLD else VmState.ERROR if fault else rows.after_move(turn)
    more: dict[str, Any] = {} if kind is MoveKind.LIVE else {"launched_at": turn.means.cloud.clock.now()}
    claims.keep_flavor(turn)
    if kind is MoveKind.UNSHELVE and not fault:
        claims.keep_zone(turn)
    rows.finish(turn, turn.target, status=_ENDED[kind], vm_state=vm_state, fault=fault, **more)
    return True


def _task(turn: Turn, cold: Task) -> Task:
    """The task that shows, by kind; `cold` for resizes and cold migrations."""
    return {MoveKind.LIVE: Task.MIGRATING, MoveKind.EVACUATE: Task.REBUILDING,
            MoveKind.UNSHELVE: Task.UNSHELVING}.get(turn.move.kind, cold)  # fmt: skip


def _may_go_elsewhere(turn: Turn) -> bool:
    """Nobody named the host, and not as many as may be have been tried."""
    plan = turn.plan
    if turn.move.kind is MoveKind.UNSHELVE or plan.target_host is not None or turn.stays_on_host:
        return False
    return len(plan.tried) + 1 < turn.means.scheduler.max_attempts
