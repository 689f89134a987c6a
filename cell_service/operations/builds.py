"""Guests built, and rebuilt on the same host."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from cell_service.model.lifecycle import Task, VmState
from cell_service.model.operation import Phase
from cell_service.operations.declaration import (
    Changes,
    Ending,
    History,
    HostDeath,
    NoArguments,
    NoResult,
    Operation,
    Pool,
    again,
    fail,
    succeed,
)
from cell_service.operations.effects import CleanUpHost
from cell_service.operations.rule import MOVABLE, Rule


@dataclass(frozen=True, slots=True)
class RebuildArguments:
    """The guest is made again from the instance's image. If it boots from a volume, it is made from its volumes as they
    are; with `reimage` that volume first gets the content of `image`."""

    image: str = ""
    reimage: bool = False


def _made(ending: Ending[Any, NoResult]) -> Changes:
    host = ending.operation.host
    return succeed(ending, launched_at=ending.now, launched_on=host, host=host)


def _left_host(ending: Ending[NoArguments, NoResult]) -> Changes:
    """The build leaves its host, for another one if it is retriable. Else the instance is in ERROR, and points to no
    host any more."""
    outcome, columns = ending.outcome, {}
    if not outcome.retriable and ending.instance.task_state is not Task.DELETING:
        columns = {"vm_state": VmState.ERROR, "task_state": None, "fault": ending.fault, "network_info": (),
                   "host": None, "node": None}  # fmt: skip
    left = () if outcome.host_clean else (CleanUpHost(),)
    return Changes(Phase.MOVING, columns, left, ending.fault, History.EVENT)


def _not_rebuilt(ending: Ending[RebuildArguments, NoResult]) -> Changes:
    return again(ending) if ending.outcome.retriable else fail(ending, vm_state=VmState.ERROR)


BUILD = Operation(
    name="create",
    action="create",
    event="compute__do_build_and_run_instance",
    rule=Rule(
        frozenset({VmState.BUILDING}),
        Task.SPAWNING,
        VmState.ACTIVE,
        during=frozenset({None, Task.SCHEDULING, Task.NETWORKING, Task.SPAWNING}),
    ),
    arguments=NoArguments,
    result=NoResult,
    deadline=timedelta(hours=1),
    stages=(None, Task.SCHEDULING, Task.NETWORKING, Task.SPAWNING),
    first_stage=Task.NETWORKING,
    when_host_dies=HostDeath.RETRY,
    pool=Pool.BUILDS,
    makes_guest=True,
    changes_ports=True,
    succeeded=_made,
    failed=_left_host,
)
REBUILD = Operation(
    name="rebuild",
    action="rebuild",
    event="compute_rebuild_instance",
    rule=Rule(MOVABLE | {VmState.ERROR}, Task.REBUILDING),
    arguments=RebuildArguments,
    result=NoResult,
    deadline=timedelta(minutes=30),
    stages=(Task.REBUILDING, Task.REBUILD_SPAWNING),
    makes_guest=True,
    succeeded=_made,
    failed=_not_rebuilt,
)

ALL: tuple[Operation[Any, Any], ...] = (BUILD, REBUILD)
