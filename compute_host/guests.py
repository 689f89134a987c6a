"""What is done inside a guest that runs. Each may be done again after a restart in the middle of it."""

from __future__ import annotations

from cell_service.errors import NotSupported
from cell_service.model.operation import ADMIN_PASSWORD, Outcome
from compute_host.virt.driver import CrashDumps, Passwords
from compute_host.work import Hands, Job, outcome_of, spec_of


def change_password(hands: Hands, job: Job) -> Outcome:
    """The guest's administrator has the password."""
    if not isinstance(hands.driver, Passwords):
        raise NotSupported(reason="Passwords of guests on this host cannot be changed.")
    hands.driver.set_admin_password(spec_of(hands, job), job.work.operation.arguments[ADMIN_PASSWORD])
    return outcome_of(hands, job)


def dump(hands: Hands, job: Job) -> Outcome:
    """The guest was told to write a dump of itself."""
    if not isinstance(hands.driver, CrashDumps):
        raise NotSupported(reason="Guests of this host cannot be made to write a crash dump.")
    hands.driver.trigger_crash_dump(job.instance.uuid)
    return outcome_of(hands, job)
