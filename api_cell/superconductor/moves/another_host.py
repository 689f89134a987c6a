"""The end of a move whose destination could not take the guest: the move is undone as far as it concerns that host, and
another move goes on from there, and tries another host."""

from __future__ import annotations

from dataclasses import replace

from sqlalchemy import Connection

from api_cell.superconductor.moves import rows
from api_cell.superconductor.moves.recipe import MoveRecipe, Recipe, Step
from api_cell.superconductor.moves.step_context import StepContext
from cell_service.model.move import MovePhase, Owner
from mapping_db import moves


def trying_another_host(recipe: MoveRecipe, done: tuple[str, ...]) -> Recipe:
    """The way of such a move to its end; `done`: its recorded steps."""

    def pass_on(context: StepContext) -> bool:
        """Have another move go on from the steps that are valid for any host, as soon as the cell knows of it; this one
        will be cleaned up."""
        move, plan, now = context.move, context.plan, context.deps.cloud.clock.now()
        successor = replace(
            move,
            uuid=moves.next_uuid(move),
            phase=MovePhase.GOING,
            created_at=now,
            updated_at=now,
            target_cell=None,
            target_host=None,
            attempt=0,
            fence=1,
            owner=None,
            lease_until=None,
            not_before=moves.BLOCKED,
            plan=replace(
                plan,
                tried=(*plan.tried, *([move.target_host] if move.target_host else [])),
                done=recipe.kept_for_another_host(plan.done),
                awaited=None,
                retries=0,
                node=None,
                host_ip=None,
                provider_uuid="",
                availability_zone=None,
                fault="",
            ),
        )

        def work(tx: Connection) -> moves.Move:
            after = moves.record(tx, move, now, active=None, plan=context.plan_when_done, sealed=None)
            moves.insert_new(tx, successor)
            return after

        context.move = context.deps.cloud.db.run(work)
        return True

    undone = recipe.undoing(done, for_another_host=True)
    following = (Step("pass_on", pass_on, in_one_transaction=True), Step("show_next", show_successor))
    return Recipe((*undone, *following), MovePhase.TIDYING, Owner.SOURCE)


def show_successor(context: StepContext) -> bool:
    """Record in the cell that another move goes on and this one does not; then the other one may begin."""
    with context.deps.cloud.db.connect() as tx:
        successor = moves.get(tx, moves.next_uuid(context.move))
    if successor is not None:
        rows.show_successor(context, successor)
        context.deps.cloud.db.run(lambda tx: moves.unblock(tx, successor.uuid))
    return True
