"""The password of an evacuation: sealed until its host has it, then removed."""

from __future__ import annotations

from dataclasses import replace

from sqlalchemy import Connection

from api_cell.superconductor.moves.step_context import StepContext
from mapping_db import moves, pending_secrets


def password_of(context: StepContext) -> str:
    """The password that the guest is to get; empty when there is none. Raises SecretsUnreadable."""
    with context.deps.cloud.db.connect() as tx:
        sealed = pending_secrets.get(tx, context.move.uuid)
    return "" if sealed is None else context.deps.cloud.db.sealer().open(sealed)


def drop(context: StepContext) -> None:
    """The password is stored no longer."""
    context.deps.cloud.db.run(lambda tx: pending_secrets.remove(tx, [context.move.uuid]))


def seal_recorded(context: StepContext) -> None:
    """A password that an earlier version has recorded in the plan is sealed, and not in the plan any more."""
    password = context.plan.clear_password
    if not password:
        return
    sealed, now = context.deps.cloud.db.sealer().seal(password), context.deps.cloud.clock.now()

    def work(tx: Connection) -> moves.Move:
        pending_secrets.store(tx, context.move.uuid, sealed, now)
        return moves.record(tx, context.move, now, plan=replace(context.plan, clear_password=""))

    context.move = context.deps.cloud.db.run(work)
