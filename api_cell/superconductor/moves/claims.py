"""The allocations of a move in placement, each changed in one global transaction together with the record of it.

While a move is under way there are two consumers: the instance, with an allocation of the host that it is going to; and
the move, with one of the host that it comes from. So the capacity of both is right at every moment, and nothing is
claimed twice.
"""

from __future__ import annotations

from dataclasses import replace

from sqlalchemy import Connection

from api_cell.superconductor.moves.step_context import StepContext, StepFailed, Superseded
from cell_service.errors import ComputeHostNotFound, NoValidHost, OperationLost, StillNeeded
from cell_service.model.instance import Flavor
from cell_service.model.request_spec import RequestSpec, Selection
from mapping_db import host_mappings, host_moves, instance_mappings, moves, request_specs, server_groups
from mapping_db.host_moves import HostIsMoving
from mapping_db.instance_mappings import InstanceMapping
from mapping_db.moves import Move
from mapping_db.placement import allocations
from mapping_db.placement.allocations import Claim, Consumer


def choose(context: StepContext, *, may_stay: bool, zone_as_requested: bool) -> None:
    """Choose the move's destination, and claim it. `may_stay`: on the host that it has, where the operator allows that;
    `zone_as_requested`: in the availability zone that the plan names.

    Raises StepFailed when there is none, StillNeeded when there may be one once earlier moves are through; Superseded
    when the server is being deleted: what is claimed after its delete has released everything would stay.
    """
    deps, move = context.deps, context.move
    with deps.cloud.db.connect() as tx:
        spec = request_specs.get(tx, move.instance_uuid)
        if spec is None:
            raise StepFailed("The server's request spec is lost.")
        uncleared = _uncleared(tx, move)
        spec = _requested(context, spec, uncleared, may_stay=may_stay, zone_as_requested=zone_as_requested)
        cells = _cells(tx, context)
    now = deps.cloud.clock.now()

    def record(tx: Connection, chosen: Selection) -> bool:
        if instance_mappings.lock_row(tx, move.instance_uuid).queued_for_delete:
            return False
        try:
            host_moves.demand_stays(tx, chosen.host, chosen.cell_id)
        except HostIsMoving as error:
            raise StepFailed(NoValidHost.SUMMARY, details=str(error)) from error
        plan = replace(
            context.plan_when_done,
            node=chosen.node,
            host_ip=chosen.host_ip or None,
            provider_uuid=chosen.provider_uuid,
            availability_zone=chosen.availability_zone,
        )
        moves.record(tx, move, now, target_cell=chosen.cell_id, target_host=chosen.host, plan=plan)
        return True

    reason = ""
    for cell_id in cells:
        keep = {move.instance_uuid: move.uuid}
        (outcome,) = deps.scheduler.select(context.ctx, [spec], record, cell_id=cell_id, keep=keep)
        if isinstance(outcome, Selection):
            with deps.cloud.db.connect() as tx:
                recorded = moves.get(tx, move.uuid)
            if recorded is None or recorded.fence != move.fence:
                raise OperationLost(operation_id=move.uuid, fence=move.fence)
            context.move = recorded
            return
        if outcome is None:
            raise Superseded
        if isinstance(outcome, NoValidHost):
            reason = str(outcome)
    if uncleared:
        raise StillNeeded(instance_uuid=move.instance_uuid)
    raise StepFailed(NoValidHost.SUMMARY, details=reason)


def restore(context: StepContext) -> None:
    """Give the instance the allocation that the move kept for it, and the move that of the destination. This happens
    once: it is recorded in the same transaction."""
    move, now = context.move, context.deps.cloud.clock.now()

    def work(tx: Connection) -> Move:
        mapping = instance_mappings.lock_row(tx, move.instance_uuid)
        if not mapping.queued_for_delete:
            allocated = allocations.of_consumers(tx, [move.instance_uuid, move.uuid])
            mine, kept = allocated.get(move.instance_uuid), allocated.get(move.uuid)
            claims = [
                _claim(mapping, move.instance_uuid, kept, "INSTANCE"),
                _claim(mapping, move.uuid, mine, "MIGRATION"),
            ]
            allocations.write(tx, claims, now)
            _place_in_group(tx, move.instance_uuid, move.source_host)
        return moves.record(tx, move, now, plan=context.plan_when_done)

    context.move = context.deps.cloud.db.run(work)


def release(context: StepContext) -> None:
    """Release what the move has claimed."""
    now = context.deps.cloud.clock.now()
    context.deps.cloud.db.run(lambda tx: allocations.release(tx, context.move.uuid, now))


def keep_flavor(context: StepContext, flavor: Flavor | None) -> None:
    """Have later choices of a host go by that flavor, which the instance has now. Nothing changes where it keeps its
    own."""
    if flavor is None or context.plan.new_flavor is None:
        return

    def work(tx: Connection) -> None:
        spec = request_specs.get(tx, context.move.instance_uuid)
        if spec is not None and spec.flavor != flavor:
            request_specs.replace(tx, replace(spec, flavor=flavor))

    context.deps.cloud.db.run(work)


def keep_zone(context: StepContext) -> None:
    """Have later choices of a host go by the availability zone that was requested when the server was unshelved."""
    plan = context.plan

    def work(tx: Connection) -> None:
        spec = request_specs.get(tx, context.move.instance_uuid)
        if spec is not None and spec.availability_zone != plan.pin:
            request_specs.replace(tx, replace(spec, availability_zone=plan.pin))

    if plan.pins:
        context.deps.cloud.db.run(work)


def _requested(
    context: StepContext, spec: RequestSpec, uncleared: set[str], *, may_stay: bool, zone_as_requested: bool
) -> RequestSpec:
    plan, move = context.plan, context.move
    flavor = plan.new_flavor or plan.old_flavor or spec.flavor
    stays = may_stay and context.deps.settings.allow_resize_to_same_host
    away = {move.source_host} if move.source_host and not stays else set()
    forced = plan.target_host if plan.force else None
    return replace(
        spec,
        flavor=flavor,
        force_host=forced,
        force_node=None,
        requested_host=None if forced else plan.target_host,
        requested_node=None if forced else plan.target_node,
        ignore_hosts=tuple(sorted(away | set(plan.tried) | uncleared)),
        availability_zone=plan.availability_zone if zone_as_requested else spec.availability_zone,
        needs=plan.needs,
    )


def _uncleared(tx: Connection, move: Move) -> set[str]:
    """Hosts on which earlier moves of the instance have still to remove something: it does not go back there yet. All
    hosts of a cell which still has rows of it."""
    hosts: set[str] = set()
    for other in moves.of_instance(tx, move.instance_uuid):
        if other.uuid == move.uuid:
            continue
        hosts |= {host for host in (other.source_host, other.target_host) if host}
        if other.crosses:
            left = {cell for cell in (other.source_cell, other.target_cell) if cell is not None} - {move.source_cell}
            for cell_id in left:
                hosts |= {mapping.host for mapping in host_mappings.every(tx, cell_id)}
    return hosts - ({move.source_host} if move.source_host else set())


def _cells(tx: Connection, context: StepContext) -> list[int | None]:
    """The cells in which a host is chosen: the instance's own first; others only where that is allowed."""
    move, plan = context.move, context.plan
    if plan.target_host is not None:
        found = host_mappings.of_hosts(tx, [plan.target_host])
        if not found:
            raise StepFailed(str(ComputeHostNotFound(host=plan.target_host)), 400)
        if found[0].cell_id != move.source_cell and not plan.cross_cell:
            raise StepFailed(f"Host {plan.target_host} is in another cell.", 400)
        return [found[0].cell_id]
    return [move.source_cell, None] if plan.cross_cell else [move.source_cell]


def _claim(mapping: InstanceMapping, consumer_uuid: str, of: Consumer | None, consumer_type: str) -> Claim:
    has = {} if of is None else of.allocations
    return Claim(consumer_uuid, has, mapping.project_id, mapping.user_id, consumer_type)


def _place_in_group(tx: Connection, instance_uuid: str, host: str | None) -> None:
    uuid = server_groups.of_instance(tx, instance_uuid)
    if uuid is not None:
        groups = server_groups.by_uuids(tx, [uuid], lock=True)
        if uuid in groups:
            server_groups.place(tx, groups[uuid], instance_uuid, host)
