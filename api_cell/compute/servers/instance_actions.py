"""What was done to a server: GET /servers/{id}/os-instance-actions."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from api_cell.compute.servers.views import host_id
from api_cell.edge.links import next_link, page_size
from api_cell.edge.route import Request, Response
from api_cell.servers import find
from api_cell.servers.find import Found
from api_cell.servers.lists.query import parse_moment
from api_cell.timestamps import with_fraction
from cell_service.db import actions
from cell_service.db.actions import Action, ActionEvent
from cell_service.errors import ActionNotFound, Invalid

LIST_RULE = "os_compute_api:os-instance-actions:list"
SHOW_RULE = "os_compute_api:os-instance-actions:show"
EVENTS_RULE = "os_compute_api:os-instance-actions:events"
DETAILS_RULE = "os_compute_api:os-instance-actions:events:details"


def index(req: Request) -> Response:
    """200 {"instanceActions": […]}, newest first; paged from 2.58 on."""
    found = _found(req)
    req.demand(LIST_RULE, find.target(found.instance))
    limit = page_size(req, req.services.settings.api.max_limit) if req.at_least(2, 58) else None
    since, before = _moment(req, "changes-since"), _moment(req, "changes-before")
    if since and before and since > before:
        raise Invalid(reason="The value of changes-since must be less than or equal to changes-before.")
    if found.cell is None:
        return Response(200, {"instanceActions": []})
    with found.cell.db.connect(req.ctx.deadline) as tx:
        marker = req.one("marker") if req.at_least(2, 58) else None
        try:
            listed = actions.list_of(
                tx, found.instance.uuid, limit=limit, marker=marker, changes_since=since, changes_before=before
            )
        except ActionNotFound:
            raise Invalid(reason=f"marker [{marker}] not found") from None
    answer: dict[str, Any] = {"instanceActions": [_view(req, each) for each in listed]}
    if limit is not None and listed and len(listed) >= limit:
        path = f"/servers/{found.instance.uuid}/os-instance-actions"
        answer["links"] = next_link(req, path, listed[-1].request_id)
    return Response(200, answer)


def show(req: Request) -> Response:
    """200 {"instanceAction": {…, "events": […]}}"""
    found, request_id = _found(req), req.params["id"]
    target = find.target(found.instance)
    req.demand(SHOW_RULE, target)
    if found.cell is None:
        raise ActionNotFound(request_id=request_id, instance_uuid=found.instance.uuid)
    with found.cell.db.connect(req.ctx.deadline) as tx:
        action = actions.get(tx, found.instance.uuid, request_id)
        events = actions.events_of(tx, action.id)
    shown = _view(req, action)
    traced = req.may(EVENTS_RULE, target)
    if traced or req.at_least(2, 51):
        shown["events"] = [_event(req, found, each, traced=traced) for each in events]
    return Response(200, {"instanceAction": shown})


def _found(req: Request) -> Found:
    return find.server(req.cloud, req.ctx, req.params["server_id"], deleted=req.at_least(2, 21))


def _moment(req: Request, name: str) -> datetime | None:
    text = req.one(name)
    return parse_moment(name, text) if text is not None and req.at_least(2, 58) else None


def _view(req: Request, action: Action) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "action": action.action,
        "instance_uuid": action.instance_uuid,
        "request_id": action.request_id,
        "user_id": action.user_id,
        "project_id": action.project_id,
        "start_time": with_fraction(action.start_time),
        "message": action.message,
    }
    if req.at_least(2, 58):
        shown["updated_at"] = with_fraction(action.updated_at)
    return shown


def _event(req: Request, found: Found, event: ActionEvent, *, traced: bool) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "event": event.event,
        "start_time": with_fraction(event.start_time),
        "finish_time": with_fraction(event.finish_time),
        "result": event.result,
    }
    if traced:
        shown["traceback"] = event.traceback
    if req.at_least(2, 62):
        shown["hostId"] = host_id(found.instance.project_id, event.host)
        if traced:
            shown["host"] = event.host or ""
    if req.at_least(2, 84) and req.may(DETAILS_RULE, find.target(found.instance)):
        shown["details"] = event.details
    return shown
