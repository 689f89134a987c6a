"""Guests as hypervisors report them, compared with the cell's rows of instances."""

from __future__ import annotations

import logging
from datetime import timedelta

from sqlalchemy import Connection

from cell_service.conductor.context import ConductorContext, on_behalf_of
from cell_service.conductor.reconciliation import KEEP, claims_on, judge
from cell_service.context import Context
from cell_service.db import actions, instances, operations, server_migrations
from cell_service.logs import about
from cell_service.model.instance import Instance
from cell_service.model.lifecycle import PowerState, State, VmState
from cell_service.operations.power import STOP
from cell_service.rpc.conductor import GuestDecision, GuestReport

log = logging.getLogger(__name__)

SETTLED_SECONDS = 60.0
_OFF = (PowerState.SHUTDOWN, PowerState.CRASHED)

FOLLOWS: dict[tuple[VmState, PowerState], VmState] = {
    (VmState.ACTIVE, PowerState.SHUTDOWN): VmState.STOPPED,
    (VmState.ACTIVE, PowerState.CRASHED): VmState.STOPPED,
    (VmState.ACTIVE, PowerState.PAUSED): VmState.PAUSED,
    (VmState.ACTIVE, PowerState.SUSPENDED): VmState.SUSPENDED,
    (VmState.PAUSED, PowerState.SHUTDOWN): VmState.STOPPED,
    (VmState.PAUSED, PowerState.CRASHED): VmState.STOPPED,
    (VmState.PAUSED, PowerState.RUNNING): VmState.ACTIVE,
    (VmState.SUSPENDED, PowerState.RUNNING): VmState.ACTIVE,
}
"""The vm_state an instance takes when its guest is found in a power state that no request led to."""

ON = (PowerState.RUNNING, PowerState.PAUSED)


def reconcile(
    deps: ConductorContext, ctx: Context, host: str, guests: tuple[GuestReport, ...]
) -> tuple[GuestDecision, ...]:
    """Correct the cell's power states of the host's instances. Returns what the host must do with each guest."""
    with deps.db.connect() as tx:
        known = instances.get_many(tx, [guest.instance_uuid for guest in guests], deleted=True)
        claims = claims_on(tx, host, known)
        believed = {instance.uuid: instance for instance in instances.on_host(tx, host)}
    decisions = []
    for guest in guests:
        decision = judge(ctx, host, guest, known.get(guest.instance_uuid), claims)
        decisions.append(GuestDecision(guest.instance_uuid, decision))
        if decision == KEEP and guest.instance_uuid in believed:
            take_over(deps, ctx, host, guest.instance_uuid, guest.power_state)
    _note_missing(deps, ctx, [one for uuid, one in believed.items() if uuid not in known])
    return tuple(decisions)


def take_over(deps: ConductorContext, ctx: Context, host: str, uuid: str, power_state: PowerState) -> None:
    """Record a power state that the guest changed by itself, unless a task runs, the instance lives elsewhere, or a
    move of it is under way (also one whose task an administrator has reset), which stops and starts the guest."""
    wakes = deps.db.run(lambda tx: _follow(tx, deps, ctx, host, uuid, power_state))
    if wakes:
        deps.wake(ctx, host)


def _follow(
    tx: Connection, deps: ConductorContext, ctx: Context, host: str, uuid: str, power_state: PowerState
) -> bool:
    """Record the guest's power state. Returns whether that began an operation for the host."""
    instance = instances.get_many(tx, [uuid]).get(uuid)
    if instance is None or instance.hidden or instance.host != host or instance.task_state is not None:
        return False
    if operations.unfinished(tx, uuid):
        return False
    if instance.vm_state is VmState.STOPPED and power_state in ON and not _moves(tx, instance):
        return _stop_again(tx, deps, instance, power_state)
    after = FOLLOWS.get((instance.vm_state, power_state), instance.vm_state)
    if instance.vm_state is VmState.SUSPENDED and power_state in _OFF:
        power_state = PowerState.SUSPENDED  # to some hypervisors a guest saved to disk is simply off
    if (after, power_state) == (instance.vm_state, instance.power_state) or _moves(tx, instance):
        return False
    changed = instances.change(
        tx, uuid, now=deps.now(), expect=instance.state, settled=True, vm_state=after, power_state=power_state
    )
    if changed and after is not instance.vm_state:
        log.warning(
            "guest changed by itself",
            extra=about(ctx, instance=uuid, host=host, was=instance.vm_state.value, vm_state=after.value),
        )
        if after is VmState.STOPPED:
            _record_stop(tx, deps, instance)
    return False


def _moves(tx: Connection, instance: Instance) -> bool:
    """Whether a move of the instance is under way; not one that waits for its confirmation."""
    return instance.vm_state is not VmState.RESIZED and bool(server_migrations.unfinished_of(tx, [instance.uuid]))


def _stop_again(tx: Connection, deps: ConductorContext, instance: Instance, power_state: PowerState) -> bool:
    """Stop a guest that was started outside compute: its owner last requested that it be stopped."""
    if not instances.change(
        tx,
        instance.uuid,
        now=deps.now(),
        expect=State(VmState.STOPPED),
        settled=True,
        task_state=STOP.rule.task,
        power_state=power_state,
    ):
        return False
    ctx = on_behalf_of(deps, instance)
    actions.start(tx, ctx, instance.uuid, STOP.action, deps.now())
    operations.insert(tx, operations.new_operation(STOP, ctx, instance.uuid, instance.host, deps.now()))
    log.warning("guest runs though stopped, stopping it", extra=about(ctx, instance=instance.uuid))
    return True


def _record_stop(tx: Connection, deps: ConductorContext, instance: Instance) -> None:
    ctx = on_behalf_of(deps, instance)
    now = deps.now()
    actions.start(tx, ctx, instance.uuid, STOP.action, now)
    actions.finish_event(tx, instance.uuid, ctx.request_id, STOP.event or "", instance.host, now)
    actions.finish(tx, instance.uuid, ctx.request_id, now)


def _note_missing(deps: ConductorContext, ctx: Context, missing: list[Instance]) -> None:
    """Record that instances without a guest have no power state; a host with work on one may not list its guest yet."""
    settled = deps.now() - timedelta(seconds=SETTLED_SECONDS)
    for instance in missing:
        if instance.hidden or instance.task_state is not None or instance.power_state is PowerState.NOSTATE:
            continue
        if instance.vm_state is VmState.BUILDING or (instance.updated_at or instance.created_at) > settled:
            continue
        log.warning("instance has no guest", extra=about(ctx, instance=instance.uuid, host=instance.host))
        deps.db.run(
            lambda tx, one=instance: instances.change(  # type: ignore[misc]
                tx, one.uuid, now=deps.now(), expect=one.state, settled=True, power_state=PowerState.NOSTATE
            )
        )
