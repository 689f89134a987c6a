"""The password of an evacuation: sealed until its host has it, then removed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from api_cell.superconductor.moves.step_context import StepContext
from mapping_db import moves


def password_of(context: StepContext) -> str:
    """The password that the guest is to get; empty when there is none. Raises SecretsUnreadable."""
    sealed = context.move.sealed
    return "" if sealed is None else context.deps.cloud.db.sealer().open(sealed)


def drop(context: StepContext) -> None:
    """Remove the stored password."""
    if context.move.sealed is not None:
        _record(context, sealed=None)


def seal_recorded(context: StepContext) -> None:
    """Seal a password that an earlier version has recorded in the plan, and remove it from the plan."""
    password = context.plan.clear_password
    if password:
        sealed = context.deps.cloud.db.sealer().seal(password)
        _record(context, sealed=sealed, plan=replace(context.plan, clear_password=""))


def _record(context: StepContext, **columns: Any) -> None:
    move, now = context.move, context.deps.cloud.clock.now()
    context.move = context.deps.cloud.db.run(lambda tx: moves.record(tx, move, now, **columns))
