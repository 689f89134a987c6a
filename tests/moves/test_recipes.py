"""Recipes of moves: the names that are stored, and what undoes which step."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from api_cell.superconductor.moves import recipes
from api_cell.superconductor.moves.recipe import Recipe, Step
from cell_service.errors import UnknownSteps
from cell_service.model.move import MoveKind, MovePhase, MovePlan, Owner
from mapping_db.moves import Move

_ARRIVAL = ("arrive", "seal", "commit", "reopen", "run")
STORED = {
    MoveKind.COLD: ("begin", "choose", "carry_over", "leave", *_ARRIVAL),
    MoveKind.RESIZE: ("begin", "choose", "carry_over", "leave", *_ARRIVAL),
    MoveKind.LIVE: ("begin", "choose", "carry_over", "leave", *_ARRIVAL, "let_go", "settle"),
    MoveKind.EVACUATE: ("begin", "unburden", "choose", "carry_over", *_ARRIVAL, "let_go", "settle"),
    MoveKind.UNSHELVE: ("begin", "choose", "carry_over", *_ARRIVAL, "let_go", "settle"),
}
LATER = {
    MovePhase.WAITING: ("settle",),
    MovePhase.CONFIRMING: ("begin_confirm", "let_go", "settle_confirmed"),
    MovePhase.REVERTING: ("begin_revert", "stop_there", "shrink_back", "carry_back", "uncommit", "reopen_source",
                          "give_back", "restart", "let_go", "settle_reverted"),
    MovePhase.TIDYING: ("open_for_delete", "clear_source", "clear_target", "release", "forget"),
}  # fmt: skip
"""Rows of moves under way hold these: a name that goes from here strands them, unless it stays known in `formerly`."""
TO_THE_END = ("let_go", "settle_undone")


def move(kind: MoveKind, phase: MovePhase, *done: str) -> Move:
    return Move(
        "m", "i", kind, phase, "req", "u", "p", datetime(2026, 1, 1, tzinfo=UTC), source_cell=1, source_host="h1",
        plan=MovePlan(done=done),
    )  # fmt: skip


def names(recipe: Recipe) -> tuple[str, ...]:
    return tuple(step.name for step in recipe.steps)


def test_the_stored_names_are_those_of_moves_under_way() -> None:
    assert {kind: names(recipe) for kind, recipe in recipes.TO_DESTINATION.items()} == STORED
    assert {phase: names(recipe) for phase, recipe in recipes.LATER.items()} == LATER


@pytest.mark.parametrize(
    ("kind", "done", "undone"),
    [
        (MoveKind.COLD, (), TO_THE_END),
        (MoveKind.COLD, ("begin",), TO_THE_END),
        (MoveKind.COLD, ("begin", "choose"), ("give_back", *TO_THE_END)),
        (MoveKind.COLD, ("begin", "choose", "carry_over"), ("restart", "give_back", *TO_THE_END)),
        (MoveKind.COLD, ("begin", "choose", "carry_over", "leave"), ("restart", "give_back", *TO_THE_END)),
        (MoveKind.COLD, ("begin", "choose", "carry_over", "leave", "arrive"),
         ("open_again", "restart", "give_back", *TO_THE_END)),
        (MoveKind.RESIZE, ("begin", "choose", "carry_over", "leave"),
         ("shrink_back", "restart", "give_back", *TO_THE_END)),
        (MoveKind.RESIZE, ("begin", "choose", "carry_over", "leave", "arrive"),
         ("open_again", "shrink_back", "restart", "give_back", *TO_THE_END)),
        (MoveKind.LIVE, ("begin", "leave"), ("restart", *TO_THE_END)),
        (MoveKind.EVACUATE, ("begin", "unburden", "choose", "carry_over", "arrive", "seal"),
         ("open_again", "give_back", *TO_THE_END)),
        (MoveKind.UNSHELVE, ("begin", "choose", "carry_over"), ("give_back", *TO_THE_END)),
    ],
)  # fmt: skip
def test_what_was_begun_is_undone_backwards(kind: MoveKind, done: tuple[str, ...], undone: tuple[str, ...]) -> None:
    """The step under way may be half done, but for one that is recorded in the transaction that does it."""
    recipe = recipes.recipe_of(move(kind, MovePhase.UNDOING, *done))
    assert names(recipe) == undone
    assert (recipe.after, recipe.owner) == (MovePhase.TIDYING, Owner.SOURCE)


def test_undoing_goes_on_where_it_was_killed() -> None:
    recipe = recipes.recipe_of(
        move(MoveKind.COLD, MovePhase.UNDOING, "begin", "choose", "carry_over", "leave", "give_back", "restart")
    )
    following = recipe.next_step(("begin", "choose", "carry_over", "leave", "give_back", "restart"))
    assert following is not None
    assert following.name == "let_go"


def test_a_move_that_tries_another_host_keeps_what_holds_for_any() -> None:
    done = ("begin", "choose", "carry_over", "leave")
    recipe = recipes.recipe_of(move(MoveKind.LIVE, MovePhase.LEAVING, *done))
    assert names(recipe) == ("give_back", "pass_on", "show_next")
    assert recipes.TO_DESTINATION[MoveKind.LIVE].kept_for_another_host(done) == ("begin", "leave")


def test_a_step_that_is_recorded_under_a_former_name_is_done() -> None:
    recorded = LATER[MovePhase.REVERTING][:6]
    recipe = recipes.LATER[MovePhase.REVERTING]
    following = recipe.next_step((*recorded, "take_room_back"))
    assert following is not None
    assert following.name == "restart"


@pytest.mark.parametrize("phase", [MovePhase.GOING, MovePhase.UNDOING, MovePhase.LEAVING, MovePhase.TIDYING])
def test_a_step_that_is_not_known_is_never_passed_over(phase: MovePhase) -> None:
    with pytest.raises(UnknownSteps, match="teleport"):
        recipes.recipe_of(move(MoveKind.COLD, phase, "begin", "teleport"))


def test_two_steps_of_a_recipe_cannot_share_a_name() -> None:
    step = Step("one", lambda _context: True)
    with pytest.raises(AssertionError):
        Recipe((step, replace(step, name="two", formerly=("one",))), MovePhase.DONE)


@pytest.mark.parametrize("kind", MoveKind)
def test_a_move_is_committed_by_its_commit_alone(kind: MoveKind) -> None:
    before = STORED[kind][: STORED[kind].index("commit")]
    assert not recipes.is_committed(move(kind, MovePhase.GOING, *before))
    assert recipes.is_committed(move(kind, MovePhase.GOING, *before, "commit"))
    assert recipes.is_committed(move(kind, MovePhase.CONFIRMING, *before))
