"""Guests of servers that are deleted for now: off, and kept. Each may be done again after a restart in the middle."""

from __future__ import annotations

from cell_service.model.lifecycle import PowerState, VmState
from cell_service.model.operation import Outcome
from compute_host.virt.driver import Rescuable
from compute_host.work import Hands, Job, outcome_of, spec_of

_OFF = (PowerState.SHUTDOWN, PowerState.CRASHED, PowerState.NOSTATE)


def soft_delete(hands: Hands, job: Job) -> Outcome:
    """The guest is off, and is one that starts from its own disks."""
    driver, uuid = hands.driver, job.instance.uuid
    if job.instance.vm_state is VmState.RESCUED and isinstance(driver, Rescuable):
        driver.unrescue(spec_of(hands, job))
    if driver.power_state(uuid) not in _OFF:
        driver.power_off(uuid, graceful_seconds=hands.shutdown_seconds)
    return outcome_of(hands, job)


def restore(hands: Hands, job: Job) -> Outcome:
    """The guest runs."""
    hands.driver.power_on(spec_of(hands, job))
    return outcome_of(hands, job)
