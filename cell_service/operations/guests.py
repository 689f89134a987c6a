"""Operations inside a guest that runs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from cell_service.errors import NotImplementedByHost
from cell_service.model.ability import Ability
from cell_service.model.guest_agent import lacks_agent
from cell_service.model.lifecycle import Task, VmState
from cell_service.operations.declaration import NoArguments, NoResult, Operation
from cell_service.operations.rule import Rule
from cell_service.operations.secret import Secret


@dataclass(frozen=True, slots=True)
class PasswordArguments:
    admin_password: Secret[str] = field(default="", repr=False)


CHANGE_PASSWORD = Operation(
    name="changePassword",
    needs=Ability.PASSWORDS,
    unable=NotImplementedByHost,
    refusal=lacks_agent,
    action="changePassword",
    event="compute_set_admin_password",
    rule=Rule(frozenset({VmState.ACTIVE}), Task.UPDATING_PASSWORD),
    arguments=PasswordArguments,
    result=NoResult,
)
CRASH_DUMP = Operation(
    name="trigger_crash_dump",
    needs=Ability.CRASH_DUMPS,
    action="trigger_crash_dump",
    event="compute_trigger_crash_dump",
    rule=Rule(frozenset({VmState.ACTIVE, VmState.PAUSED, VmState.RESCUED, VmState.RESIZED, VmState.ERROR}), task=None),
    arguments=NoArguments,
    result=NoResult,
)

ALL: tuple[Operation[Any, Any], ...] = (CHANGE_PASSWORD, CRASH_DUMP)
