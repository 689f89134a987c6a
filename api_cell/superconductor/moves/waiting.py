"""A resized or migrated server waits to be confirmed or reverted.

The move accepts its conclusion as soon as it is in this phase, before the cell shows the server resized: no client that
sees VERIFY_RESIZE finds a move that is not ready. When the cell shows it the move is parked: no super-conductor has it.
"""

from __future__ import annotations

from api_cell.superconductor.moves.recipe import Recipe, Step
from api_cell.superconductor.moves.steps import await_conclusion
from cell_service.model.move import MovePhase

WAIT = Recipe(steps=(Step("settle", await_conclusion),), after=MovePhase.WAITING)
