"""Unshelving of a server that has left its host: it is made on another one, from the image that shelving has made."""

from __future__ import annotations

from typing import Any

from api_cell.servers.moves import kinds
from api_cell.superconductor.moves import claims, rows
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
from cell_service.model import shelved
from cell_service.model.instance import Instance
from cell_service.model.lifecycle import Task, VmState
from cell_service.model.move import MovePhase, Owner


def settle(context: StepContext) -> bool:
    """End the move: the instance is ACTIVE and no longer shelved, or in ERROR if its guest did not start."""
    move, plan = context.move, context.plan
    launch = launched(context)

    def unshelved(instance: Instance) -> dict[str, Any]:
        known = shelved.ended(instance.system_metadata, image_gone=not plan.image)
        pinned = {"pinned_availability_zone": plan.pin} if plan.pins else {}
        return {**launch(instance), "system_metadata": known, "launched_on": move.target_host, **pinned}

    if plan.fault:
        state, changes = VmState.ERROR, launch
    else:
        claims.keep_zone(context)
        state, changes = VmState.ACTIVE, unshelved
    rows.finish(context, context.target, status="done", vm_state=state, fault=plan.fault, changes=changes)
    return True


UNSHELVING = MoveRecipe(
    kind=kinds.UNSHELVING,
    steps=(
        begin(undone="error"),
        choose(zone_as_requested=True),
        COPY_ROWS,
        prepare_destination(Shown(Task.UNSHELVING, "post-migrating"), from_image=True, only_there=True),
        FREEZE,
        COMMIT,
        REOPEN,
        activate(Shown(Task.UNSHELVING, "running"), "compute_unshelve_instance"),
        RELEASE,
        Step("settle", settle),
    ),
    after=MovePhase.TIDYING,
    owner=Owner.TARGET,
)
