"""Resize: a cold migration to a host that has capacity for another flavor, perhaps the same host. It waits to be
confirmed or reverted, and counts for the more of both flavors until then (`api_cell.servers.moves.quota`)."""

from __future__ import annotations

from api_cell.servers.moves import kinds
from api_cell.superconductor.moves.recipe import MoveRecipe
from api_cell.superconductor.moves.steps import (
    COMMIT,
    COPY_ROWS,
    FREEZE,
    REOPEN,
    SHRINK_BACK,
    Shown,
    activate,
    begin,
    choose,
    prepare_destination,
    prepare_source,
)
from cell_service.model.lifecycle import Task
from cell_service.model.move import MovePhase

RESIZE = MoveRecipe(
    kind=kinds.RESIZE,
    steps=(
        begin(undone="error"),
        choose(may_stay=True),
        COPY_ROWS,
        prepare_source(Shown(Task.RESIZE_MIGRATING, "migrating"), "compute_resize_instance"),
        prepare_destination(Shown(Task.RESIZE_MIGRATED, "post-migrating"), "compute_prep_resize", undo=(SHRINK_BACK,)),
        FREEZE,
        COMMIT,
        REOPEN,
        activate(Shown(Task.RESIZE_FINISH, "finished"), "compute_finish_resize", as_it_ran=True),
    ),
    after=MovePhase.WAITING,
)
