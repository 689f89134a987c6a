"""Cold migration: the guest is off while it goes to another host, and waits there to be confirmed or reverted."""

from __future__ import annotations

from api_cell.servers.moves import kinds
from api_cell.superconductor.moves.recipe import MoveRecipe
from api_cell.superconductor.moves.steps import (
    COMMIT,
    COPY_ROWS,
    FREEZE,
    REOPEN,
    Shown,
    activate,
    begin,
    choose,
    prepare_destination,
    prepare_source,
)
from cell_service.model.lifecycle import Task
from cell_service.model.move import MovePhase

COLD_MIGRATION = MoveRecipe(
    kind=kinds.COLD_MIGRATION,
    steps=(
        begin(undone="error"),
        choose(),
        COPY_ROWS,
        prepare_source(Shown(Task.RESIZE_MIGRATING, "migrating"), "compute_resize_instance"),
        prepare_destination(Shown(Task.RESIZE_MIGRATED, "post-migrating"), "compute_prep_resize"),
        FREEZE,
        COMMIT,
        REOPEN,
        activate(Shown(Task.RESIZE_FINISH, "finished"), "compute_finish_resize", as_it_ran=True),
    ),
    after=MovePhase.WAITING,
)
