"""The actions on a server: GET /servers/{id}/os-instance-actions."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from api_cell.compute import behaviours
from api_cell.compute.servers.views import host_id
from api_cell.edge.links import next_link, page_marker, page_size
from api_cell.edge.route import Request, Response
from api_cell.edge.versioned import Field, Read, View, values_at
from api_cell.servers import find
from api_cell.servers.find import LocatedServer
from api_cell.servers.lists.query import parse_moment
from api_cell.timestamps import latest_meant, with_fraction
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
    paged = behaviours.ACTIONS_IN_PAGES.at(req.version)
    limit = page_size(req, req.services.settings.api.max_limit) if paged else None
    since, before = _moment(req, "changes-since"), _moment(req, "changes-before")
    before = latest_meant(before) if before else None
    if since and before and since > before:
        raise Invalid(reason="The value of changes-since must be less than or equal to changes-before.")
    if found.cell is None:
        return Response(200, {"instanceActions": []})
    with found.cell.db.connect(req.ctx.deadline) as tx:
        marker = page_marker(req) if paged else None
        try:
            listed = actions.list_of(
                tx, found.instance.uuid, limit=limit, marker=marker, changes_since=since, changes_before=before
            )
        except ActionNotFound:
            raise Invalid(reason=f"marker [{marker}] not found") from None
    answer: dict[str, Any] = {"instanceActions": [_VIEW.at(req.version, each) for each in listed]}
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
    shown = _VIEW.at(req.version, action)
    traced = req.may(EVENTS_RULE, target)
    if traced or behaviours.EVENTS_FOR_OWNERS.at(req.version):
        shown["events"] = [_event(req, found, each, traced=traced) for each in events]
    return Response(200, {"instanceAction": shown})


def _found(req: Request) -> LocatedServer:
    deleted = behaviours.HISTORY_OF_DELETED_SERVERS.at(req.version)
    return find.server(req.cloud, req.ctx, req.params["server_id"], deleted=deleted)


def _moment(req: Request, name: str) -> datetime | None:
    text = req.one(name)
    return parse_moment(name, text) if text is not None and name in values_at(_CHANGES, req.version) else None


_CHANGES = (Field("changes-since", None, since=(2, 58)), Field("changes-before", None, since=(2, 66)))


_VIEW: View[Action] = View(
    Field("action", lambda action: action.action),
    Field("instance_uuid", lambda action: action.instance_uuid),
    Field("request_id", lambda action: action.request_id),
    Field("user_id", lambda action: action.user_id),
    Field("project_id", lambda action: action.project_id),
    Field("start_time", lambda action: with_fraction(action.start_time)),
    Field("message", lambda action: action.message),
    Field("updated_at", lambda action: with_fraction(action.updated_at), since=(2, 58)),
)


@dataclass(frozen=True, slots=True)
class _Event:
    """An event, and the project for which its host's name is hidden."""

    event: ActionEvent
    project_id: str


_TIMES: tuple[Field[Read[_Event]], ...] = (
    Field("event", lambda shown: shown.event.event),
    Field("start_time", lambda shown: with_fraction(shown.event.start_time)),
    Field("finish_time", lambda shown: with_fraction(shown.event.finish_time)),
    Field("result", lambda shown: shown.event.result),
    Field("hostId", lambda shown: host_id(shown.project_id, shown.event.host), since=(2, 62)),
)
_EVENT: View[_Event] = View(*_TIMES)
_TRACED_EVENT: View[_Event] = View(
    *_TIMES,
    Field("traceback", lambda shown: shown.event.traceback),
    Field("host", lambda shown: shown.event.host or "", since=(2, 62)),
)
_DETAILS: View[_Event] = View(Field("details", lambda shown: shown.event.details, since=(2, 84)))


def _event(req: Request, found: LocatedServer, event: ActionEvent, *, traced: bool) -> dict[str, Any]:
    shown = _Event(event, found.instance.project_id)
    view = (_TRACED_EVENT if traced else _EVENT).at(req.version, shown)
    if req.may(DETAILS_RULE, find.target(found.instance)):
        view |= _DETAILS.at(req.version, shown)
    return view
