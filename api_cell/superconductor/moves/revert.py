"""A resize or cold migration is reverted: the server goes on where and as it was, and the destination is cleaned up.

It only goes forward: whatever fails is tried again, until the server is back.
"""

from __future__ import annotations

from api_cell.superconductor.moves import host_tasks, ownership, rows
from api_cell.superconductor.moves.host_tasks import HostTask
from api_cell.superconductor.moves.recipe import Commit, Recipe, Step
from api_cell.superconductor.moves.step_context import StepContext
from api_cell.superconductor.moves.steps import RELEASE, RESTORE_CLAIMS, SHRINK_BACK, restart
from cell_service.model.lifecycle import Task, VmState
from cell_service.model.move import MovePhase, Owner
from cell_service.operations.host_tasks import PREPARE_SOURCE, PrepareSourceArguments

_STOP = HostTask(PREPARE_SOURCE, "stop", "compute_revert_resize")


def begin(context: StepContext) -> bool:
    """Show the revert in the server's history, and as its task."""
    rows.begin_action(context, context.target, Task.RESIZE_REVERTING, "reverting")
    return True


def stop(context: StepContext) -> bool:
    """Stop the guest at the destination. A host that is down has nothing to stop."""
    arguments = PrepareSourceArguments(shutdown=context.plan.clean_shutdown)
    return host_tasks.request(context, context.target, context.move.target_host, _STOP, arguments) is not None


def copy_rows_back(context: StepContext) -> bool:
    """In another cell: freeze the destination's row, and make the source's like it, hidden."""
    if context.move.crosses:
        rows.copy(context, back=True, freeze=True)
    return True


def commit(context: StepContext) -> bool:
    """Make the instance the source's again, from here on."""
    context.demand_lease()
    if context.move.crosses:
        assert context.move.target_cell is not None
        ownership.hand_over(context, context.move.target_cell, context.source)
    else:
        rows.hand_back_here(context)
    return True


def reopen(context: StepContext) -> bool:
    """In another cell: show the source's row as the instance, which may be changed again."""
    if context.move.crosses:
        rows.reopen(context, context.source, context.target)
    return True


def settle(context: StepContext) -> bool:
    """End the move: the instance's state is that of its guest, or ERROR if that did not start."""
    fault = context.plan.fault
    rows.finish(context, context.source, status="reverted", vm_state=VmState.ERROR if fault else None, fault=fault)
    return True


REVERT = Recipe(
    steps=(
        Step("begin_revert", begin),
        Step("stop_there", stop),
        SHRINK_BACK,
        Step("carry_back", copy_rows_back),
        Commit("uncommit", commit),
        Step("reopen_source", reopen),
        RESTORE_CLAIMS,
        Step("restart", restart("compute_finish_revert_resize")),
        RELEASE,
        Step("settle_reverted", settle),
    ),
    after=MovePhase.TIDYING,
    owner=Owner.SOURCE,
)
