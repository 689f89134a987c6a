"""The steps of moves. Each may be done again from its beginning; what it returns says whether it is done.

A step that waits for a host answers False until the host is through. Steps raise Failed, Overtaken, Unavailable and
OperationLost.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from uuid import UUID, uuid5

from sqlalchemy import Connection

from api_cell.servers import move as asking
from api_cell.superconductor.moves import claims, errands, rows
from api_cell.superconductor.moves.turn import Elsewhere, Failed, Overtaken, Turn
from cell_service import wire
from cell_service.db import carry, operations, services
from cell_service.errors import InstanceAlreadyMoved, ServiceNotFound, StillNeeded
from cell_service.model.lifecycle import Task, VmState
from cell_service.model.move import MoveKind, MovePhase, MovePlan
from cell_service.model.operation import EVENT, IMAGE, IMAGE_GONE, Kind, Outcome
from mapping_db import instance_mappings, moves
from mapping_db.cells import Cell
from mapping_db.instance_mappings import InstanceMapping
from mapping_db.locations import Location

MOST_RETRIES = 3
_COLD = (MoveKind.COLD, MoveKind.RESIZE)
_ENDED = {MoveKind.COLD: "finished", MoveKind.RESIZE: "finished", MoveKind.LIVE: "completed",
          MoveKind.EVACUATE: "done", MoveKind.UNSHELVE: "done"}  # fmt: skip

_RESIZE = {"out": "compute_resize_instance", "in": "compute_prep_resize", "run": "compute_finish_resize"}
_LIVE = {"out": "compute_live_migration", "in": "compute_pre_live_migration",
         "run": "compute_post_live_migration_at_destination"}  # fmt: skip
_REVERT = {"stop": "compute_revert_resize", "restart": "compute_finish_revert_resize"}
_EVENTS: dict[tuple[str, str], str] = {
    (of, name): event
    for of, names in {
        MoveKind.COLD: _RESIZE,
        MoveKind.RESIZE: _RESIZE,
        MoveKind.LIVE: _LIVE,
        MoveKind.EVACUATE: {"run": "compute_rebuild_instance"},
        MoveKind.UNSHELVE: {"run": "compute_unshelve_instance"},
        "confirmResize": {"clear_source": "compute_confirm_resize"},
        "revertResize": _REVERT,
    }.items()
    for name, event in names.items()
}
"""The events' names under which users of nova know the errands, by kind of move or the action that ends it."""


def _task(turn: Turn, cold: Task) -> Task:
    """The task that shows, by kind; `cold` for resizes and cold migrations."""
    return {MoveKind.LIVE: Task.MIGRATING, MoveKind.EVACUATE: Task.REBUILDING,
            MoveKind.UNSHELVE: Task.UNSHELVING}.get(turn.move.kind, cold)  # fmt: skip


# -- towards the destination ------------------------------------------------------------------------


def begin(turn: Turn) -> bool:
    """As the API does it; for when it was killed before."""
    now = turn.means.cloud.clock.now()
    turn.source.db.run(lambda tx: asking.begin_in(tx, turn.ctx, turn.move, now), turn.ctx.deadline)
    return True


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
    outcome = _errand(turn, turn.source, turn.move.source_host, Kind.MOVE_OUT, arguments, "out")
    if outcome is None:
        return False
    _demand(outcome)
    luggage, was_running = outcome.result.get("luggage", {}), bool(outcome.result.get("was_running"))
    turn.note(luggage=luggage, was_running=was_running, errand=None, done=(*turn.plan.done, "leave"))
    return True


def arrive(turn: Turn) -> bool:
    """The guest is at the destination, and does not run."""
    if turn.plan.errand is None:
        rows.show(turn, turn.source, _task(turn, Task.RESIZE_MIGRATED), "post-migrating")
    luggage = None if turn.move.kind in (MoveKind.EVACUATE, MoveKind.UNSHELVE) else turn.plan.luggage
    arguments = {**_guest(turn), "luggage": luggage, "admin_password": turn.plan.admin_password,
                 IMAGE: turn.plan.image or None}  # fmt: skip
    outcome = _errand(turn, turn.target, turn.move.target_host, Kind.MOVE_IN, arguments, "in")
    if outcome is None:
        return False
    if outcome.fault is not None and _may_go_elsewhere(turn):
        raise Elsewhere(outcome.fault.message)
    _demand(outcome)
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
        _hand_over(turn, turn.move.source_cell, turn.target, "commit")
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
    arguments = {**_guest(turn), "run": runs, "live": live, "luggage": plan.luggage if live else None,
                 IMAGE: plan.image or None}  # fmt: skip
    return _start(turn, turn.target, turn.move.target_host, arguments, "run")


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


# -- back, before the commit ------------------------------------------------------------------------


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
    return _start(turn, turn.source, move.source_host, arguments, "restart")


def settle_undone(turn: Turn) -> bool:
    """The instance is what it was, with a fault that says why it did not move."""
    cancelled = turn.plan.cancelled
    fault = turn.plan.fault or ("" if cancelled else "The move was given up.")
    status = "cancelled" if cancelled else "failed" if turn.move.kind in (MoveKind.EVACUATE, MoveKind.LIVE) else "error"
    rows.finish(turn, turn.source, status=status, vm_state=rows.before(turn), fault=fault)
    turn.means.cloud.db.run(lambda tx: asking.settle_quota(tx, turn.move, keeps_new=False))
    return True


def pass_on(turn: Turn) -> bool:
    """Another move goes on where this one stood before it chose its destination; this one will clear that up."""
    move, plan, now = turn.move, turn.plan, turn.means.cloud.clock.now()
    successor = replace(
        move,
        uuid=_next_uuid(move),
        phase=MovePhase.GOING,
        created_at=now,
        updated_at=now,
        target_cell=None,
        target_host=None,
        attempt=0,
        fence=1,
        owner=None,
        lease_until=None,
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
    """The cell knows the move that goes on, as well as that this one does not."""
    with turn.means.cloud.db.connect() as tx:
        successor = moves.get(tx, _next_uuid(turn.move))
    if successor is not None:
        rows.pass_on(turn, successor)
    return True


def _next_uuid(move: moves.Move) -> str:
    return str(uuid5(UUID(move.uuid), "next"))


# -- to the end of a resize -------------------------------------------------------------------------


def begin_confirm(turn: Turn) -> bool:
    rows.begin_action(turn, turn.target, None, "confirming")
    return True


def settle_confirmed(turn: Turn) -> bool:
    rows.finish(turn, turn.target, status="confirmed", vm_state=None)
    turn.means.cloud.db.run(lambda tx: asking.settle_quota(tx, turn.move, keeps_new=True))
    return True


def begin_revert(turn: Turn) -> bool:
    rows.begin_action(turn, turn.target, Task.RESIZE_REVERTING, "reverting")
    return True


def stop_there(turn: Turn) -> bool:
    """The guest at the destination stands still. A host that is down has nothing to stop."""
    arguments = {"live": False, "shutdown": turn.plan.clean_shutdown}
    return _errand(turn, turn.target, turn.move.target_host, Kind.MOVE_OUT, arguments, "stop") is not None


def shrink_back(turn: Turn) -> bool:
    """On the same host: the guest has its old size again."""
    if not turn.stays_on_host:
        return True
    arguments = {"luggage": turn.plan.luggage, "live": False, "flavor": _plain(turn.plan.old_flavor)}
    outcome = _errand(turn, turn.source, turn.move.source_host, Kind.MOVE_IN, arguments, "shrink")
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
        _hand_over(turn, turn.move.target_cell, turn.source, "uncommit")
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
    turn.means.cloud.db.run(lambda tx: asking.settle_quota(tx, turn.move, keeps_new=False))
    return True


# -- what the other side has is removed --------------------------------------------------------------


def open_for_delete(turn: Turn) -> bool:
    """Overtaken by a delete: the row of the cell that owns the instance can be deleted, and its migration has ended."""
    if turn.plan.home != "nowhere":
        return True
    owner = _owner(turn)
    cells = (turn.source, turn.target) if turn.move.crosses else (turn.source,)
    mine = next((cell for cell in cells if owner is not None and owner.cell_id == cell.mapping.id), None)
    if mine is not None:
        if turn.move.crosses:
            rows.reopen(turn, mine, None)
        rows.end_migration(turn, mine)
    return True


def clear_source(turn: Turn) -> bool:
    if turn.plan.home == "source" or turn.move.kind is MoveKind.UNSHELVE:
        return True
    return turn.stays_on_host or _clear(turn, turn.source, turn.move.source_host, "clear_source")


def clear_target(turn: Turn) -> bool:
    if turn.plan.home == "target" or turn.move.target_host is None:
        return True
    return turn.stays_on_host or _clear(turn, turn.target, turn.move.target_host, "clear_target")


def release(turn: Turn) -> bool:
    claims.release(turn)
    return True


def forget(turn: Turn) -> bool:
    """The cell that does not own the instance has never heard of it; once nothing is to be done there any more, by
    another move or by a host that has something to remove."""
    if not turn.move.crosses:
        return True
    with turn.means.cloud.db.connect() as tx:
        others = [one for one in moves.of_instance(tx, turn.move.instance_uuid) if one.uuid != turn.move.uuid]
    cells = {turn.move.source_cell, turn.move.target_cell}
    if any(cells & {other.source_cell, other.target_cell} and other.id < turn.move.id for other in others):
        raise StillNeeded(instance_uuid=turn.move.instance_uuid)
    owner, home = _owner(turn), turn.plan.home
    left = {"source": (turn.target,), "target": (turn.source,)}.get(home, (turn.source, turn.target))
    for cell in left:
        if owner is None or owner.cell_id != cell.mapping.id:
            cell.db.run(lambda tx: _forget_in(tx, turn.move.instance_uuid), turn.ctx.deadline)
    return True


def _forget_in(tx: Connection, uuid: str) -> None:
    if operations.is_owed(tx, uuid):
        raise StillNeeded(instance_uuid=uuid)
    carry.remove(tx, [uuid])


# -----------------------------------------------------------------------------------------------------


def _owner(turn: Turn) -> InstanceMapping | None:
    uuid = turn.move.instance_uuid
    with turn.means.cloud.db.connect() as tx:
        return instance_mappings.get_many(tx, [uuid]).get(uuid)


def _errand(
    turn: Turn, cell: Cell, host: str | None, kind: Kind, arguments: dict[str, Any], name: str
) -> Outcome | None:
    assert host is not None
    key = f"{turn.move.phase.value}/{name}/{host}/{turn.plan.retries}"
    event = _EVENTS.get((turn.plan.event_action, name)) or _EVENTS.get((turn.move.kind, name))
    return errands.run(turn, cell, host, kind, {**arguments, EVENT: event}, key)


def _demand(outcome: Outcome) -> None:
    if outcome.fault is not None:
        raise Failed(outcome.fault.message, outcome.fault.code)


def _may_go_elsewhere(turn: Turn) -> bool:
    """Nobody named the host, and not as many as may be have been tried."""
    plan = turn.plan
    if turn.move.kind is MoveKind.UNSHELVE or plan.target_host is not None or turn.stays_on_host:
        return False
    return len(plan.tried) + 1 < turn.means.scheduler.max_attempts


def _start(turn: Turn, cell: Cell, host: str | None, arguments: dict[str, Any], name: str) -> bool:
    try:
        outcome = _errand(turn, cell, host, Kind.MOVE_RUN, arguments, name)
    except Failed as failed:
        turn.note(fault=turn.plan.fault or failed.reason)
        return True
    if outcome is None:
        return False
    rows.take_over(turn, cell, outcome)
    if outcome.fault is None:
        if outcome.result.get(IMAGE_GONE):
            turn.note(image="")
        return True
    if turn.plan.retries < MOST_RETRIES:
        turn.note(retries=turn.plan.retries + 1, errand=None)
        return False
    turn.note(fault=turn.plan.fault or outcome.fault.message, code=outcome.fault.code)
    return True


def _clear(turn: Turn, cell: Cell, host: str | None, name: str) -> bool:
    """Nothing of the guest is left on the host; a host whose service was deleted is not waited for."""
    if host is None:
        return True
    with cell.db.connect(turn.ctx.deadline) as tx:
        try:
            services.by_host(tx, host, services.COMPUTE)
        except ServiceNotFound:
            return True
    return _errand(turn, cell, host, Kind.MOVE_DROP, {}, name) is not None


def _guest(turn: Turn) -> dict[str, Any]:
    return {"live": turn.move.kind is MoveKind.LIVE, "flavor": _plain(turn.plan.new_flavor)}


def _plain(flavor: Any) -> Any:
    return None if flavor is None else wire.to_plain(flavor)


def _hand_over(turn: Turn, source: int, target: Cell, name: str) -> None:
    """The mapping points at the target; with that the step is done."""
    cloud, move, now = turn.means.cloud, turn.move, turn.means.cloud.clock.now()

    def work(tx: Connection) -> tuple[moves.Move, InstanceMapping]:
        mapping = instance_mappings.hold(tx, move.instance_uuid)
        if mapping.queued_for_delete:
            raise Overtaken
        try:
            mapping = instance_mappings.move(tx, move.instance_uuid, source=source, target=target.mapping.id)
        except InstanceAlreadyMoved:
            if mapping.cell_id != target.mapping.id:
                raise
        plan: MovePlan = replace(turn.plan, done=(*turn.plan.done, name))
        return moves.record(tx, move, now, plan=plan), mapping

    turn.move, mapping = cloud.db.run(work)
    cloud.locator.remember(Location(move.instance_uuid, target.mapping.id, mapping.epoch, mapping.project_id))
