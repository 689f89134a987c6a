"""Which recipe a move follows now: that of its kind, that of its conclusion, or what undoes its recorded steps."""

from __future__ import annotations

from api_cell.superconductor.moves.another_host import trying_another_host
from api_cell.superconductor.moves.clean_up import CLEAN_UP
from api_cell.superconductor.moves.cold_migration import COLD_MIGRATION
from api_cell.superconductor.moves.confirm import CONFIRM
from api_cell.superconductor.moves.evacuation import EVACUATION
from api_cell.superconductor.moves.live_migration import LIVE_MIGRATION
from api_cell.superconductor.moves.recipe import MoveRecipe, Recipe
from api_cell.superconductor.moves.resize import RESIZE
from api_cell.superconductor.moves.revert import REVERT
from api_cell.superconductor.moves.unshelving import UNSHELVING
from api_cell.superconductor.moves.waiting import WAIT
from cell_service.errors import UnknownSteps
from cell_service.model.move import MovePhase, Owner
from mapping_db.moves import Move

TO_DESTINATION = {
    recipe.kind.stored: recipe for recipe in (COLD_MIGRATION, RESIZE, LIVE_MIGRATION, EVACUATION, UNSHELVING)
}
LATER = {
    MovePhase.WAITING: WAIT,
    MovePhase.CONFIRMING: CONFIRM,
    MovePhase.REVERTING: REVERT,
    MovePhase.TIDYING: CLEAN_UP,
}
_IN_EVERY_MOVE = frozenset(
    {name for recipe in LATER.values() for name in recipe.names()}
    | {step.name for step in trying_another_host(COLD_MIGRATION, ()).steps}
)


def way_of(move: Move) -> MoveRecipe:
    """The recipe of the move's kind."""
    return TO_DESTINATION[move.kind]


def recipe_of(move: Move) -> Recipe:
    """The steps of the move's phase. Raises UnknownSteps when a step is recorded that this version does not know."""
    way, done = way_of(move), move.plan.done
    unknown = set(done) - way.names() - _IN_EVERY_MOVE
    if unknown:
        raise UnknownSteps(move_uuid=move.uuid, steps=", ".join(sorted(unknown)))
    if move.phase is MovePhase.GOING:
        return way
    if move.phase is MovePhase.UNDOING:
        return Recipe(way.undoing(done), MovePhase.TIDYING, Owner.SOURCE)
    if move.phase is MovePhase.LEAVING:
        return trying_another_host(way, done)
    return LATER[move.phase]


def is_committed(move: Move) -> bool:
    """Whether there is no way back but by reverting."""
    return move.phase is not MovePhase.GOING or way_of(move).is_committed(move.plan.done)
