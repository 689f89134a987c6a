"""Events that other services report of instances. A lost event about a port is made up for by the next scan of all
ports."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from datetime import timedelta

from sqlalchemy import Connection

from cell_service.conductor import volumes
from cell_service.conductor.context import ConductorContext, on_behalf_of
from cell_service.context import Context
from cell_service.db import actions, instances, network_info, operations
from cell_service.errors import PolycellError
from cell_service.logs import about
from cell_service.model.events import (
    NETWORK_CHANGED,
    POWER_OFF,
    POWER_ON,
    POWER_UPDATE,
    VIF_DELETED,
    VIF_PLUGGED,
    VOLUME_EXTENDED,
    ServerEvent,
)
from cell_service.model.instance import Instance
from cell_service.model.lifecycle import PowerState, VmState
from cell_service.operations.interfaces import DETACH_INTERFACE, DetachInterfaceArguments
from cell_service.operations.power import START, STOP
from cell_service.rpc.compute import Compute
from cell_service.rpc.contract import client

log = logging.getLogger(__name__)

BATCH = 50
UNPLUG_SECONDS = 600.0
_POWER = {
    POWER_ON: (VmState.STOPPED, VmState.ACTIVE, PowerState.RUNNING, START),
    POWER_OFF: (VmState.ACTIVE, VmState.STOPPED, PowerState.SHUTDOWN, STOP),
}
"""The power changes by tag: from which state to which, the power state then, and the name of the action in the
history."""


def take_over(deps: ConductorContext, ctx: Context, events: Sequence[ServerEvent]) -> None:
    """Act on each event: record it in the cell, or begin an operation. One that fails is logged, and harms no other."""
    changed = {event.instance_uuid for event in events if event.name == NETWORK_CHANGED}
    if changed:
        _safely(ctx, "ports not looked at", lambda: renew(deps, ctx, _living(deps, changed)))
    for event in events:
        act = _HANDLERS.get(event.name)
        if act is not None:
            _safely(ctx, event.name, lambda act=act, event=event: act(deps, ctx, event))  # type: ignore[misc]


def renew(deps: ConductorContext, ctx: Context, known: Sequence[Instance]) -> int:
    """Renew the stored ports of these instances from the network service. Returns how many instances have changed."""
    renewed = 0
    plugged = [instance for instance in known if instance.network_info]
    for start in range(0, len(plugged), BATCH):
        some = plugged[start : start + BATCH]
        if deps.networks is None:
            break
        found = deps.networks.infos(ctx, {instance.uuid: instance.project_id for instance in some})
        for seen in some:
            vifs = {vif.port_id: vif for vif in found.get(seen.uuid, ())}
            if network_info.renewed(seen.network_info, vifs) != seen.network_info:
                renewed += deps.db.run(
                    lambda tx, seen=seen, vifs=vifs: network_info.renew(tx, seen, vifs, deps.now())  # type: ignore[misc]
                )
    return renewed


def _vif_deleted(deps: ConductorContext, ctx: Context, event: ServerEvent) -> None:
    """Detach the port's interface from the guest: the network service has deleted the port."""

    def work(tx: Connection) -> str | None:
        instance = instances.get_many(tx, [event.instance_uuid]).get(event.instance_uuid)
        if instance is None or all(vif.port_id != event.tag for vif in instance.network_info):
            return None
        if instance.host is None:
            left = tuple(vif for vif in instance.network_info if vif.port_id != event.tag)
            instances.change(tx, instance.uuid, now=deps.now(), settled=True, network_info=left)
            return None
        arguments = DetachInterfaceArguments(event.tag or "")
        under_way = operations.of_kind(operations.unfinished(tx, instance.uuid), DETACH_INTERFACE)
        if any(DETACH_INTERFACE.read(each.arguments) == arguments for each in under_way):
            return None
        own = on_behalf_of(deps, instance)
        now = deps.now()
        actions.start(tx, own, instance.uuid, DETACH_INTERFACE.action, now)
        until = now + timedelta(seconds=UNPLUG_SECONDS)
        new = operations.new_operation(
            DETACH_INTERFACE, own, instance.uuid, instance.host, now, arguments, deadline=until
        )
        operations.insert(tx, new)
        return instance.host

    host = deps.db.run(work)
    if host is not None:
        deps.wake(ctx, host)


def _vif_plugged(deps: ConductorContext, ctx: Context, event: ServerEvent) -> None:
    """Notify the host, where a build may wait for the port."""
    for instance in _living(deps, {event.instance_uuid}):
        if instance.host is not None and event.tag:
            host = client(Compute, deps.transport, instance.host)
            host.port_event(ctx, instance.uuid, event.tag, event.status == "failed")


def _power_update(deps: ConductorContext, ctx: Context, event: ServerEvent) -> None:
    """Record that the machine was turned on or off outside compute, so that the guest is not turned back."""
    before, after, power_state, operation = _POWER[event.tag or ""]

    def work(tx: Connection) -> None:
        instance = instances.get_many(tx, [event.instance_uuid]).get(event.instance_uuid)
        if instance is None or instance.task_state is not None or instance.vm_state is not before:
            return
        now, own = deps.now(), on_behalf_of(deps, instance)
        if instances.change(
            tx, instance.uuid, now=now, expect=instance.state, settled=True, vm_state=after, power_state=power_state
        ):
            actions.start(tx, own, instance.uuid, operation.action, now)
            actions.finish_event(tx, instance.uuid, own.request_id, operation.event or "", instance.host, now)
            actions.finish(tx, instance.uuid, own.request_id, now)

    deps.db.run(work)


_HANDLERS: dict[str, Callable[[ConductorContext, Context, ServerEvent], None]] = {
    VIF_PLUGGED: _vif_plugged,
    VIF_DELETED: _vif_deleted,
    VOLUME_EXTENDED: volumes.extended,
    POWER_UPDATE: _power_update,
}


def _living(deps: ConductorContext, uuids: set[str]) -> list[Instance]:
    with deps.db.connect() as tx:
        return list(instances.get_many(tx, sorted(uuids)).values())


def _safely(ctx: Context, what: str, act: Callable[[], object]) -> None:
    try:
        act()
    except PolycellError as error:
        log.warning("external event not taken over", extra=about(ctx, event=what, reason=error))
