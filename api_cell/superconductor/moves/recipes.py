"""Which steps make a phase, in order, and what follows when they are done. One of them is the commit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from api_cell.superconductor.moves import back, ending, steps
from api_cell.superconductor.moves.step_context import StepContext
from cell_service.model.move import MoveKind, MovePhase
from mapping_db.moves import Move

Step = Callable[[StepContext], bool]


@dataclass(frozen=True, slots=True)
class Phase:
    """`home`: where the instance lives when the steps are done ("": as before)."""

    steps: tuple[Step, ...]
    after: MovePhase
    home: str = ""


_ARRIVAL: tuple[Step, ...] = (steps.arrive, steps.seal, steps.commit, steps.reopen, steps.run)
_CHOICE: tuple[Step, ...] = (steps.begin, steps.choose, steps.carry_over)
_WITH_SOURCE = (*_CHOICE, steps.leave, *_ARRIVAL)
_WITHOUT_SOURCE = (*_CHOICE, *_ARRIVAL)
_FROM_THE_DEAD: tuple[Step, ...] = (steps.begin, steps.unburden, steps.choose, steps.carry_over, *_ARRIVAL)
_TO_WAIT = (steps.settle,)
_AT_ONCE = (ending.let_go, steps.settle)

GOING: dict[MoveKind, Phase] = {
    MoveKind.COLD: Phase((*_WITH_SOURCE, *_TO_WAIT), MovePhase.WAITING),
    MoveKind.RESIZE: Phase((*_WITH_SOURCE, *_TO_WAIT), MovePhase.WAITING),
    MoveKind.LIVE: Phase((*_WITH_SOURCE, *_AT_ONCE), MovePhase.TIDYING, "target"),
    MoveKind.EVACUATE: Phase((*_FROM_THE_DEAD, *_AT_ONCE), MovePhase.TIDYING, "target"),
    MoveKind.UNSHELVE: Phase((*_WITHOUT_SOURCE, *_AT_ONCE), MovePhase.TIDYING, "target"),
}

LATER: dict[MovePhase, Phase] = {
    MovePhase.UNDOING: Phase(
        (back.give_back, back.open_again, back.restart, ending.let_go, back.settle_undone), MovePhase.TIDYING, "source"
    ),
    MovePhase.LEAVING: Phase(
        (back.give_back, back.open_again, back.pass_on, back.show_next), MovePhase.TIDYING, "source"
    ),
    MovePhase.CONFIRMING: Phase(
        (ending.begin_confirm, ending.let_go, ending.settle_confirmed), MovePhase.TIDYING, "target"
    ),
    MovePhase.REVERTING: Phase(
        (
            back.begin_revert,
            back.stop_there,
            back.shrink_back,
            back.carry_back,
            back.uncommit,
            back.reopen_source,
            back.take_room_back,
            back.restart,
            ending.let_go,
            back.settle_reverted,
        ),
        MovePhase.TIDYING,
        "source",
    ),
    MovePhase.TIDYING: Phase(
        (ending.open_for_delete, ending.clear_source, ending.clear_target, ending.release, ending.forget),
        MovePhase.DONE,
    ),
}


def phase_of(move: Move) -> Phase:
    return GOING[move.kind] if move.phase is MovePhase.GOING else LATER[move.phase]


def is_committed(move: Move) -> bool:
    """Whether there is no way back but by reverting."""
    return move.phase is not MovePhase.GOING or "commit" in move.plan.done
