"""Servers: create, list, show, update, delete."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection

from api_cell.compute import server_views as views
from api_cell.edge.links import next_link
from api_cell.edge.route import Request, Response
from api_cell.servers import create, delete, find, listing, query
from api_cell.servers.listing import Listed, Silent
from cell_service.db import instances, services
from cell_service.errors import CellUnavailable, InstanceNotFound, ServiceNotFound
from cell_service.model.host import Service
from cell_service.model.instance import Instance
from mapping_db import instance_mappings, request_specs, server_groups
from mapping_db.cells import Cell


def create_server(req: Request) -> Response:
    """202 {"server": {id, links, adminPass, …}}, or the reservation id where that was asked for."""
    req.demand("os_compute_api:servers:create")
    accepted = create.accept(req)
    if accepted.wants_reservation_id:
        return Response(202, {"reservation_id": accepted.reservation_id})
    uuid = accepted.uuids[0]
    server: dict[str, Any] = {
        "id": uuid,
        "links": views.links(req, "servers", uuid),
        "OS-DCF:diskConfig": req.body["server"].get("OS-DCF:diskConfig", "MANUAL"),
        "security_groups": [{"name": name} for name in _group_names(req)],
    }
    if req.services.settings.api.enable_instance_password:
        server["adminPass"] = accepted.admin_password
    return Response(202, {"server": server}, {"Location": f"{req.base_url}/servers/{uuid}"})


def index(req: Request) -> Response:
    """200 {"servers": [{id, name, links}]}"""
    return _list(req, "os_compute_api:servers:index", "/servers", _brief)


def detail(req: Request) -> Response:
    """200 {"servers": [{…}]}"""
    return _list(req, "os_compute_api:servers:detail", "/servers/detail", _row)


def show(req: Request) -> Response:
    """200 {"server": {…}}; for a silent cell what is known from 2.69 on, before it 503."""
    server_id = req.params["id"]
    try:
        found = find.server(req, server_id)
    except CellUnavailable:
        if not req.at_least(2, 69):
            raise
        return Response(200, {"server": _silent(req, server_id)})
    req.demand("os_compute_api:servers:show", find.target(found.instance))
    return Response(200, {"server": document(req, found.instance, found.cell)})


def update(req: Request) -> Response:
    """200 {"server": {…}} with the server's new name, description, host name or access addresses."""
    server_id, asked = req.params["id"], req.body["server"]
    wanted = {column: asked[name] for name, column in _UPDATABLE.items() if name in asked}
    if "OS-DCF:diskConfig" in asked:
        wanted["auto_disk_config"] = asked["OS-DCF:diskConfig"] == "AUTO"

    def work(tx: Connection, cell: Cell) -> tuple[Instance, Cell]:
        instance = find.here(req, tx, server_id)
        req.demand("os_compute_api:servers:update", find.target(instance))
        instances.change(tx, server_id, now=req.cloud.clock.now(), **wanted)
        return instances.get(tx, server_id), cell

    instance, cell = find.change(req, server_id, work)
    if "display_name" in wanted:
        req.cloud.db.run(lambda tx: instance_mappings.rename(tx, server_id, instance.display_name))
    shown = document(req, instance, cell)
    if not req.at_least(2, 75):
        shown = {name: value for name, value in shown.items() if name in _SHOWN_BY_UPDATE}
        shown["addresses"] = views.addresses(instance.network_info, details=False)
    return Response(200, {"server": shown})


def delete_server(req: Request) -> Response:
    """204: the server will be deleted."""
    delete.accept(req, req.params["id"])
    return Response(204)


def document(req: Request, instance: Instance, cell: Cell | None) -> dict[str, Any]:
    """One server's document, with what only a single server shows."""
    groups = None
    if req.at_least(2, 71):
        with req.cloud.db.connect() as tx:
            group = server_groups.of_instance(tx, instance.uuid)
        groups = [group] if group else []
    return views.full(req, instance, host_status=_host_status(req, instance, cell), groups=groups)


_UPDATABLE = {
    "name": "display_name",
    "description": "display_description",
    "hostname": "hostname",
    "accessIPv4": "access_ip_v4",
    "accessIPv6": "access_ip_v6",
}
# Before 2.75 an update does not answer all that a show does (Compute API reference, "Update Server").
_SHOWN_BY_UPDATE = frozenset({
    "id", "name", "status", "tenant_id", "user_id", "metadata", "hostId", "image", "flavor", "created", "updated",
    "addresses", "accessIPv4", "accessIPv6", "links", "OS-DCF:diskConfig", "progress", "fault", "locked",
    "description", "tags", "trusted_image_certificates", "server_groups", "locked_reason",
})  # fmt: skip


def _group_names(req: Request) -> list[str]:
    given = req.body["server"].get("security_groups")
    return [group["name"] for group in given] if given else ["default"]


def _list(req: Request, rule: str, path: str, show_one: Any) -> Response:
    req.demand(rule)
    asked = query.asked_of(req, rule=rule, max_limit=req.services.settings.api.max_limit)
    page = listing.page_of(req, asked)
    rows = _Rows(req, page.servers)
    shown = [row for server in page.servers if (row := show_one(req, server, rows)) is not None]
    answer: dict[str, Any] = {"servers": shown}
    if page.more and page.servers:
        answer["servers_links"] = next_link(req, path, page.servers[-1].uuid)
    return Response(200, answer)


class _Rows:
    """What the rows of a list need besides the servers: the states of their hosts, asked of all cells at once."""

    def __init__(self, req: Request, servers: list[Listed]) -> None:
        self.status_of: dict[str, str] = {}
        rule = _host_status_rule(req) if req.at_least(2, 16) else None
        if rule is None or not any(isinstance(server, Instance) and server.host for server in servers):
            return

        def look(cell: Cell) -> list[Service]:
            with cell.db.connect(req.ctx.deadline) as tx:
                return services.list_all(tx, binary=services.COMPUTE)

        cell_ids = [mapping.id for mapping in req.cloud.cells.all() if not mapping.is_cell0]
        for found in req.cloud.cells.scatter(cell_ids, look, req.ctx.deadline).answers.values():
            self.status_of.update({service.host: _status(req, service) for service in found})


def _brief(req: Request, server: Listed, rows: _Rows) -> dict[str, Any] | None:
    if isinstance(server, Silent):
        return views.silent_brief(req, server.uuid) if req.at_least(2, 69) else None
    return views.brief(req, server.uuid, server.display_name)


def _row(req: Request, server: Listed, rows: _Rows) -> dict[str, Any] | None:
    if isinstance(server, Silent):
        if not req.at_least(2, 69):
            return None
        return views.silent_row(req, server.uuid, server.project_id, server.created_at)
    status = None
    rule = _host_status_rule(req) if req.at_least(2, 16) else None
    if rule is not None:
        status = _allowed_status(rule, rows.status_of.get(server.host or "", "UNKNOWN" if server.host else ""))
    return views.full(req, server, host_status=status)


_ALL = "os_compute_api:servers:show:host_status"
_UNKNOWN_ONLY = "os_compute_api:servers:show:host_status:unknown-only"


def _host_status_rule(req: Request) -> str | None:
    return next((rule for rule in (_ALL, _UNKNOWN_ONLY) if req.may(rule)), None)


def _allowed_status(rule: str, status: str) -> str | None:
    return status if rule == _ALL or status == "UNKNOWN" else None


def _host_status(req: Request, instance: Instance, cell: Cell | None) -> str | None:
    """The state of the server's host, as far as policy lets the caller see it; None: not shown."""
    if not req.at_least(2, 16):
        return None
    rule = _host_status_rule(req)
    if rule is None:
        return None
    if not instance.host or cell is None:
        return _allowed_status(rule, "")
    try:
        with cell.db.connect(req.ctx.deadline) as tx:
            status = _status(req, services.by_host(tx, instance.host, services.COMPUTE))
    except ServiceNotFound:
        status = "UNKNOWN"
    return _allowed_status(rule, status)


def _status(req: Request, service: Service) -> str:
    if service.forced_down:
        return "DOWN"
    if not service.is_up(req.cloud.clock.now(), delete.down_after(req)):
        return "UNKNOWN"
    return "MAINTENANCE" if service.disabled else "UP"


def _silent(req: Request, server_id: str) -> dict[str, Any]:
    with req.cloud.db.connect() as tx:
        mapping = instance_mappings.get_many(tx, [server_id]).get(server_id)
        spec = request_specs.get(tx, server_id)
    if mapping is None:
        raise InstanceNotFound(instance_id=server_id)
    find.demand_visible(req, mapping.project_id, server_id)
    req.demand("os_compute_api:servers:show", {"project_id": mapping.project_id, "user_id": mapping.user_id})
    if spec is None:
        return views.silent_row(req, server_id, mapping.project_id, mapping.created_at)
    return views.silent(req, spec, mapping.created_at)
