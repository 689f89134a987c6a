"""Guests that run from another disk for a while, with their own disks attached."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from cell_service.errors import NotImplementedByHost
from cell_service.model.ability import Ability
from cell_service.model.lifecycle import Task, VmState
from cell_service.operations.declaration import NoArguments, NoResult, Operation
from cell_service.operations.rule import MOVABLE, Rule
from cell_service.operations.secret import Secret


@dataclass(frozen=True, slots=True)
class RescueArguments:
    """The guest runs from `image` (None: the instance's own); with `stable` its disks keep their places."""

    admin_password: Secret[str] = field(default="", repr=False)
    image: str | None = None
    stable: bool = False


RESCUE = Operation(
    name="rescue",
    needs=Ability.RESCUE,
    unable=NotImplementedByHost,
    action="rescue",
    event="compute_rescue_instance",
    rule=Rule(MOVABLE | {VmState.ERROR}, Task.RESCUING, VmState.RESCUED),
    arguments=RescueArguments,
    result=NoResult,
    deadline=timedelta(minutes=30),
)
UNRESCUE = Operation(
    name="unrescue",
    action="unrescue",
    event="compute_unrescue_instance",
    rule=Rule(frozenset({VmState.RESCUED}), Task.UNRESCUING, VmState.ACTIVE),
    arguments=NoArguments,
    result=NoResult,
)

ALL: tuple[Operation[Any, Any], ...] = (RESCUE, UNRESCUE)
