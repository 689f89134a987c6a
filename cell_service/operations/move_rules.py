"""When a move may be requested, and a resize concluded. Their recipes are the super-conductor's."""

from __future__ import annotations

from dataclasses import dataclass

from cell_service.model.lifecycle import Task, VmState
from cell_service.operations.rule import ANY_TASK, DELETIONS, MOVABLE, Rule


@dataclass(frozen=True, slots=True)
class MoveRequest:
    """`history` is Nova's name for the move in the server's history, `action` its name in errors."""

    history: str
    action: str
    rule: Rule


RESIZE = MoveRequest("resize", "resize", Rule(MOVABLE, Task.RESIZE_PREP, VmState.RESIZED, shares=False))
MIGRATE = MoveRequest("migrate", "migrate", Rule(MOVABLE, Task.RESIZE_PREP, VmState.RESIZED, shares=False))
LIVE_MIGRATION = MoveRequest(
    "live-migration",
    "os-migrateLive",
    Rule(frozenset({VmState.ACTIVE, VmState.PAUSED}), Task.MIGRATING, shares=False),
)
EVACUATE = MoveRequest(
    "evacuate",
    "evacuate",
    Rule(MOVABLE | {VmState.ERROR}, Task.REBUILDING, during=ANY_TASK - DELETIONS, shares=False),
)
"""The request of an evacuation, which may begin from any task but a delete: what the dead host was doing is ended
without it."""
CONFIRM_RESIZE = MoveRequest(
    "confirmResize", "confirmResize", Rule(frozenset({VmState.RESIZED}), Task.RESIZE_CONFIRMING)
)
REVERT_RESIZE = MoveRequest("revertResize", "revertResize", Rule(frozenset({VmState.RESIZED}), Task.RESIZE_REVERTING))
