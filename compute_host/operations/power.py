"""Guests turned on and off, paused and suspended. Each function may run again after a restart in the middle of it."""

from __future__ import annotations

from cell_service.model.operation import Outcome
from cell_service.operations.declaration import NoArguments
from compute_host.operations.context import HostContext, OperationContext, outcome_of, spec_of


def start(context: HostContext, work: OperationContext, _arguments: NoArguments) -> Outcome:
    context.driver.power_on(spec_of(context, work))
    return outcome_of(context, work)


def stop(context: HostContext, work: OperationContext, _arguments: NoArguments) -> Outcome:
    context.driver.power_off(work.instance.uuid, graceful_seconds=context.shutdown_seconds)
    return outcome_of(context, work)


def reboot_soft(context: HostContext, work: OperationContext, _arguments: NoArguments) -> Outcome:
    context.driver.reboot(spec_of(context, work), hard=False)
    return outcome_of(context, work)


def reboot_hard(context: HostContext, work: OperationContext, _arguments: NoArguments) -> Outcome:
    context.driver.reboot(spec_of(context, work), hard=True)
    return outcome_of(context, work)


def pause(context: HostContext, work: OperationContext, _arguments: NoArguments) -> Outcome:
    context.driver.pause(work.instance.uuid)
    return outcome_of(context, work)


def unpause(context: HostContext, work: OperationContext, _arguments: NoArguments) -> Outcome:
    context.driver.unpause(work.instance.uuid)
    return outcome_of(context, work)


def suspend(context: HostContext, work: OperationContext, _arguments: NoArguments) -> Outcome:
    context.driver.suspend(work.instance.uuid)
    return outcome_of(context, work)


def resume(context: HostContext, work: OperationContext, _arguments: NoArguments) -> Outcome:
    context.driver.resume(spec_of(context, work))
    return outcome_of(context, work)
