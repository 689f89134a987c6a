"""The context of a step: the move as it is recorded, and the dependencies with which the step works."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from api_cell.servers.moves import kinds
from api_cell.servers.moves.kinds import MoveDeclaration
from api_cell.superconductor.context import SuperConductorContext
from cell_service.context import Context
from cell_service.errors import OperationLost
from cell_service.model.move import MovePlan
from mapping_db import moves
from mapping_db.cells.registry import Cell
from mapping_db.moves import Move

SPARE = 0.2
"""A lease of which less than this part is left is not acted upon: another super-conductor may take the move."""


class Superseded(Exception):
    """The instance is being deleted or gone."""


class StepFailed(Exception):
    """The step can't be done, for this reason; `code` and `details` as of a fault."""

    def __init__(self, reason: str, code: int = 500, *, details: str = "") -> None:
        super().__init__(reason)
        self.reason, self.code, self.details = reason, code, details


class Elsewhere(Exception):
    """The destination could not take the guest, for this reason; another may."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(slots=True)
class StepContext:
    """`move` is replaced by what is recorded. `step`: the stored name of the step under way."""

    deps: SuperConductorContext
    move: Move
    step: str = ""

    @property
    def ctx(self) -> Context:
        """The request that the move is part of now, with a deadline of its own."""
        return self.deps.acting_for(self.move.request_id, self.move.user_id, self.move.project_id)

    @property
    def plan(self) -> MovePlan:
        return self.move.plan

    @property
    def kind(self) -> MoveDeclaration:
        return kinds.of(self.move.kind)

    @property
    def plan_when_done(self) -> MovePlan:
        """The plan with the step under way recorded, for steps that are recorded in the transaction that does them."""
        return self.plan if self.step in self.plan.done else replace(self.plan, done=(*self.plan.done, self.step))

    @property
    def source(self) -> Cell:
        return self.deps.cloud.cells.open(self.move.source_cell)

    @property
    def target(self) -> Cell:
        assert self.move.target_cell is not None
        return self.deps.cloud.cells.open(self.move.target_cell)

    @property
    def stays_on_host(self) -> bool:
        """Whether a resize stays on the host that the instance is on already."""
        move = self.move
        return not move.crosses and move.target_host == move.source_host

    def demand_lease(self) -> None:
        """Raises OperationLost when another super-conductor may have the move."""
        until = self.move.lease_until
        spare = SPARE * self.deps.settings.lease_seconds
        if until is None or (until - self.deps.cloud.clock.now()).total_seconds() < spare:
            raise OperationLost(operation_id=self.move.uuid, fence=self.move.fence)

    def record(self, **columns: Any) -> None:
        """Write columns of the move. Raises OperationLost."""
        now = self.deps.cloud.clock.now()
        self.move = self.deps.cloud.db.run(lambda tx: moves.record(tx, self.move, now, **columns))

    def note(self, **fields: Any) -> None:
        """Write fields of the plan. Raises OperationLost."""
        self.record(plan=replace(self.plan, **fields))
