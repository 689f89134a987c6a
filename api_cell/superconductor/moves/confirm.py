"""A resize or cold migration is confirmed: the server stays where it is, and the source is cleaned up."""

from __future__ import annotations

from api_cell.superconductor.moves import rows
from api_cell.superconductor.moves.recipe import Recipe, Step
from api_cell.superconductor.moves.step_context import StepContext
from api_cell.superconductor.moves.steps import RELEASE
from cell_service.model.move import MovePhase, Owner


def begin(context: StepContext) -> bool:
    """Show the confirmation in the server's history."""
    rows.begin_action(context, context.target, None, "confirming")
    return True


def settle(context: StepContext) -> bool:
    """End the move: the instance's state is that of its guest."""
    rows.finish(context, context.target, status="confirmed", vm_state=None)
    return True


CONFIRM = Recipe(
    steps=(Step("begin_confirm", begin), RELEASE, Step("settle_confirmed", settle)),
    after=MovePhase.TIDYING,
    owner=Owner.TARGET,
)
