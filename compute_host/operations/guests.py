"""What is done inside a guest that runs. Each may be done again after a restart in the middle of it."""

from __future__ import annotations

from cell_service.errors import NotSupported
from cell_service.model.operation import ADMIN_PASSWORD, Outcome
from compute_host.operations.context import HostContext, Job, outcome_of, spec_of
from compute_host.virt.driver import CrashDumps, Passwords


def change_password(context: HostContext, job: Job) -> Outcome:
    """The guest's administrator has the password."""
    if not isinstance(context.driver, Passwords):
        raise NotSupported(reason="Passwords of guests on this host cannot be changed.")
    context.driver.set_admin_password(spec_of(context, job), job.work.operation.arguments[ADMIN_PASSWORD])
    return outcome_of(context, job)


def dump(context: HostContext, job: Job) -> Outcome:
    """The guest was told to write a dump of itself."""
    if not isinstance(context.driver, CrashDumps):
        raise NotSupported(reason="Guests of this host cannot be made to write a crash dump.")
    context.driver.trigger_crash_dump(job.instance.uuid)
    return outcome_of(context, job)
