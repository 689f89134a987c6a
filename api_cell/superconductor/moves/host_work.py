"""What hosts do for a move: operations in a cell, asked for once and waited for.

An errand is known by its key, so that who takes the move over finds the one that was asked for already; it carries
the fence of who asked, so that somebody who lost the move meanwhile can't ask for more.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from sqlalchemy import Connection

from api_cell.servers import act
from api_cell.superconductor.moves import rows
from api_cell.superconductor.moves.step_context import Failed, StepContext
from cell_service import wire
from cell_service.db import instances, operations, services
from cell_service.errors import OperationLost, ServiceNotFound
from cell_service.model.move import Errand, MoveKind
from cell_service.model.operation import ERRAND_OUTCOME, EVENT, IMAGE_GONE, Kind, Operation, Outcome, Phase
from mapping_db.cells.registry import Cell

SECONDS = 3600.0
NEVER = timedelta(days=3650)
MOST_RETRIES = 3

_RESIZE = {"out": "compute_resize_instance", "in": "compute_prep_resize", "run": "compute_finish_resize"}
_LIVE = {"out": "compute_live_migration", "in": "compute_pre_live_migration",
         "run": "compute_post_live_migration_at_destination"}  # fmt: skip
_REVERT = {"stop": "compute_revert_resize", "restart": "compute_finish_revert_resize"}
_EVENTS: dict[tuple[str, str], str] = {
    (of, name): event
    for of, names in {
        MoveKind.COLD: _RESIZE,
        MoveKind.RESIZE: _RESIZE,
        MoveKind.LIVE: _LIVE,
        MoveKind.EVACUATE: {"run": "compute_rebuild_instance"},
        MoveKind.UNSHELVE: {"run": "compute_unshelve_instance"},
        "confirmResize": {"clear_source": "compute_confirm_resize"},
        "revertResize": _REVERT,
    }.items()
    for name, event in names.items()
}
"""The events' names under which users of nova know the errands, by kind of move or the action that ends it."""


def ask(
    context: StepContext, cell: Cell, host: str | None, kind: Kind, arguments: dict[str, Any], name: str
) -> Outcome | None:
    """The outcome of the step's errand, `name` within its phase; None while it is under way. Raises as `run` does."""
    assert host is not None
    key = f"{context.move.phase.value}/{name}/{host}/{context.plan.retries}"
    event = _EVENTS.get((context.plan.event_action, name)) or _EVENTS.get((context.move.kind, name))
    return run(context, cell, host, kind, {**arguments, EVENT: event}, key)


def demand(outcome: Outcome) -> None:
    """Raises Failed when the errand ended with a fault."""
    if outcome.fault is not None:
        raise Failed(outcome.fault.message, outcome.fault.code)


def start(context: StepContext, cell: Cell, host: str | None, arguments: dict[str, Any], name: str) -> bool:
    """The guest runs on the host as asked for, or that it could not, after some tries, is the move's fault."""
    try:
        outcome = ask(context, cell, host, Kind.MOVE_RUN, arguments, name)
    except Failed as failed:
        context.note(fault=context.plan.fault or failed.reason)
        return True
    if outcome is None:
        return False
    rows.take_over(context, cell, outcome)
    if outcome.fault is None:
        if outcome.result.get(IMAGE_GONE):
            context.note(image="")
        return True
    if context.plan.retries < MOST_RETRIES:
        context.note(retries=context.plan.retries + 1, errand=None)
        return False
    context.note(fault=context.plan.fault or outcome.fault.message, code=outcome.fault.code)
    return True


def clear(context: StepContext, cell: Cell, host: str | None, name: str) -> bool:
    """Nothing of the guest is left on the host; a host whose service was deleted is not waited for."""
    if host is None:
        return True
    with cell.db.connect(context.ctx.deadline) as tx:
        try:
            services.by_host(tx, host, services.COMPUTE)
        except ServiceNotFound:
            return True
    return ask(context, cell, host, Kind.MOVE_DROP, {}, name) is not None


def guest(context: StepContext) -> dict[str, Any]:
    """What errands at the destination are told of the guest."""
    return {"live": context.move.kind is MoveKind.LIVE, "flavor": plain(context.plan.new_flavor)}


def plain(flavor: Any) -> Any:
    """The flavor, if any, as errands carry it."""
    return None if flavor is None else wire.to_plain(flavor)


def run(context: StepContext, cell: Cell, host: str, kind: Kind, arguments: dict[str, Any], key: str) -> Outcome | None:
    """The errand's outcome, perhaps with a fault; None while it is under way.

    Raises Overtaken when the instance is being deleted, Failed when an administrator has ended the errand.
    """
    if context.plan.errand is None:
        context.demand_lease()
        operation_id = cell.db.run(lambda tx: _ask(tx, context, host, kind, arguments, key), context.ctx.deadline)
        context.note(errand=Errand(cell.mapping.id, operation_id))
        act.wake(context.ctx, cell, host)
        return None
    errand = context.plan.errand
    with cell.db.connect(context.ctx.deadline) as tx:
        operation = operations.get(tx, errand.operation_id)
        if operation is not None and operation.phase in (Phase.OPEN, Phase.RUNNING):
            return None
        if operation is None or operation.phase is Phase.SUPERSEDED:
            if kind is Kind.MOVE_DROP:  # the cell has forgotten the instance, and with it the host
                return Outcome(errand.operation_id, 0)
            rows.living(tx, context.move.instance_uuid)
    return _outcome(operation)


def _ask(tx: Connection, context: StepContext, host: str, kind: Kind, arguments: dict[str, Any], key: str) -> int:
    move, now = context.move, context.deps.cloud.clock.now()
    instances.hold(tx, move.instance_uuid)  # two who ask at once ask one after the other
    if kind is not Kind.MOVE_DROP:
        rows.living(tx, move.instance_uuid)
    for asked in operations.of_instance(tx, move.instance_uuid):
        if asked.arguments.get("move") == move.uuid:
            if asked.arguments["fence"] > move.fence:
                raise OperationLost(operation_id=move.uuid, fence=move.fence)
            if asked.arguments["key"] == key:
                return asked.id
    return operations.insert(
        tx,
        context.ctx,
        instance_uuid=move.instance_uuid,
        kind=kind,
        host=host,
        now=now,
        deadline=now + (NEVER if kind is Kind.MOVE_DROP else timedelta(seconds=SECONDS)),
        arguments={**arguments, "move": move.uuid, "fence": move.fence, "key": key},
    )


def _outcome(operation: Operation | None) -> Outcome:
    if operation is None or operation.phase is Phase.SUPERSEDED:
        raise Failed("The move was given up by an administrator.")
    plain = operation.arguments.get(ERRAND_OUTCOME)
    if plain is None:
        raise Failed("The host's answer is lost.")
    return wire.from_plain(Outcome, plain)
