"""Requests for a move of a server to another host: what is recorded before a super-conductor runs it.

Order: 1. global: the move is recorded under a short lease, its password sealed, and quota for what is more; 2. the
cell: the task state and the action; refused there: 1 is rolled back; 3. global: the lease ends; 4. super-conductors are
woken. Killed after 1 or 2: when the lease has run out a super-conductor begins at 2.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import datetime, timedelta
from uuid import uuid4

from sqlalchemy import Connection

from api_cell.contract import SuperConductor
from api_cell.servers.able import demand_ability
from api_cell.servers.moves import kinds
from api_cell.servers.moves import quota as move_quota
from api_cell.servers.moves.kinds import MoveDeclaration
from api_cell.servers.moves.quota import GrowthQuota
from cell_service.context import Context, new_request_id
from cell_service.db import actions, instances, server_migrations
from cell_service.errors import (
    AlreadyMoving,
    Conflict,
    InstanceInTransit,
    InstanceInvalidState,
    MoveNotSettled,
    NotFound,
    NotResized,
    OperationLost,
    Unavailable,
)
from cell_service.logs import about
from cell_service.model.ability import Ability
from cell_service.model.block_device import volumes
from cell_service.model.instance import Instance
from cell_service.model.migration import ENDED, Migration
from cell_service.model.move import MovePhase, MovePlan, Owner
from cell_service.model.volume_connection import connection_of
from cell_service.operations import move_rules
from cell_service.operations.rule import begin, begin_on
from mapping_db import flavors, host_moves, moves
from mapping_db.cells.registry import Cell
from mapping_db.cloud import Cloud
from mapping_db.moves import Move

log = logging.getLogger(__name__)

LEASE_SECONDS = 15.0


def accept(
    cloud: Cloud,
    ctx: Context,
    superconductor: SuperConductor,
    cell: Cell,
    instance: Instance,
    kind: MoveDeclaration,
    plan: MovePlan,
    quota: GrowthQuota | None = None,
    password: str = "",
) -> str:
    """The server, which the caller may move, will be moved, and made with that password. Answers the move's uuid.

    Raises InstanceInvalidState, InstanceHasShares, InstanceNotFound, UnableToDo, OverQuota, CellUnavailable; then all
    is as before.
    """
    begin_on(kind.request, instance)
    needed = kind.needed(stays=plan.target_host is not None and plan.target_host == instance.host)
    if kind.asks_source:
        with cell.db.connect(ctx.deadline) as tx:
            demand_ability(tx, instance, needed)
    now = cloud.clock.now()
    new = plan.new_flavor or instance.flavor
    with cloud.db.connect() as tx:
        numbers = flavors.row_ids(tx, {instance.flavor.flavorid, new.flavorid})
    move = Move(
        uuid=str(uuid4()),
        instance_uuid=instance.uuid,
        kind=kind.stored,
        phase=MovePhase.GOING,
        request_id=ctx.request_id,
        user_id=ctx.user_id,
        project_id=ctx.project_id,
        created_at=now,
        updated_at=now,
        source_cell=cell.mapping.id,
        source_host=instance.host,
        plan=replace(
            plan,
            old_flavor=instance.flavor,
            old_flavor_id=numbers.get(instance.flavor.flavorid),
            new_flavor_id=numbers.get(new.flavorid),
            source_node=instance.node,
            before=instance.vm_state.value,
            event_action=kind.request.history,
            needs=_needs(needed, instance),
        ),
        active=instance.uuid,
        fence=1,
        owner=f"api:{ctx.request_id}",
        lease_until=now + timedelta(seconds=LEASE_SECONDS),
        sealed=cloud.db.sealer().seal(password) if password else None,
    )
    try:
        move = replace(move, id=cloud.db.run(lambda tx: _record(tx, move, quota)))
    except AlreadyMoving:
        raise InstanceInvalidState(
            action=kind.request.action, instance_uuid=instance.uuid, attribute="task_state", state="migrating"
        ) from None
    try:
        _demand_host_stays(cloud, move)
        earlier = earlier_moves(cloud, move)
        cell.db.run(lambda tx: begin_in(tx, ctx, move, earlier, now), ctx.deadline)
    except (Conflict, NotFound, InstanceInTransit):
        cloud.db.run(lambda tx: _roll_back(tx, move))
        raise
    except Unavailable:
        cloud.db.run(lambda tx: moves.rest(tx, move, now, until=None, phase=MovePhase.UNDOING))
        raise
    log.info("move accepted", extra=about(ctx, instance=instance.uuid, move=move.uuid, kind=kind.stored.value))
    begun = replace(move.plan, done=(kinds.BEGIN,))
    try:
        cloud.db.run(lambda tx: moves.rest(tx, move, now, until=None, plan=begun))
    except (OperationLost, Unavailable) as error:
        log.info("the move goes on when its lease ends", extra=about(ctx, move=move.uuid, reason=error))
    wake(ctx, superconductor, move.uuid)
    return move.uuid


def wake(ctx: Context, superconductor: SuperConductor, move_uuid: str) -> None:
    try:
        superconductor.move(ctx, (move_uuid,))
    except Unavailable as error:
        log.warning("no super-conductor woken, the move waits for the next scan", extra=about(ctx, reason=error))


def earlier_moves(cloud: Cloud, move: Move) -> frozenset[str]:
    """The uuids of earlier moves which have released the instance, and which its cell may still show as under way."""
    with cloud.db.connect() as tx:
        return moves.unsettled_before(tx, move)


def begin_in(tx: Connection, ctx: Context, move: Move, earlier: frozenset[str], now: datetime) -> Instance:
    """Show in the instance's cell that it is being moved. Done again: nothing changes. Refused while an `earlier` move
    is shown as under way: an evacuation, which begins in any task, would take that one's records along as they are.

    Raises InstanceNotFound, InstanceInvalidState, InstanceHasShares, InstanceInTransit.
    """
    instances.lock_row(tx, move.instance_uuid)
    instance = instances.get(tx, move.instance_uuid)
    kind = kinds.of(move.kind)
    name = kind.request.history
    if actions.has(tx, instance.uuid, move.request_id, name):
        return instance
    if instance.hidden:
        raise InstanceInTransit(instance_uuid=instance.uuid, retry_after=1)
    after = begin_on(kind.request, instance)
    shown = server_migrations.of_instance(tx, instance.uuid) if earlier else ()
    if any(each.uuid in earlier and each.status not in ENDED for each in shown):
        raise InstanceInvalidState(
            action=kind.request.action, instance_uuid=instance.uuid, attribute="task_state", state="migrating"
        )
    columns = {} if move.plan.auto_disk_config is None else {"auto_disk_config": move.plan.auto_disk_config}
    if not instances.change(tx, instance.uuid, now=now, expect=instance.state, task_state=after.task, **columns):
        raise InstanceInvalidState(
            action=kind.request.action,
            instance_uuid=instance.uuid,
            attribute="task_state",
            state=str(instance.task_state),
        )
    actions.start(tx, ctx, instance.uuid, name, now)
    if kind.first_status:
        server_migrations.store(tx, migration_of(move, kind.first_status))
    return instance


def migration_of(move: Move, status: str) -> Migration:
    """The migration as which the Compute API shows the move."""
    plan = move.plan
    return Migration(
        id=move.id,
        uuid=move.uuid,
        instance_uuid=move.instance_uuid,
        migration_type=move.kind.value,
        status=status,
        request_id=move.request_id,
        user_id=move.user_id,
        project_id=move.project_id,
        created_at=move.created_at,
        updated_at=move.updated_at,
        source_compute=move.source_host,
        source_node=plan.source_node,
        dest_compute=move.target_host,
        dest_node=plan.node,
        dest_host=plan.host_ip,
        old_instance_type_id=plan.old_flavor_id,
        new_instance_type_id=plan.new_flavor_id or plan.old_flavor_id,
        cross_cell_move=move.crosses,
    )


def conclude(cloud: Cloud, ctx: Context, superconductor: SuperConductor, instance: Instance, phase: MovePhase) -> None:
    """Confirm or revert (`phase`) the server's resize.

    Raises InstanceInvalidState, also when it is concluded already; NotResized; MoveNotSettled.
    """
    conclusion = move_rules.CONFIRM_RESIZE if phase is MovePhase.CONFIRMING else move_rules.REVERT_RESIZE
    name = conclusion.history
    begin(conclusion, instance.state, instance.uuid)

    def work(tx: Connection) -> Move:
        move = moves.active_of(tx, instance.uuid)
        if move is None:
            raise NotResized(instance_uuid=instance.uuid)
        plan = replace(move.plan, event_action=name, awaited=None, fault="", retries=0)
        if moves.steer(
            tx, move.uuid, cloud.clock.now(), source=MovePhase.WAITING, target=phase, plan=plan,
            request_id=ctx.request_id, user_id=ctx.user_id, project_id=ctx.project_id,
        ):  # fmt: skip
            return move
        if move.phase is MovePhase.GOING:
            raise MoveNotSettled(instance_uuid=instance.uuid, retry_after=1)
        raise InstanceInvalidState(
            action=name, instance_uuid=instance.uuid, attribute="task_state", state=str(instance.task_state)
        )

    move = cloud.db.run(work)
    log.info("move to be concluded", extra=about(ctx, instance=instance.uuid, move=move.uuid, how=phase.value))
    wake(ctx, superconductor, move.uuid)


def confirm_waiting(tx: Connection, instance_uuid: str, now: datetime, user_id: str, project_id: str) -> None:
    """Have a move of the server that waits for its conclusion confirmed, in the name of that user. None waits: nothing
    changes."""
    move = moves.active_of(tx, instance_uuid)
    if move is not None and move.is_parked:
        plan = replace(move.plan, event_action=kinds.CONFIRM, awaited=None, fault="", retries=0)
        moves.steer(
            tx, move.uuid, now, source=MovePhase.WAITING, target=MovePhase.CONFIRMING, plan=plan,
            request_id=new_request_id(), user_id=user_id, project_id=project_id,
        )  # fmt: skip


def abandon(tx: Connection, move: Move | None, now: datetime) -> None:
    """End the server's active move after an accepted delete, if the move waits to be concluded, and clear both
    sides."""
    if move is not None and move.phase is MovePhase.WAITING:
        plan = replace(move.plan, final_owner=Owner.NONE, awaited=None)
        moves.steer(tx, move.uuid, now, source=MovePhase.WAITING, target=MovePhase.TIDYING, plan=plan, active=None)


def _needs(needed: Ability, instance: Instance) -> tuple[str, ...]:
    """The abilities that the destination must have."""
    found = [needed]
    if held := volumes(instance.block_devices):
        found.append(Ability.VOLUMES)
    if any(connection_of(each.connection_info).encrypted for each in held):
        found.append(Ability.ENCRYPTED_VOLUMES)
    return tuple(ability.value for ability in found)


def _record(tx: Connection, move: Move, quota: GrowthQuota | None) -> int:
    key = moves.insert_new(tx, move)
    move_quota.promise(tx, move, quota)
    return key


def _demand_host_stays(cloud: Cloud, move: Move) -> None:
    """Raises InstanceInTransit for a host that is just moving to another cell, whose servers are left alone. The host's
    move scans for moves after it has recorded itself, and we read that record after we have recorded the move: one of
    the two finds the other."""
    with cloud.db.connect() as tx:
        if move.source_host is not None and host_moves.get(tx, move.source_host) is not None:
            raise InstanceInTransit(instance_uuid=move.instance_uuid, retry_after=5)


def _roll_back(tx: Connection, move: Move) -> None:
    move_quota.settle(tx, move, keeps_new=False)
    moves.withdraw(tx, move.uuid, move.owner or "")
