"""Guests of soft-deleted servers, which are turned off and kept. Each function may run again after a restart in the
middle of it."""

from __future__ import annotations

from cell_service.model.lifecycle import PowerState, VmState
from cell_service.model.operation import Outcome
from cell_service.operations.declaration import NoArguments
from compute_host.operations.context import HostContext, OperationContext, outcome_of, spec_of
from compute_host.virt.driver import Rescuable

_OFF = (PowerState.SHUTDOWN, PowerState.CRASHED, PowerState.NOSTATE)


def soft_delete(context: HostContext, work: OperationContext, _arguments: NoArguments) -> Outcome:
    """Turn the guest off; a rescued one gets its own disks back first."""
    driver, uuid = context.driver, work.instance.uuid
    if work.instance.vm_state is VmState.RESCUED and isinstance(driver, Rescuable):
        driver.unrescue(spec_of(context, work))
    if driver.power_state(uuid) not in _OFF:
        driver.power_off(uuid, graceful_seconds=context.shutdown_seconds)
    return outcome_of(context, work)


def restore(context: HostContext, work: OperationContext, _arguments: NoArguments) -> Outcome:
    """Start the guest."""
    context.driver.power_on(spec_of(context, work))
    return outcome_of(context, work)
