"""The kinds of moves as clients know them: the rule that allows one, and what users see of it at first.

The steps of a kind are its recipe (`api_cell.superconductor.moves`), which refers to the same declaration.
"""

from __future__ import annotations

from dataclasses import dataclass

from cell_service.model.ability import Ability
from cell_service.model.move import MoveKind
from cell_service.operations import move_rules
from cell_service.operations.move_rules import MoveRequest
from cell_service.operations.shelving import UNSHELVE

BEGIN = "begin"
"""The stored name of the first step of every move; the API does it for the super-conductor."""


@dataclass(frozen=True, slots=True)
class MoveDeclaration:
    """One kind of move. `request`: when it may be requested, and its names in the server's history and in errors.
    `first_status`: of the migration that the Compute API shows; "" when it shows none. `can_abort_before`:
    the stored name of the step after which the move can't be aborted any more; "": it never can. `needs`: the ability
    that its destination must have, and, with `asks_source`, the host that the server leaves; `needs_in_place`: the one
    that is enough where the server stays on its host (None: it never does)."""

    stored: MoveKind
    request: MoveRequest
    first_status: str
    can_abort_before: str = ""
    needs: Ability = Ability.MOVES
    asks_source: bool = True
    needs_in_place: Ability | None = None

    def needed(self, *, stays: bool) -> Ability:
        """The ability that the hosts of the move must have. `stays`: the server stays on its host."""
        return self.needs_in_place or self.needs if stays else self.needs


COLD_MIGRATION = MoveDeclaration(MoveKind.COLD, move_rules.MIGRATE, "pre-migrating")
RESIZE = MoveDeclaration(MoveKind.RESIZE, move_rules.RESIZE, "pre-migrating", needs_in_place=Ability.RESIZES)
LIVE_MIGRATION = MoveDeclaration(MoveKind.LIVE, move_rules.LIVE_MIGRATION, "queued", can_abort_before="leave")
EVACUATION = MoveDeclaration(
    MoveKind.EVACUATE, move_rules.EVACUATE, "accepted", needs=Ability.RECEIVES, asks_source=False
)
UNSHELVING = MoveDeclaration(
    MoveKind.UNSHELVE,
    MoveRequest(UNSHELVE.action, UNSHELVE.action, UNSHELVE.rule),
    "",
    needs=Ability.RECEIVES,
    asks_source=False,
)

_ALL = {kind.stored: kind for kind in (COLD_MIGRATION, RESIZE, LIVE_MIGRATION, EVACUATION, UNSHELVING)}
assert _ALL.keys() == set(MoveKind)

CONFIRM, REVERT = move_rules.CONFIRM_RESIZE.history, move_rules.REVERT_RESIZE.history
"""The names in the server's history of the actions that conclude a move."""


def of(stored: MoveKind) -> MoveDeclaration:
    return _ALL[stored]
