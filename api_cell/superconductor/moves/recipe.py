"""The recipe of a move: steps with literal stored names, each with the step that undoes it.

A step is recorded under its name before the next one begins, so a move that was killed anywhere goes on. A step may be
done again: it is repeated when it was killed before it was recorded. The step that undoes another has a name of its
own. Names are stored: a name that is given up stays known in `formerly`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from api_cell.servers.moves.kinds import MoveDeclaration
from api_cell.superconductor.moves.step_context import StepContext
from cell_service.model.move import MovePhase, Owner

Do = Callable[[StepContext], bool]
"""Does the step. False: it waits for a host, and is called again when the host is through."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step. `name`: as stored; `formerly`: under what else earlier versions have recorded it.

    `undo`: what is done when the move fails before its commit and this step was recorded, or was under way. With
    `in_one_transaction` the step is recorded in the transaction that does it, so what is not recorded is not done.
    `for_any_host`: it is valid for any destination, so a move that tries another host keeps it.
    """

    name: str
    do: Do
    undo: tuple[Step, ...] = ()
    in_one_transaction: bool = False
    for_any_host: bool = False
    formerly: tuple[str, ...] = ()

    def is_in(self, recorded: Collection[str]) -> bool:
        """Whether the step is recorded."""
        return self.name in recorded or any(name in recorded for name in self.formerly)


@dataclass(frozen=True, slots=True)
class Commit(Step):
    """The step from which there is no way back but by reverting."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """Steps in their order, and the phase that follows them. `owner`: where the instance lives when they are done
    (None: where it lived before)."""

    steps: tuple[Step, ...]
    after: MovePhase
    owner: Owner | None = None

    def __post_init__(self) -> None:
        names = [name for step in self.steps for name in (step.name, *step.formerly)]
        assert len(names) == len(set(names)), f"steps of one recipe have the same name: {names}"

    def next_step(self, recorded: Collection[str]) -> Step | None:
        """The first step that is not recorded; None when all are."""
        return next((step for step in self.steps if not step.is_in(recorded)), None)

    def names(self) -> set[str]:
        """All names under which steps of the recipe, and what undoes them, are or were recorded."""
        every = [*self.steps, *(undo for step in self.steps for undo in step.undo)]
        return {name for step in every for name in (step.name, *step.formerly)}


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveRecipe(Recipe):
    """The way of one kind of move to its destination, with one commit."""

    kind: MoveDeclaration

    def __post_init__(self) -> None:
        Recipe.__post_init__(self)
        assert sum(isinstance(step, Commit) for step in self.steps) == 1, f"{self.kind.stored} needs one commit"
        known = {step.name for step in self._before_commit()}
        assert not self.kind.can_abort_before or self.kind.can_abort_before in known, self.kind.can_abort_before

    def is_committed(self, recorded: Collection[str]) -> bool:
        return any(step.is_in(recorded) for step in self.steps if isinstance(step, Commit))

    def kept_for_another_host(self, recorded: Collection[str]) -> tuple[str, ...]:
        """The names of those recorded steps that a move keeps which tries another host."""
        return tuple(step.name for step in self.steps if step.for_any_host and step.is_in(recorded))

    def undoing(self, recorded: Collection[str], *, for_another_host: bool = False) -> tuple[Step, ...]:
        """The steps that undo the recorded ones before the commit, and the step under way, the last one first; with
        `for_another_host` without those that are valid for any destination."""
        found: list[Step] = []
        under_way = self.next_step(recorded)
        for step in self._before_commit():
            begun = step.is_in(recorded) or (step is under_way and not step.in_one_transaction)
            if begun and not (for_another_host and step.for_any_host):
                found[:0] = step.undo
        return tuple(found)

    def _before_commit(self) -> Sequence[Step]:
        at = next(at for at, step in enumerate(self.steps) if isinstance(step, Commit))
        return self.steps[: at + 1]
