"""How operations end: state, event, fault and the end itself in one transaction."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

from sqlalchemy import Connection

from cell_service import wire
from cell_service.conductor import builds, deletes, shares, shelving, volumes
from cell_service.conductor.context import ConductorContext, context_of, event_of
from cell_service.db import actions, instances, operations
from cell_service.db.claims import Standing, standing
from cell_service.errors import Conflict, InstanceNotFound, OperationLost
from cell_service.logs import about
from cell_service.model import lifecycle, shelved
from cell_service.model.block_device import BlockDevice, merged
from cell_service.model.instance import Fault, Instance
from cell_service.model.lifecycle import PowerState, VmState
from cell_service.model.operation import (
    ERRAND_OUTCOME,
    ERRANDS,
    IMAGE_GONE,
    SHARE_WORK,
    SNAPSHOT_FAULTS,
    TELLING,
    VOLUME_WORK,
    Kind,
    Operation,
    Outcome,
    Phase,
)

log = logging.getLogger(__name__)

_REBOOTS = (Kind.REBOOT_SOFT, Kind.REBOOT_HARD)
_CHANGES_MORE = (Kind.SHELVE, Kind.UNSHELVE)
"""What these leave behind depends on more than the instance's state."""
_MAKES_A_GUEST = (Kind.BUILD, Kind.REBUILD)


def record(deps: ConductorContext, outcome: Outcome) -> None:
    """Take over what a host says about an operation. Told before: nothing. Raises OperationLost."""
    held = _held(deps, outcome)
    if held is None:
        return
    operation = held.operation
    if operation.kind is Kind.DELETE:
        deletes.host_is_through(deps, operation, outcome.fault, held.action_id)
    elif operation.kind in ERRANDS:
        _end_errand(deps, operation, outcome)
    elif outcome.fault is None and operation.kind is Kind.SHELVE_OFFLOAD:
        shelving.host_is_through(deps, operation, outcome.devices)
    elif outcome.fault is not None and outcome.retriable and operation.kind is not Kind.BUILD:
        _try_again(deps, operation, outcome.fault)
    elif operation.kind in VOLUME_WORK:
        volumes.host_is_through(deps, operation, outcome)
    elif operation.kind in SHARE_WORK:
        shares.host_is_through(deps, operation, outcome)
    elif outcome.fault is None:
        deps.db.run(lambda tx: _succeed(tx, deps, held, outcome))
        log.info("operation done", extra=_about(deps, operation))
        if operation.kind is Kind.SHELVE and operation.host is not None:
            deps.wake(context_of(operation, deps.clock), operation.host)
    elif operation.kind is Kind.BUILD:
        builds.leave_host(deps, operation, outcome.fault, retriable=outcome.retriable, host_clean=outcome.host_clean)
    else:
        fail(deps, operation, outcome.fault, outcome.power_state, outcome.devices)


def fail(
    deps: ConductorContext,
    operation: Operation,
    fault: Fault,
    power_state: PowerState | None = None,
    devices: tuple[BlockDevice, ...] = (),
) -> None:
    """The operation (no build, no delete) ended with a fault: the instance is what it was, with no task; `devices`
    are as they are now.

    A guest that does not run after a reboot makes it ERROR, and so does a failed rebuild. An errand of a move changes
    nothing of the instance, and what does not show in its state nothing of that. Raises OperationLost.
    """
    if operation.kind in ERRANDS:
        _end_errand(deps, operation, Outcome(operation.id, operation.fence, fault=fault))
        return
    if operation.kind is Kind.ATTACH_INTERFACE and deps.networks is not None:
        key = operation.arguments["key"]
        deps.networks.take_back(context_of(operation, deps.clock), operation.instance_uuid, key)

    if operation.kind in SNAPSHOT_FAULTS:
        volumes.tell_snapshot_failed(deps, operation)
    if operation.kind in VOLUME_WORK:
        volumes.host_is_through(deps, operation, Outcome(operation.id, operation.fence, fault=fault))
        return
    if operation.kind in SHARE_WORK:
        shares.host_is_through(deps, operation, Outcome(operation.id, operation.fence, fault=fault))
        return

    def columns(instance: Instance) -> dict[str, Any]:
        changes: dict[str, Any] = {}
        if lifecycle.shows(operation.kind.value):
            changes = {"task_state": None, "fault": fault}
        if devices:
            changes["block_devices"] = merged(instance.block_devices, devices)
        if power_state is not None:
            changes["power_state"] = power_state
        dead = operation.kind in _REBOOTS and power_state is not PowerState.RUNNING
        if dead or operation.kind is Kind.REBUILD:
            changes["vm_state"] = VmState.ERROR
        return changes

    def work(tx: Connection) -> None:
        now = deps.now()
        operations.forget_password(tx, operation)
        _keep(tx, operation, Outcome(operation.id, operation.fence, fault=fault))
        operations.finish(tx, operation.id, operation.fence, Phase.FAILED, now)
        settle(tx, deps, operation.instance_uuid, columns)
        _end_event(tx, deps, operation, fault)

    deps.db.run(work)
    log.warning("operation failed", extra=_about(deps, operation, reason=fault.message))


def _try_again(deps: ConductorContext, operation: Operation, fault: Fault) -> None:
    """The host can only go forward, and not now: it is asked again after a pause."""
    until = deps.now() + timedelta(seconds=deletes.pause_seconds(operation.attempt))
    deps.db.run(lambda tx: operations.postpone(tx, operation.id, operation.fence, until))
    log.warning("operation put off", extra=_about(deps, operation, reason=fault.message))


def _end_errand(deps: ConductorContext, operation: Operation, outcome: Outcome) -> None:
    """Who runs the move reads from the row how the errand ended; a removal that failed is tried again."""

    def work(tx: Connection) -> bool:
        now = deps.now()
        if outcome.fault is not None and operation.kind is Kind.MOVE_DROP:
            until = now + timedelta(seconds=deletes.pause_seconds(operation.attempt))
            operations.postpone(tx, operation.id, operation.fence, until)
            return True
        found = replace(outcome, operation_id=operation.id, fence=operation.fence)
        arguments = {**operations.without_password(operation.arguments), ERRAND_OUTCOME: wire.to_plain(found)}
        operations.note(tx, operation.id, operation.fence, arguments)
        phase = Phase.DONE if outcome.fault is None else Phase.FAILED
        operations.finish(tx, operation.id, operation.fence, phase, now)
        _end_event(tx, deps, operation, outcome.fault, whole=False)
        return (
            operation.kind is not Kind.MOVE_DROP or not outcome.devices or _reserved_again(tx, deps, outcome, operation)
        )

    if not deps.db.run(work) and deps.volumes is not None:
        deps.volumes.release_all(context_of(operation, deps.clock), operation.instance_uuid)
    log.info("errand ended", extra=_about(deps, operation, fault=outcome.fault and outcome.fault.message))


def _reserved_again(tx: Connection, deps: ConductorContext, outcome: Outcome, operation: Operation) -> bool:
    """An instance that waits for a host has its volumes reserved so. False: it is deleted, and must not have them."""
    instances.hold(tx, operation.instance_uuid)
    found = instances.get_many(tx, [operation.instance_uuid]).get(operation.instance_uuid)
    if found is None:
        return False
    if found.host is None:
        devices = merged(found.block_devices, outcome.devices)
        instances.change(tx, found.uuid, now=deps.now(), block_devices=devices)
    return True


def settle(
    tx: Connection,
    deps: ConductorContext,
    uuid: str,
    columns: Callable[[Instance], dict[str, Any]],
    known: Instance | None = None,
) -> None:
    """Change the instance to what `columns` makes of the newest row; of `known`, as it was read before, if its state
    still is that and it depends on nothing else. An instance that is gone stays so."""
    for _ in range(5):
        try:
            instance, known = known or instances.get(tx, uuid), None
        except InstanceNotFound:
            return
        if instances.change(tx, uuid, now=deps.now(), expect=instance.state, **columns(instance)):
            return
    raise Conflict(reason=f"Instance {uuid} changes all the time.")


def _succeed(tx: Connection, deps: ConductorContext, held: Standing, outcome: Outcome) -> None:
    now, operation = deps.now(), held.operation
    operations.forget_password(tx, operation)
    _keep(tx, operation, outcome)
    operations.finish(tx, operation.id, operation.fence, Phase.DONE, now)

    def columns(instance: Instance) -> dict[str, Any]:
        changes: dict[str, Any] = {}
        if lifecycle.shows(operation.kind.value):
            after = lifecycle.finish(operation.kind.value, instance.state)
            changes = {"vm_state": after.vm, "task_state": after.task}
        for name in ("power_state", "network_info", "root_device_name"):
            value = getattr(outcome, name)
            if value is not None:
                changes[name] = value
        if outcome.devices:
            changes["block_devices"] = merged(instance.block_devices, outcome.devices)
        if operation.kind in _MAKES_A_GUEST:
            changes |= {"launched_at": now, "launched_on": operation.host, "host": operation.host}
        if operation.kind is Kind.UNSHELVE:
            gone = bool(outcome.result.get(IMAGE_GONE))
            changes["system_metadata"] = shelved.ended(instance.system_metadata, image_gone=gone)
        if operation.kind is Kind.SHELVE:
            changes |= shelving.after_shelving(tx, deps, operation, instance)
        return changes

    only_state = not outcome.devices and operation.kind not in _CHANGES_MORE
    settle(tx, deps, operation.instance_uuid, columns, held.instance if only_state else None)
    if operation.kind is Kind.SHELVE and shelving.leaves_at_once(deps):
        _end_event(tx, deps, operation, None, whole=False)
    else:
        actions.end(tx, held.action_id, event_of(operation), operation.host, now)


def _keep(tx: Connection, operation: Operation, outcome: Outcome) -> None:
    """Who waits for it reads from the row how the operation ended."""
    if operation.kind in TELLING:
        arguments = {**operations.without_password(operation.arguments), ERRAND_OUTCOME: wire.to_plain(outcome)}
        operations.note(tx, operation.id, operation.fence, arguments)


def _end_event(
    tx: Connection, deps: ConductorContext, operation: Operation, fault: Fault | None, *, whole: bool = True
) -> None:
    """The event ends, and with it the `whole` action."""
    now, event = deps.now(), event_of(operation)
    if event is not None:
        actions.finish_event(
            tx,
            operation.instance_uuid,
            operation.request_id,
            event,
            operation.host,
            now,
            result=actions.SUCCESS if fault is None else actions.ERROR,
            traceback=fault.details if fault else None,
            details=fault.message if fault else None,
        )
    if not whole:
        return
    actions.finish(
        tx, operation.instance_uuid, operation.request_id, now, message=None if fault is None else actions.ERROR
    )


def _held(deps: ConductorContext, outcome: Outcome) -> Standing | None:
    """The operation, None when this outcome was told before. Raises OperationLost."""
    with deps.db.connect() as tx:
        found = standing(tx, [outcome.operation_id]).get(outcome.operation_id)
    if found is None or found.operation.fence != outcome.fence or found.operation.phase is Phase.SUPERSEDED:
        raise OperationLost(operation_id=outcome.operation_id, fence=outcome.fence)
    return None if found.operation.phase in (Phase.DONE, Phase.FAILED) else found


def _about(deps: ConductorContext, operation: Operation, **fields: Any) -> dict[str, Any]:
    return about(
        context_of(operation, deps.clock),
        instance=operation.instance_uuid,
        operation=operation.id,
        kind=operation.kind.value,
        host=operation.host,
        **fields,
    )
