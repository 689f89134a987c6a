"""Operations inside a running guest. Each function may run again after a restart in the middle of it."""

from __future__ import annotations

from cell_service.errors import NotSupported
from cell_service.model.operation import Outcome
from cell_service.operations.declaration import NoArguments
from cell_service.operations.guests import PasswordArguments
from compute_host.operations.context import HostContext, OperationContext, outcome_of, spec_of
from compute_host.virt.driver import CrashDumps, Passwords


def change_password(context: HostContext, work: OperationContext, arguments: PasswordArguments) -> Outcome:
    """Set the password of the guest's administrator."""
    if not isinstance(context.driver, Passwords):
        raise NotSupported(reason="Passwords of guests on this host cannot be changed.")
    context.driver.set_admin_password(spec_of(context, work), arguments.admin_password)
    return outcome_of(context, work)


def dump(context: HostContext, work: OperationContext, _arguments: NoArguments) -> Outcome:
    """Make the guest write a dump of itself, if it can."""
    if not isinstance(context.driver, CrashDumps):
        raise NotSupported(reason="Guests of this host cannot be made to write a crash dump.")
    context.driver.trigger_crash_dump(work.instance.uuid)
    return outcome_of(context, work)
