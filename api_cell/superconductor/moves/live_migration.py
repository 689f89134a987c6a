"""Live migration: the guest goes to another host while it runs. It needs no confirmation."""

from __future__ import annotations

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
    prepare_destination,
    prepare_source,
)
from cell_service.model.lifecycle import Task
from cell_service.model.move import MovePhase, Owner


def settle(context: StepContext) -> bool:
    """End the move: the instance is what it was, on its new host, or in ERROR if its guest could not go on there."""
    fault = context.plan.fault
    rows.finish(context, context.target, status="completed", vm_state=rows.after_move(context), fault=fault)
    return True


LIVE_MIGRATION = MoveRecipe(
    kind=kinds.LIVE_MIGRATION,
    steps=(
        begin(undone="failed"),
        choose(),
        COPY_ROWS,
        prepare_source(Shown(Task.MIGRATING, "running"), "compute_live_migration", live=True),
        prepare_destination(Shown(Task.MIGRATING, "post-migrating"), "compute_pre_live_migration", live=True),
        FREEZE,
        COMMIT,
        REOPEN,
        activate(Shown(Task.MIGRATING, "running"), "compute_post_live_migration_at_destination", live=True),
        RELEASE,
        Step("settle", settle),
    ),
    after=MovePhase.TIDYING,
    owner=Owner.TARGET,
)
