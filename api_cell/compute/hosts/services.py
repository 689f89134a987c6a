"""Services: the processes of every cell, up or down; enabling, disabling and removing them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection

from api_cell import cell_queries
from api_cell.cell_queries import CellAnswers
from api_cell.compute import behaviours
from api_cell.edge import missing_cells as missing
from api_cell.edge.formats import FORMATS
from api_cell.edge.route import Handler, Request, Response
from api_cell.edge.shapes import is_true, number_of
from api_cell.edge.versioned import Field, View, values_at
from api_cell.hosts import change
from api_cell.timestamps import with_fraction
from cell_service.db import services as rows
from cell_service.errors import HostMappingNotFound, Invalid, NotFound, ServiceNotFound
from cell_service.model.host import Service


def index(req: Request) -> Response:
    """200 {"services": [...]}; from 2.69 on the hosts of cells that are down are there with status UNKNOWN."""
    host, binary = req.one("host"), req.one("binary")
    answers = cell_queries.query_services(
        req.cloud,
        req.ctx,
        lambda tx: rows.list_all(tx, host=host, binary=binary),
        above=binary != rows.COMPUTE,
    )
    zones = cell_queries.zones(req.cloud)
    views = [_view(req, service, zones) for _, service in answers.found]
    if behaviours.DOWN_CELLS_ARE_SHOWN.at(req.version) and binary in (None, rows.COMPUTE):
        unknown = [name for name in cell_queries.hosts_of(req.cloud, answers.down) if host in (None, name)]
        views += [{"binary": rows.COMPUTE, "host": name, "status": "UNKNOWN"} for name in unknown]
    return Response(200, {"services": views}, missing.header(req, answers.down))


def delete(req: Request) -> Response:
    """204; 409 while instances live on the host."""
    change.remove_service(req.cloud, req.ctx, *_by_uuid(req))
    return Response(204)


def delete_by_number(req: Request) -> Response:
    """204, up to 2.52; 409 while instances live on the host; 400 for a number that several cells know."""
    change.remove_service(req.cloud, req.ctx, *_by_number(req))
    return Response(204)


def zone_of(req: Request, service: Service, zones: dict[str, str]) -> str:
    """The availability zone of a compute service's host; that of all others is the internal one."""
    names = req.services.settings.zones
    if service.binary != rows.COMPUTE:
        return str(names.internal_service_availability_zone)
    return str(zones.get(service.host, names.default_availability_zone))


def is_up(req: Request, service: Service) -> bool:
    return service.is_up(req.cloud.clock.now(), req.services.settings.defaults.service_down_time)


def update(req: Request) -> Response:
    """200 {"service": {...}}"""
    body = req.body
    status, reason, forced = body.get("status"), body.get("disabled_reason"), body.get("forced_down")
    if reason is not None and status != "disabled":
        raise Invalid(reason="Specifying disabled_reason requires that status is 'disabled'.")
    if status is None and forced is None:
        raise Invalid(reason="No updates were requested. Fields 'status' or 'forced_down' should be specified.")
    cell_id, service = _by_uuid(req)
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


def update_by_verb(req: Request) -> Response:
    """200 {"service": {...}}, up to 2.52: the path names what is done to the service of a host."""
    act = values_at(_VERBS, req.version).get(req.params["id"])
    if act is None:
        raise NotFound(reason="Unknown action")
    return act(req)


def _enable(req: Request) -> Response:
    cell_id, service = _by_host(req)
    change.change_service(req.cloud, req.ctx, cell_id, service, disabled=False, disabled_reason=None)
    return _changed(service, status="enabled")


def _disable(req: Request) -> Response:
    cell_id, service = _by_host(req)
    change.change_service(req.cloud, req.ctx, cell_id, service, disabled=True, disabled_reason=None)
    return _changed(service, status="disabled")


def _disable_with_reason(req: Request) -> Response:
    if "disabled_reason" not in req.body:
        raise Invalid(reason="Missing disabled reason field")
    cell_id, service = _by_host(req)
    reason = req.body["disabled_reason"]
    change.change_service(req.cloud, req.ctx, cell_id, service, disabled=True, disabled_reason=reason)
    return _changed(service, status="disabled", disabled_reason=reason)


def _force_down(req: Request) -> Response:
    if "forced_down" not in req.body:
        raise Invalid(reason="Missing forced_down field")
    cell_id, service = _by_host(req)
    forced = is_true(req.body["forced_down"])
    change.change_service(req.cloud, req.ctx, cell_id, service, forced_down=forced)
    return _changed(service, forced_down=forced)


_VERBS: tuple[Field[Handler], ...] = (
    Field("enable", _enable),
    Field("disable", _disable),
    Field("disable-log-reason", _disable_with_reason),
    Field("force-down", _force_down, since=(2, 11)),
)


def _changed(service: Service, **changes: str | bool) -> Response:
    return Response(200, {"service": {"host": service.host, "binary": service.binary, **changes}})


def _by_uuid(req: Request) -> tuple[int, Service]:
    """The service of the path. Raises Invalid, ServiceNotFound, CellUnavailable."""
    uuid = req.params["id"]
    if not FORMATS["uuid"](uuid):
        raise Invalid(reason=f"Invalid uuid {uuid}")
    return cell_queries.only_one(
        req.cloud, _matching(req, lambda tx: rows.by_uuid(tx, uuid)), ServiceNotFound(service_id=uuid)
    )


def _by_number(req: Request) -> tuple[int, Service]:
    """The service of the path, which must be the only one of that number. Raises as `_by_uuid`."""
    text = req.params["id"]
    number = number_of(text, "service", ServiceNotFound(service_id=text[:64]))
    answers = _matching(req, lambda tx: rows.by_id(tx, number))
    if len(answers.found) > 1:
        raise Invalid(reason=f"More than one possible service found for id {number}. Use its uuid from 2.53 on.")
    return cell_queries.only_one(req.cloud, answers, ServiceNotFound(service_id=number))


def _matching(req: Request, read: Callable[[Connection], Service]) -> CellAnswers[Service]:
    def question(tx: Connection) -> list[Service]:
        try:
            return [read(tx)]
        except ServiceNotFound:
            return []

    return cell_queries.query_services(req.cloud, req.ctx, question, above=True)


def _by_host(req: Request) -> tuple[int, Service]:
    """The service that the body names. Raises HostMappingNotFound, ServiceNotFound, CellUnavailable."""
    host, binary = req.body["host"], req.body["binary"]
    nothing = HostMappingNotFound(host=host) if binary == rows.COMPUTE else ServiceNotFound(service_id=binary)
    answers = cell_queries.query_services(
        req.cloud,
        req.ctx,
        lambda tx: rows.list_all(tx, host=host, binary=binary),
        above=binary != rows.COMPUTE,
    )
    return cell_queries.only_one(req.cloud, answers, nothing)


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
