"""How operations end: state, event, fault and the end itself in one transaction. Each declares what follows
(`cell_service.operations`); this module does it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

from sqlalchemy import Connection

from cell_service import wire
from cell_service.conductor import builds, effects
from cell_service.conductor.context import ConductorContext, about_operation, context_of, pause_seconds
from cell_service.db import actions, instances, operations
from cell_service.db.claims import with_instances
from cell_service.errors import Conflict, InstanceNotFound, OperationLost, PeerUnavailable, VolumeNotFound
from cell_service.model.instance import Fault, Instance
from cell_service.model.operation import OUTCOME, ClaimedOperation, Outcome, Phase
from cell_service.operations.declaration import Changes, Ending, Event, History, HostDeath, end
from cell_service.operations.table import declared, event_of
from cell_service.peers.volumes import Volume

log = logging.getLogger(__name__)

Decide = Callable[[Instance], Changes]

_MADE_OF_THE_ROW = frozenset({"block_devices", "shares", "system_metadata"})
"""Columns whose new values are computed from the old ones, and not only from the state."""


def record(deps: ConductorContext, outcome: Outcome) -> None:
    """Record an outcome that a host reports; nothing happens if it was reported before. Raises OperationLost."""
    claimed = _claimed(deps, outcome)
    if claimed is not None:
        conclude(deps, claimed, Event.SUCCEEDED if outcome.fault is None else Event.FAILED, outcome)


def conclude(deps: ConductorContext, claimed: ClaimedOperation, event: Event, outcome: Outcome) -> None:
    """End the operation with this outcome. Raises OperationLost, PeerUnavailable (to be tried again)."""
    operation, ctx = claimed.operation, context_of(claimed.operation, deps.clock)
    volumes = _volumes(deps, claimed, outcome) if event is Event.HOST_DIED else {}

    def decide(instance: Instance) -> Changes:
        return end(event, _ending(deps, claimed, outcome, instance, volumes))

    first = decide(claimed.instance)
    try:
        for effect in first.effects:
            effects.carry_out_before(deps, ctx, claimed.instance, effect)
    except PeerUnavailable as error:
        if operation.host is None or declared(operation).when_host_dies is not HostDeath.DO_HERE:
            raise
        deps.db.run(lambda tx: operations.hand_over(tx, operation.id, operation.fence))
        log.warning("operation goes on without its host", extra=about_operation(deps, operation, reason=error))
        return
    except Conflict as error:
        if isinstance(error, OperationLost) or event is not Event.HOST_DIED:
            raise
        fault = Fault(code=error.status, message=error.for_users(), created_at=deps.now())
        conclude(deps, claimed, Event.FAILED, replace(outcome, fault=fault))
        return
    changes = deps.db.run(lambda tx: _apply(tx, deps, claimed, outcome, decide, first))
    for effect in changes.effects:
        effects.carry_out_after(deps, ctx, operation, effect)
    if changes.phase is Phase.MOVING:
        deps.work.set()
    if changes.fault is None:
        log.info("operation done", extra=about_operation(deps, operation))
    else:
        words = {"phase": changes.phase.value, "reason": changes.fault.message}
        log.warning("operation failed", extra=about_operation(deps, operation, **words))


def _apply(
    tx: Connection, deps: ConductorContext, claimed: ClaimedOperation, outcome: Outcome, decide: Decide, first: Changes
) -> Changes:
    """Write the operation's row first: its fence decides. Returns the changes as they were made."""
    operation, now = claimed.operation, deps.now()
    if first.phase is Phase.OPEN:
        until = now + timedelta(seconds=pause_seconds(operation.attempt))
        if not operations.postpone(tx, operation.id, operation.fence, until):
            return replace(first, effects=())
    elif first.phase is Phase.MOVING:
        builds.leave_host(tx, operation, outcome)
    else:
        kept = {**operation.arguments, OUTCOME: wire.to_plain(outcome)} if declared(operation).reports else None
        operations.finish(tx, operation, first.phase, now, kept)
    changes = _settle(tx, deps, claimed, decide, first)
    _end_history(tx, claimed, changes, deps)
    for effect in changes.effects:
        effects.carry_out_within(tx, deps, claimed, effect)
    return changes


def _settle(
    tx: Connection, deps: ConductorContext, claimed: ClaimedOperation, decide: Decide, changes: Changes
) -> Changes:
    """Change the instance as decided; the decision is made again if its row has changed. Raises OperationLost."""
    uuid = claimed.operation.instance_uuid
    known: Instance | None = claimed.instance
    if changes.columns.keys() & _MADE_OF_THE_ROW or changes.only_from is not None:
        known = None
    for _ in range(5):
        if known is None and changes.columns:
            try:
                known = instances.get_locked(tx, uuid)
            except InstanceNotFound:
                return _without_instance(tx, uuid, decide, changes)
            changes = decide(known)
        if not changes.columns or known is None:
            return changes
        if changes.only_from is not None and known.state != changes.only_from:
            raise OperationLost(operation_id=claimed.id, fence=claimed.fence)
        if instances.change(tx, uuid, now=deps.now(), expect=known.state, **changes.columns):
            return changes
        known = None
    raise Conflict(reason=f"Instance {uuid} changes all the time.")


def _without_instance(tx: Connection, uuid: str, decide: Decide, changes: Changes) -> Changes:
    """The changes for an instance that is deleted meanwhile, and stays deleted."""
    gone = instances.get_many(tx, [uuid], deleted=True).get(uuid)
    return replace(changes if gone is None else decide(gone), columns={})


def _end_history(tx: Connection, claimed: ClaimedOperation, changes: Changes, deps: ConductorContext) -> None:
    operation, fault, now = claimed.operation, changes.fault, deps.now()
    if changes.history is History.NOTHING:
        return
    event, host = event_of(operation), operation.host or claimed.instance.host
    if fault is None and changes.history is History.ACTION:
        actions.end(tx, claimed.action_id, event, host, now)
        return
    uuid, request_id = operation.instance_uuid, operation.request_id
    if event is not None:
        actions.finish_event(
            tx,
            uuid,
            request_id,
            event,
            host,
            now,
            result=actions.SUCCESS if fault is None else actions.ERROR,
            traceback=fault.details if fault else None,
            details=fault.message if fault else None,
        )
    if changes.history is History.ACTION:
        actions.finish(tx, uuid, request_id, now, message=actions.ERROR)


def _ending(
    deps: ConductorContext,
    claimed: ClaimedOperation,
    outcome: Outcome,
    instance: Instance,
    volumes: Mapping[str, Volume | None],
) -> Ending[Any, Any]:
    declaration = declared(claimed.operation)
    return Ending(
        declaration,
        claimed.operation,
        declaration.read(claimed.operation.arguments),
        instance,
        outcome,
        wire.from_plain(declaration.result, outcome.result),
        deps.now(),
        offloads_at_once=deps.settings.shelved_offload_seconds == 0,
        volumes=volumes,
    )


def _volumes(deps: ConductorContext, claimed: ClaimedOperation, outcome: Outcome) -> dict[str, Volume | None]:
    """The block storage service's records of the volumes that matter. Raises PeerUnavailable."""
    found: dict[str, Volume | None] = {}
    ending = _ending(deps, claimed, outcome, claimed.instance, {})
    if deps.volumes is None:
        return found
    for volume_id in ending.declaration.asks_volumes(ending):
        try:
            found[volume_id] = deps.volumes.get(context_of(claimed.operation, deps.clock), volume_id)
        except VolumeNotFound:
            found[volume_id] = None
    return found


def _claimed(deps: ConductorContext, outcome: Outcome) -> ClaimedOperation | None:
    """The operation, None when this outcome was reported before. Raises OperationLost."""
    with deps.db.connect() as tx:
        found = with_instances(tx, [outcome.operation_id]).get(outcome.operation_id)
    if found is None or found.fence != outcome.fence or found.operation.phase is Phase.SUPERSEDED:
        raise OperationLost(operation_id=outcome.operation_id, fence=outcome.fence)
    return None if found.operation.phase in (Phase.DONE, Phase.FAILED) else found
