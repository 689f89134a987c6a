"""Services: the processes of every cell, up or down; enabling, disabling and removing them."""

from __future__ import annotations

from typing import Any

from api_cell import cell_queries
from api_cell.compute.fields import Field, View
from api_cell.edge import missing_cells as missing
from api_cell.edge.formats import FORMATS
from api_cell.edge.route import Request, Response
from api_cell.edge.shapes import is_true
from api_cell.hosts import change
from api_cell.timestamps import with_fraction
from cell_service.db import services as rows
from cell_service.errors import HostMappingNotFound, Invalid, NotFound, ServiceNotFound
from cell_service.model.host import Service

UNKNOWN_VERSION = (2, 69)


def index(req: Request) -> Response:
    """200 {"services": [...]}; from 2.69 on the hosts of cells that are down are there with status UNKNOWN."""
    host, binary = req.one("host"), req.one("binary")
    answers = cell_queries.query_services(req.cloud, req.ctx, lambda tx: rows.list_all(tx, host=host, binary=binary))
    zones = cell_queries.zones(req.cloud)
    views = [_view(req, service, zones) for _, service in answers.found]
    if req.version >= UNKNOWN_VERSION and binary in (None, rows.COMPUTE):
        unknown = [name for name in cell_queries.hosts_of(req.cloud, answers.down) if host in (None, name)]
        views += [{"binary": rows.COMPUTE, "host": name, "status": "UNKNOWN"} for name in unknown]
    return Response(200, {"services": views}, missing.header(req, answers.down))


def update(req: Request) -> Response:
    """200 {"service": {...}}. From 2.53 on by uuid; before, the path names what is done."""
    return _update_by_uuid(req) if req.at_least(2, 53) else _update_by_verb(req)


def delete(req: Request) -> Response:
    """204; 409 while instances live on the host."""
    cell_id, service = _find(req, req.params["id"])
    change.remove_service(req.cloud, req.ctx, cell_id, service)
    return Response(204)


def zone_of(req: Request, service: Service, zones: dict[str, str]) -> str:
    """The availability zone of a compute service's host; that of all others is the internal one."""
    names = req.services.settings.zones
    if service.binary != rows.COMPUTE:
        return str(names.internal_service_availability_zone)
    return str(zones.get(service.host, names.default_availability_zone))


def is_up(req: Request, service: Service) -> bool:
    return service.is_up(req.cloud.clock.now(), req.services.settings.defaults.service_down_time)


def _update_by_uuid(req: Request) -> Response:
    body = req.body
    status, reason, forced = body.get("status"), body.get("disabled_reason"), body.get("forced_down")
    if reason is not None and status != "disabled":
        raise Invalid(reason="Specifying disabled_reason requires that status is 'disabled'.")
    if status is None and forced is None:
        raise Invalid(reason="No updates were requested. Fields 'status' or 'forced_down' should be specified.")
    cell_id, service = _find(req, req.params["id"])
    if service.binary != rows.COMPUTE:
        raise Invalid(
            reason=f"Updating a {service.binary} service is not supported. Only nova-compute services can be updated."
        )
    changed = change.change_service(
        req.cloud,
        req.ctx,
        cell_id,
        service,
        disabled=None if status is None else status == "disabled",
        disabled_reason=reason,
        forced_down=None if forced is None else is_true(forced),
    )
    return Response(200, {"service": _view(req, changed, cell_queries.zones(req.cloud))})


def _update_by_verb(req: Request) -> Response:
    verb, body = req.params["id"], req.body
    if verb not in ("enable", "disable", "disable-log-reason", "force-down"):
        raise NotFound(reason="Unknown action")
    if verb == "force-down":
        if not req.at_least(2, 11):
            raise NotFound(reason="Unknown action")
        if "forced_down" not in body:
            raise Invalid(reason="Missing forced_down field")
    if verb == "disable-log-reason" and "disabled_reason" not in body:
        raise Invalid(reason="Missing disabled reason field")
    cell_id, service = _by_host(req, body["host"], body["binary"])
    view: dict[str, Any] = {"host": service.host, "binary": service.binary}
    if verb == "force-down":
        forced = is_true(body["forced_down"])
        change.change_service(req.cloud, req.ctx, cell_id, service, forced_down=forced)
        return Response(200, {"service": view | {"forced_down": forced}})
    disabled = verb != "enable"
    reason = body["disabled_reason"] if verb == "disable-log-reason" else None
    change.change_service(req.cloud, req.ctx, cell_id, service, disabled=disabled, disabled_reason=reason)
    view["status"] = "disabled" if disabled else "enabled"
    if reason is not None:
        view["disabled_reason"] = reason
    return Response(200, {"service": view})


def _find(req: Request, service_id: str) -> tuple[int, Service]:
    """The service by uuid (from 2.53 on) or number. Raises Invalid, ServiceNotFound, CellUnavailable."""
    if req.at_least(2, 53):
        if not FORMATS["uuid"](service_id):
            raise Invalid(reason=f"Invalid uuid {service_id}")
    elif not service_id.isdecimal() or len(service_id) > 9:
        raise Invalid(reason=f"Invalid service id {service_id}")

    def question(tx: Any) -> list[Service]:
        try:
            return [rows.by_uuid(tx, service_id) if req.at_least(2, 53) else rows.by_id(tx, int(service_id))]
        except ServiceNotFound:
            return []

    answers = cell_queries.query_services(req.cloud, req.ctx, question)
    if len(answers.found) > 1:
        raise Invalid(reason=f"More than one possible service found for id {service_id}. Use its uuid from 2.53 on.")
    return cell_queries.only_one(answers, ServiceNotFound(service_id=service_id))


def _by_host(req: Request, host: str, binary: str) -> tuple[int, Service]:
    nothing = HostMappingNotFound(host=host) if binary == rows.COMPUTE else ServiceNotFound(service_id=binary)
    answers = cell_queries.query_services(req.cloud, req.ctx, lambda tx: rows.list_all(tx, host=host, binary=binary))
    return cell_queries.only_one(answers, nothing)


def _view(req: Request, service: Service, zones: dict[str, str]) -> dict[str, Any]:
    return _VIEW.at(req.version, service) | {
        "zone": zone_of(req, service, zones),
        "state": "up" if is_up(req, service) else "down",
    }


_VIEW: View[Service] = View(
    Field("id", lambda service: service.id, until=(2, 52)),
    Field("id", lambda service: service.uuid, since=(2, 53)),
    Field("binary", lambda service: service.binary),
    Field("host", lambda service: service.host),
    Field("status", lambda service: "disabled" if service.disabled else "enabled"),
    Field("updated_at", lambda service: with_fraction(service.updated_at)),
    Field("disabled_reason", lambda service: service.disabled_reason),
    Field("forced_down", lambda service: service.forced_down, since=(2, 11)),
)
