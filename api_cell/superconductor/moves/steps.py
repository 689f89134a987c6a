"""The steps towards the destination that several kinds of moves share, and what undoes them.

Each step may be done again from its beginning; what it returns says whether it is done. A step that waits for a host
answers False until the host is through. Steps raise Failed, Superseded, Unavailable and OperationLost.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from api_cell.servers.moves import kinds, request
from api_cell.superconductor.moves import claims, host_tasks, ownership, rows, secrets
from api_cell.superconductor.moves.host_tasks import HostTask
from api_cell.superconductor.moves.recipe import Commit, Do, Step
from api_cell.superconductor.moves.release import release_instance
from api_cell.superconductor.moves.step_context import Elsewhere, StepContext, StepFailed
from cell_service import wire
from cell_service.model.lifecycle import Task, VmState
from cell_service.operations.host_tasks import (
    ACTIVATE,
    PREPARE_DESTINATION,
    PREPARE_SOURCE,
    ActivateArguments,
    PrepareDestinationArguments,
    PrepareSourceArguments,
    PrepareSourceResult,
)


@dataclass(frozen=True, slots=True)
class Shown:
    """The task of the instance and the status of its migration that show while a step is under way."""

    task: Task
    status: str


def begin(undone: str) -> Step:
    """Show in the cell that the instance moves. `undone`: the status of the migration of a move that was undone."""

    def undo(context: StepContext) -> bool:
        cancelled = context.plan.cancelled
        fault = context.plan.fault or ("" if cancelled else "The move was given up.")
        status = "cancelled" if cancelled else undone
        rows.finish(context, context.source, status=status, vm_state=rows.before(context), fault=fault)
        return True

    backwards = (Step("let_go", release_instance, in_one_transaction=True), Step("settle_undone", undo))
    return Step(kinds.BEGIN, _begin, undo=backwards, for_any_host=True)


def _begin(context: StepContext) -> bool:
    """Begin the move in the cell: the API has done it unless it was killed first."""
    move, now = context.move, context.deps.cloud.clock.now()
    earlier = request.earlier_moves(context.deps.cloud, move)
    context.source.db.run(lambda tx: request.begin_in(tx, context.ctx, move, earlier, now), context.ctx.deadline)
    return True


def choose(*, may_stay: bool = False, zone_as_requested: bool = False) -> Step:
    """Choose and claim the destination; the instance's own allocation passes to the move."""

    def do(context: StepContext) -> bool:
        claims.choose(context, may_stay=may_stay, zone_as_requested=zone_as_requested)
        return True

    return Step("choose", do, undo=(RESTORE_CLAIMS,), in_one_transaction=True)


def restore_claims(context: StepContext) -> bool:
    """Give the instance its old allocation again, and its old flavor in its request spec."""
    claims.restore(context)
    claims.keep_flavor(context, context.plan.old_flavor)
    return True


def copy_rows(context: StepContext) -> bool:
    """In another cell: copy the instance, hidden."""
    if context.move.crosses:
        rows.copy(context)
    return True


def prepare_source(shown: Shown, event: str, *, live: bool = False) -> Step:
    """Make the guest at the source ready to be taken over, and learn what that needs."""
    task = HostTask(PREPARE_SOURCE, "out", event)

    def do(context: StepContext) -> bool:
        if context.plan.awaited is None:
            rows.show(context, context.source, shown.task, shown.status)
        arguments = PrepareSourceArguments(live=live, shutdown=context.plan.clean_shutdown)
        outcome = host_tasks.request(context, context.source, context.move.source_host, task, arguments)
        if outcome is None:
            return False
        host_tasks.demand(outcome)
        found = wire.from_plain(PrepareSourceResult, outcome.result)
        plan = context.plan_when_done
        context.record(plan=replace(plan, migrate_data=found.migrate_data, was_running=found.was_running, awaited=None))
        return True

    return Step("leave", do, undo=(Step("restart", restart()),), for_any_host=True)


def restart(event: str | None = None) -> Do:
    """Let the guest at the source go on, if it may have been stopped. If that fails, it is part of the fault."""
    task = HostTask(ACTIVATE, "restart", event)

    def do(context: StepContext) -> bool:
        plan = context.plan
        arguments = ActivateArguments(run=plan.was_running or plan.before == VmState.ACTIVE.value)
        return host_tasks.activate(context, context.source, context.move.source_host, task, arguments)

    return do


def prepare_destination(
    shown: Shown, event: str | None = None, *, live: bool = False, from_image: bool = False, only_there: bool = False,
    undo: tuple[Step, ...] = (),
) -> Step:  # fmt: skip
    """Make the guest at the destination, not running. `from_image`: made from its image or volumes, without what the
    source gave. `only_there`: no other host is tried when this one can't take it."""
    task = HostTask(PREPARE_DESTINATION, "in", event)

    def do(context: StepContext) -> bool:
        plan = context.plan
        if plan.awaited is None:
            rows.show(context, context.source, shown.task, shown.status)
        arguments = PrepareDestinationArguments(
            live=live,
            flavor=plan.new_flavor,
            migrate_data=None if from_image else plan.migrate_data,
            admin_password=secrets.password_of(context) if plan.awaited is None else "",
            image=plan.image or None,
        )
        outcome = host_tasks.request(context, context.target, context.move.target_host, task, arguments)
        if outcome is None:
            return False
        if outcome.fault is not None and not only_there and _may_go_elsewhere(context):
            raise Elsewhere(outcome.fault.message)
        host_tasks.demand(outcome)
        secrets.drop(context)
        return True

    return Step("arrive", do, undo=undo)


def shrink(context: StepContext) -> bool:
    """On the same host: give the guest its old size again. If that fails, it is part of the fault."""
    if not context.stays_on_host:
        return True
    plan = context.plan
    arguments = PrepareDestinationArguments(migrate_data=plan.migrate_data, flavor=plan.old_flavor)
    try:
        outcome = host_tasks.request(context, context.source, context.move.source_host, _SHRINK, arguments)
        if outcome is None:
            return False
        host_tasks.demand(outcome)
    except StepFailed as failed:
        context.note(fault=plan.fault or failed.reason)
    return True


def freeze(context: StepContext) -> bool:
    """In another cell: freeze the source's row, and make the copy exact."""
    if context.move.crosses:
        rows.copy(context, freeze=True)
    return True


def unfreeze(context: StepContext) -> bool:
    """Let the source's row be changed again."""
    if context.move.crosses:
        rows.reopen(context, context.source, None)
    return True


def commit(context: StepContext) -> bool:
    """Make the instance the destination's from here on: by its mapping, or within a cell by its row."""
    context.demand_lease()
    if context.move.crosses:
        ownership.hand_over(context, context.move.source_cell, context.target)
    else:
        rows.hand_over_here(context)
    return True


def reopen(context: StepContext) -> bool:
    """In another cell: show the destination's row as the instance, which may be changed."""
    if context.move.crosses:
        rows.reopen(context, context.target, context.source)
    return True


def activate(shown: Shown, event: str, *, live: bool = False, as_it_ran: bool = False) -> Step:
    """Run the guest at the destination, if it ran (`as_it_ran`: when its host was left; else: when the move was
    requested). A failure is tried again, and is the move's fault then."""
    task = HostTask(ACTIVATE, "run", event)

    def do(context: StepContext) -> bool:
        plan = context.plan
        if plan.awaited is None:
            rows.show(context, context.target, shown.task, shown.status)
        arguments = ActivateArguments(
            live=live,
            flavor=plan.new_flavor,
            run=plan.was_running if as_it_ran else plan.before != VmState.STOPPED.value,
            migrate_data=plan.migrate_data if live else None,
            image=plan.image or None,
        )
        return host_tasks.activate(context, context.target, context.move.target_host, task, arguments)

    return Step("run", do)


def launched(context: StepContext) -> rows.Changes:
    """Record that the instance was launched now."""
    now = context.deps.cloud.clock.now()
    return lambda _instance: {"launched_at": now}


def await_conclusion(context: StepContext) -> bool:
    """Show the instance as resized, so that a client may confirm or revert: the move accepts that already."""
    claims.keep_flavor(context, context.plan.new_flavor)
    rows.finish(
        context, context.target, status="finished", vm_state=VmState.RESIZED, fault=context.plan.fault,
        changes=launched(context),
    )  # fmt: skip
    return True


_SHRINK = HostTask(PREPARE_DESTINATION, "shrink")
SHRINK_BACK = Step("shrink_back", shrink)
RESTORE_CLAIMS = Step("give_back", restore_claims, in_one_transaction=True, formerly=("take_room_back",))
COPY_ROWS = Step("carry_over", copy_rows)
FREEZE = Step("seal", freeze, undo=(Step("open_again", unfreeze),))
COMMIT = Commit("commit", commit)
REOPEN = Step("reopen", reopen)
RELEASE = Step("let_go", release_instance, in_one_transaction=True)


def _may_go_elsewhere(context: StepContext) -> bool:
    """Whether another host may be tried: none was requested, and fewer than `max_attempts` were tried."""
    plan = context.plan
    if plan.target_host is not None or context.stays_on_host:
        return False
    return len(plan.tried) + 1 < context.deps.scheduler.max_attempts
