"""Guests turned on and off, paused and suspended. Each function may run again after a restart in the middle of it."""

from __future__ import annotations

from dataclasses import replace

from cell_service.model.block_device import BlockDevice, merged
from cell_service.model.operation import Outcome
from cell_service.operations.declaration import NoArguments
from compute_host.operations import volumes
from compute_host.operations.context import HostContext, OperationContext, outcome_of, spec_of


def start(context: HostContext, work: OperationContext, _arguments: NoArguments) -> Outcome:
    """Turn the guest on, with its volumes where they are by now."""
    work, moved = _with_volumes(context, work)
    context.driver.power_on(spec_of(context, work))
    return replace(outcome_of(context, work), devices=moved)


def stop(context: HostContext, work: OperationContext, _arguments: NoArguments) -> Outcome:
    context.driver.power_off(work.instance.uuid, graceful_seconds=context.shutdown_seconds)
    return outcome_of(context, work)


def reboot_soft(context: HostContext, work: OperationContext, _arguments: NoArguments) -> Outcome:
    context.driver.reboot(spec_of(context, work), hard=False)
    return outcome_of(context, work)


def reboot_hard(context: HostContext, work: OperationContext, _arguments: NoArguments) -> Outcome:
    """Turn the guest off and on, with its volumes where they are by now."""
    work, moved = _with_volumes(context, work)
    context.driver.reboot(spec_of(context, work), hard=True)
    return replace(outcome_of(context, work), devices=moved)


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


def _with_volumes(context: HostContext, work: OperationContext) -> tuple[OperationContext, tuple[BlockDevice, ...]]:
    """The operation with the instance's volumes where they are now, and those that have moved."""
    instance = work.instance
    moved = volumes.refreshed(context, work.ctx, instance)
    return work.with_instance(replace(instance, block_devices=merged(instance.block_devices, moved))), moved
