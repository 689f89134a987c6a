"""The kinds of moves as those who ask for them know them: the rule that allows one, and what users see of it at first.

How a kind is carried out stands in its recipe (`api_cell.superconductor.moves`), which refers to the same declaration.
"""

from __future__ import annotations

from dataclasses import dataclass

from cell_service.model.move import MoveKind

BEGIN = "begin"
"""The stored name of the first step of every move; the API takes it in the name of the super-conductor."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of move. `action`: its lifecycle rule, and the action's name in the server's history. `called`: its name
    in errors. `first_status`: of the migration that the Compute API shows; "" when it shows none. `can_abort_before`:
    the stored name of the step after which the move can't be aborted any more; "": it never can."""

    stored: MoveKind
    action: str
    called: str
    first_status: str
    can_abort_before: str = ""


COLD_MIGRATION = Kind(MoveKind.COLD, "migrate", "migrate", "pre-migrating")
RESIZE = Kind(MoveKind.RESIZE, "resize", "resize", "pre-migrating")
LIVE_MIGRATION = Kind(MoveKind.LIVE, "live-migration", "os-migrateLive", "queued", can_abort_before="leave")
EVACUATION = Kind(MoveKind.EVACUATE, "evacuate", "evacuate", "accepted")
UNSHELVING = Kind(MoveKind.UNSHELVE, "unshelve", "unshelve", "")

_ALL = {kind.stored: kind for kind in (COLD_MIGRATION, RESIZE, LIVE_MIGRATION, EVACUATION, UNSHELVING)}
assert _ALL.keys() == set(MoveKind)

CONFIRM, REVERT = "confirmResize", "revertResize"
"""The actions that conclude a move: their lifecycle rules, and their names in the server's history."""


def of(stored: MoveKind) -> Kind:
    return _ALL[stored]
