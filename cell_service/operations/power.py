"""Guests turned on and off, paused and suspended."""

from __future__ import annotations

from cell_service.model.lifecycle import PowerState, Task, VmState
from cell_service.operations.declaration import Changes, Ending, NoArguments, NoResult, Operation, again, fail
from cell_service.operations.rule import COPYABLE, Rule

Plain = Operation[NoArguments, NoResult]


def _reboot_failed(ending: Ending[NoArguments, NoResult]) -> Changes:
    """A guest that does not run after a reboot makes its instance ERROR."""
    if ending.outcome.retriable:
        return again(ending)
    return fail(ending) if ending.outcome.power_state is PowerState.RUNNING else fail(ending, vm_state=VmState.ERROR)


def _plain(name: str, event: str, rule: Rule) -> Plain:
    return Operation(name, name, event, rule, NoArguments, NoResult)


START = _plain("start", "compute_start_instance", Rule(frozenset({VmState.STOPPED}), Task.POWERING_ON, VmState.ACTIVE))
STOP = _plain(
    "stop",
    "compute_stop_instance",
    Rule(frozenset({VmState.ACTIVE, VmState.ERROR}), Task.POWERING_OFF, VmState.STOPPED),
)
PAUSE = _plain("pause", "compute_pause_instance", Rule(frozenset({VmState.ACTIVE}), Task.PAUSING, VmState.PAUSED))
UNPAUSE = _plain(
    "unpause", "compute_unpause_instance", Rule(frozenset({VmState.PAUSED}), Task.UNPAUSING, VmState.ACTIVE)
)
SUSPEND = _plain(
    "suspend",
    "compute_suspend_instance",
    Rule(frozenset({VmState.ACTIVE}), Task.SUSPENDING, VmState.SUSPENDED, shares=False),
)
RESUME = _plain(
    "resume", "compute_resume_instance", Rule(frozenset({VmState.SUSPENDED}), Task.RESUMING, VmState.ACTIVE)
)
REBOOT_SOFT = Operation(
    name="reboot_soft",
    action="reboot",
    event="compute_reboot_instance",
    rule=Rule(frozenset({VmState.ACTIVE}), Task.REBOOTING, VmState.ACTIVE),
    arguments=NoArguments,
    result=NoResult,
    failed=_reboot_failed,
)
REBOOT_HARD = Operation(
    name="reboot_hard",
    action="reboot",
    event="compute_reboot_instance",
    rule=Rule(
        COPYABLE | {VmState.ERROR},
        Task.REBOOTING_HARD,
        VmState.ACTIVE,
        during=frozenset({None, Task.REBOOTING, Task.REBOOTING_HARD, Task.RESUMING, Task.UNPAUSING, Task.SUSPENDING,
                          Task.PAUSING}),
    ),
    arguments=NoArguments,
    result=NoResult,
    failed=_reboot_failed,
)  # fmt: skip

ALL: tuple[Plain, ...] = (START, STOP, PAUSE, UNPAUSE, SUSPEND, RESUME, REBOOT_SOFT, REBOOT_HARD)
