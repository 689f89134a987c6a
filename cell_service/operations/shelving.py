"""Shelving: a server becomes an image, leaves its host, or is started again on the host that it has not left."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from cell_service.model import shelved
from cell_service.model.ability import Ability
from cell_service.model.block_device import merged
from cell_service.model.lifecycle import PowerState, State, Task, VmState
from cell_service.operations.declaration import (
    Changes,
    Ending,
    History,
    HostDeath,
    NoArguments,
    NoResult,
    Operation,
    reported,
    succeed,
)
from cell_service.operations.effects import (
    CleanUpHost,
    FollowUp,
    ReleaseAllocations,
    RequireImage,
    UnbindPorts,
    WakeHost,
)
from cell_service.operations.rule import COPYABLE, SHELVED, Rule


@dataclass(frozen=True, slots=True)
class ShelveArguments:
    """The guest is off, and `image` (a uuid chosen before) has its root disk; `stale_image`, which an earlier shelving
    may have left, is gone."""

    image: str = ""
    stale_image: str | None = None


@dataclass(frozen=True, slots=True)
class ShelveResult:
    image: str | None = None


@dataclass(frozen=True, slots=True)
class UnshelveResult:
    image_gone: bool = False


def _shelved(ending: Ending[ShelveArguments, ShelveResult]) -> Changes:
    """The instance is shelved and stays on its host, or begins to leave it at once."""
    operation, instance = ending.operation, ending.instance
    known = shelved.done(instance.system_metadata, ending.arguments.image, operation.host, ending.now)
    columns = {**reported(ending), "system_metadata": known, "vm_state": VmState.SHELVED, "task_state": None}
    if not ending.offloads_at_once:
        return Changes(columns=columns)
    follows = FollowUp(SHELVE_OFFLOAD, NoArguments())
    columns["task_state"] = SHELVE_OFFLOAD.rule.task
    return Changes(columns=columns, effects=(follows, WakeHost()), history=History.EVENT)


def _offloaded(ending: Ending[NoArguments, NoResult]) -> Changes:
    return Changes(
        columns={
            "vm_state": VmState.SHELVED_OFFLOADED,
            "task_state": None,
            "power_state": PowerState.NOSTATE,
            "host": None,
            "node": None,
            "block_devices": merged(ending.instance.block_devices, ending.outcome.devices),
        },
        effects=(ReleaseAllocations(),),
        only_from=State(VmState.SHELVED, Task.SHELVING_OFFLOADING),
    )


def _offloaded_without_host(ending: Ending[NoArguments, NoResult]) -> Changes:
    """The instance leaves its host only if its image is active: else the guest may be all that is left of it."""
    image_id = shelved.image_of(ending.instance.system_metadata)
    demand = () if ending.instance.volume_backed else (RequireImage(image_id),)
    return replace(_offloaded(ending), effects=(*demand, UnbindPorts(), ReleaseAllocations(), CleanUpHost()))


def _unshelved(ending: Ending[NoArguments, UnshelveResult]) -> Changes:
    known = shelved.ended(ending.instance.system_metadata, image_gone=ending.result.image_gone)
    return succeed(ending, system_metadata=known)


SHELVE = Operation(
    name="shelve",
    needs=Ability.SNAPSHOTS,
    action="shelve",
    event="compute_shelve_instance",
    rule=Rule(COPYABLE, Task.SHELVING, VmState.SHELVED, shares=False),
    arguments=ShelveArguments,
    result=ShelveResult,
    deadline=timedelta(hours=1),
    stages=(Task.SHELVING, Task.SHELVING_IMAGE_UPLOADING),
    succeeded=_shelved,
)
SHELVE_OFFLOAD = Operation(
    name="shelveOffload",
    action="shelveOffload",
    event="compute_shelve_offload_instance",
    rule=Rule(frozenset({VmState.SHELVED}), Task.SHELVING_OFFLOADING, VmState.SHELVED_OFFLOADED),
    arguments=NoArguments,
    result=NoResult,
    deadline=None,
    when_host_dies=HostDeath.DO_HERE,
    succeeded=_offloaded,
    host_died=_offloaded_without_host,
)
UNSHELVE = Operation(
    name="unshelve",
    action="unshelve",
    event="compute_unshelve_instance",
    rule=Rule(SHELVED, Task.UNSHELVING, VmState.ACTIVE, hostless=frozenset({VmState.SHELVED_OFFLOADED})),
    arguments=NoArguments,
    result=UnshelveResult,
    succeeded=_unshelved,
)

ALL: tuple[Operation[Any, Any], ...] = (SHELVE, SHELVE_OFFLOAD, UNSHELVE)
