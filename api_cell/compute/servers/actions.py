"""POST /servers/{id}/action: one handler an action."""

from __future__ import annotations

from sqlalchemy import Connection

from api_cell.compute import behaviours
from api_cell.compute.servers.recording import or_recorded
from api_cell.edge.route import Handler, Request, Response
from api_cell.servers import act, find, power, recorded, reset
from api_cell.servers.act import Doing
from cell_service.db import actions, instances
from cell_service.errors import InstanceNotReady, NoConsumer, Unavailable
from cell_service.model.lifecycle import PowerState, VmState
from mapping_db.cells.registry import Cell

LOCK_RULE = "os_compute_api:os-lock-server:lock"
UNLOCK_RULE = "os_compute_api:os-lock-server:unlock"
OVERRIDE_RULE = "os_compute_api:os-lock-server:unlock:unlock_override"


def doing(what: Doing) -> Handler:
    """The handler that accepts an action without arguments: 202."""

    def handle(req: Request) -> Response:
        return _begun(req, what)

    return handle


def _begun(req: Request, what: Doing) -> Response:
    cloud, caller, server_id = req.cloud, req.caller, req.params["id"]

    def do() -> Response:
        act.begin(cloud, caller, server_id, what)
        return Response(202)

    if not recorded.is_recordable(what):
        return do()
    return or_recorded(req, do, lambda: recorded.record_action(cloud, caller, server_id, what))


def reboot(req: Request) -> Response:
    """202: the server will reboot, softly or hard."""
    hard = req.body["reboot"]["type"].upper() == "HARD"
    return _begun(req, power.REBOOT_HARD if hard else power.REBOOT_SOFT)


def lock(req: Request) -> Response:
    """202: only administrators may act on the server now, until it is unlocked."""
    server_id = req.params["id"]
    reasoned = behaviours.LOCKS_HAVE_A_REASON.at(req.version)
    reason = (req.body["lock"] or {}).get("locked_reason") if reasoned else None

    def work(tx: Connection, cell: Cell) -> None:
        instance = find.to_change(req.cloud, req.ctx, tx, cell, server_id)
        req.demand(LOCK_RULE, find.target(instance))
        by = "owner" if instance.project_id == req.ctx.project_id and instance.locked_by != "admin" else "admin"
        now = req.cloud.clock.now()
        instances.change(tx, server_id, now=now, locked_by=by, locked_reason=reason)
        actions.start(tx, req.ctx, server_id, "lock", now)
        actions.finish(tx, server_id, req.ctx.request_id, now)

    find.change(req.cloud, req.ctx, server_id, work)
    return Response(202)


def unlock(req: Request) -> Response:
    """202: the server is unlocked; what an administrator has locked, only they unlock."""
    server_id = req.params["id"]

    def work(tx: Connection, cell: Cell) -> None:
        instance = find.to_change(req.cloud, req.ctx, tx, cell, server_id)
        req.demand(UNLOCK_RULE, find.target(instance))
        if instance.locked_by == "admin":
            req.demand(OVERRIDE_RULE, find.target(instance))
        now = req.cloud.clock.now()
        instances.change(tx, server_id, now=now, locked_by=None, locked_reason=None)
        actions.start(tx, req.ctx, server_id, "unlock", now)
        actions.finish(tx, server_id, req.ctx.request_id, now)

    find.change(req.cloud, req.ctx, server_id, work)
    return Response(202)


def reset_state(req: Request) -> Response:
    """202: the server is ACTIVE or ERROR, with no task; work that showed in its state is given up."""
    reset.state(req.cloud, req.services, req.caller, req.params["id"], VmState(req.body["os-resetState"]["state"]))
    return Response(202)


def console_output(req: Request) -> Response:
    """200 {"output": "…"}: the last lines of the guest's console log."""
    found = find.server(req.cloud, req.ctx, req.params["id"])
    instance = found.instance
    req.demand("os_compute_api:os-console-output", find.target(instance))
    length = req.body["os-getConsoleOutput"].get("length")
    tail = None if length is None or int(length) < 0 else int(length)
    if found.cell is None or instance.host is None or instance.power_state is PowerState.NOSTATE:
        raise InstanceNotReady(instance_uuid=instance.uuid)
    try:
        output = found.cell.compute(instance.host).get_console_output(req.ctx, instance.uuid, tail)
    except NoConsumer:
        raise Unavailable(reason=f"Host of instance {instance.uuid} does not answer.") from None
    return Response(200, {"output": output})
