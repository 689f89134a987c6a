"""Servers: create, list, show, update, delete."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection

from api_cell.compute import behaviours
from api_cell.compute.servers import views
from api_cell.compute.servers.create_body import group_names, parse_server_request
from api_cell.compute.servers.list_query import parse_list_query
from api_cell.edge import missing_cells as missing
from api_cell.edge.links import next_link
from api_cell.edge.route import Request, Response
from api_cell.servers import delete, find, global_records, pinning, soft_delete
from api_cell.servers.create import accept as create
from api_cell.servers.ipv6 import canonical
from api_cell.servers.lists import listing
from api_cell.servers.lists.listing import Listed, ServerPage, Unreachable
from cell_service.db import global_updates, instances
from cell_service.db.global_updates import Change, Pinned, Renamed
from cell_service.errors import CellUnavailable, DatabaseUnavailable, InstanceNotFound
from cell_service.model.host import Service
from cell_service.model.instance import Instance
from mapping_db import instance_mappings, request_specs, server_groups
from mapping_db.cells.registry import Cell


def create_server(req: Request) -> Response:
    """202 {"server": {id, links, adminPass, …}}, or the reservation id where that was wanted."""
    req.demand("os_compute_api:servers:create")
    accepted = create.accept(req.cloud, req.services, req.caller, parse_server_request(req.body, req.version))
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
    page = _page(req, "os_compute_api:servers:index", brief=True)
    return _listed(req, page, "/servers", [_brief(req, server) for server in page.servers])


def detail(req: Request) -> Response:
    """200 {"servers": [{…}]}"""
    page = _page(req, "os_compute_api:servers:detail", brief=False)
    rows = _Rows(req, page)
    return _listed(req, page, "/servers/detail", [_row(req, server, rows) for server in page.servers])


def show(req: Request) -> Response:
    """200 {"server": {…}}; for a cell that is down what is known from 2.69 on, before it 503."""
    server_id = req.params["id"]
    try:
        found = find.server(req.cloud, req.ctx, server_id)
    except CellUnavailable:
        if not behaviours.DOWN_CELLS_ARE_SHOWN.at(req.version):
            raise
        return Response(200, {"server": _unreachable(req, server_id)})
    req.demand("os_compute_api:servers:show", find.target(found.instance))
    return Response(200, {"server": document(req, found.instance, found.cell)})


def update(req: Request) -> Response:
    """200 {"server": {…}} with the server's new name, description, host name, access addresses or pinned zone."""
    server_id, body = req.params["id"], req.body["server"]
    wanted = {column: body[name] for name, column in _UPDATABLE.items() if name in body}
    if "accessIPv6" in body:
        wanted["access_ip_v6"] = canonical(body["accessIPv6"])
    if "OS-DCF:diskConfig" in body:
        wanted["auto_disk_config"] = body["OS-DCF:diskConfig"] == "AUTO"

    changes = [_GLOBAL[column](wanted[column]) for column in _GLOBAL if column in wanted]

    def work(tx: Connection, cell: Cell) -> tuple[Instance, Cell | None]:
        instance, now = find.to_change(req.cloud, req.ctx, tx, cell, server_id), req.cloud.clock.now()
        req.demand("os_compute_api:servers:update", find.target(instance))
        pinning.check(instance, wanted)
        instances.change(tx, server_id, now=now, **wanted)
        for change in changes:
            global_updates.record(tx, server_id, change, now)
        return instances.get(tx, server_id), cell

    def early(instance: Instance) -> tuple[Instance, tuple[Instance, Cell | None]]:
        req.demand("os_compute_api:servers:update", find.target(instance))
        pinning.check(instance, wanted)
        changed = replace(instance, **wanted)
        return changed, (changed, None)

    def follow(tx: Connection) -> None:
        for change in changes:
            global_records.apply(req.cloud, tx, server_id, change)

    instance, cell = find.change(req.cloud, req.ctx, server_id, work, early, follow)
    if changes and cell is not None:
        global_records.carry_up(req.cloud, req.ctx, cell, server_id)
    return Response(200, {"server": changed_document(req, instance, cell)})


def delete_server(req: Request) -> Response:
    """204: the server will be deleted."""
    soft_delete.accept(req.cloud, req.services, req.caller, req.params["id"])
    return Response(204)


def document(req: Request, instance: Instance, cell: Cell | None) -> dict[str, Any]:
    """One server's document, with what only a single server shows."""
    groups = None
    if behaviours.GROUPS_ARE_SHOWN.at(req.version):
        groups = _groups_of(req, instance)
    rule, status = _host_status_rule(req), None
    if rule is not None:
        cells = [cell.mapping.id] if cell is not None and instance.host else []
        status = _host_status(req, rule, instance, req.services.host_states.of(req.cloud, req.ctx, cells))
    return views.full(req, instance, host_status=status, groups=groups)


def changed_document(req: Request, instance: Instance, cell: Cell | None) -> dict[str, Any]:
    """The part of a server's document with which an update or a rebuild answers: all since 2.75, less before."""
    shown = document(req, instance, cell)
    if behaviours.CHANGES_ANSWER_ALL.at(req.version):
        return shown
    short = {name: value for name, value in shown.items() if name in _SHOWN_BY_UPDATE}
    return short | {"addresses": views.addresses(instance.network_info, details=False)}


def _groups_of(req: Request, instance: Instance) -> list[str]:
    """Only a hint at its creation brings a server into a group: the answer while the global database is away."""
    if "group" not in instance.scheduler_hints:
        return []
    try:
        with req.cloud.db.connect() as tx:
            group = server_groups.of_instance(tx, instance.uuid)
    except DatabaseUnavailable:
        group = instance.scheduler_hints["group"]
    return [group] if group else []


_UPDATABLE = {
    "name": "display_name",
    "description": "display_description",
    "hostname": "hostname",
    "accessIPv4": "access_ip_v4",
    "accessIPv6": "access_ip_v6",
    "pinned_availability_zone": pinning.COLUMN,
}
_GLOBAL: dict[str, Callable[[Any], Change]] = {"display_name": Renamed, pinning.COLUMN: Pinned}
"""The columns of which global tables have copies."""
# Before 2.75 an update does not answer all that a show does (Compute API reference, "Update Server").
_SHOWN_BY_UPDATE = frozenset({
    "id", "name", "status", "tenant_id", "user_id", "metadata", "hostId", "image", "flavor", "created", "updated",
    "addresses", "accessIPv4", "accessIPv6", "links", "OS-DCF:diskConfig", "progress", "fault", "locked",
    "description", "tags", "trusted_image_certificates", "server_groups", "locked_reason",
})  # fmt: skip


def _group_names(req: Request) -> list[str]:
    return group_names(req.body["server"]) or ["default"]


def _page(req: Request, rule: str, *, brief: bool) -> ServerPage:
    req.demand(rule)
    most = req.services.settings.api.max_limit
    query = parse_list_query(req.caller, req.query, req.version, rule=rule, max_limit=most, brief=brief)
    return listing.page_of(req.cloud, req.services.settings, req.caller, query)


def _listed(req: Request, page: ServerPage, path: str, rows: list[dict[str, Any] | None]) -> Response:
    """The rows; None is for a server that the version does not show."""
    answer: dict[str, Any] = {"servers": [row for row in rows if row is not None]}
    if page.more and page.servers:
        answer["servers_links"] = next_link(req, path, page.servers[-1].uuid)
    return Response(200, answer, missing.header(req, page.missing))


class _Rows:
    """The rows that a list needs besides the servers: the states of their hosts."""

    def __init__(self, req: Request, page: ServerPage) -> None:
        self.rule = _host_status_rule(req)
        self._hosts: dict[str, Service] = {}
        if self.rule is not None and page.cells:
            self._hosts = req.services.host_states.of(req.cloud, req.ctx, page.cells)

    def host_status(self, req: Request, server: Instance) -> str | None:
        return None if self.rule is None else _host_status(req, self.rule, server, self._hosts)


def _brief(req: Request, server: Listed) -> dict[str, Any] | None:
    if isinstance(server, Unreachable):
        shown = behaviours.DOWN_CELLS_ARE_SHOWN.at(req.version)
        return views.unreachable_brief(req, server.uuid) if shown else None
    return views.brief(req, server.uuid, server.display_name)


def _row(req: Request, server: Listed, rows: _Rows) -> dict[str, Any] | None:
    if isinstance(server, Unreachable):
        if not behaviours.DOWN_CELLS_ARE_SHOWN.at(req.version):
            return None
        return views.unreachable_row(req, server.uuid, server.project_id, server.created_at)
    assert isinstance(server, Instance), "a list of names has no rows to show whole"
    return views.full(req, server, host_status=rows.host_status(req, server))


_ALL = "os_compute_api:servers:show:host_status"
_UNKNOWN_ONLY = "os_compute_api:servers:show:host_status:unknown-only"


def _host_status_rule(req: Request) -> str | None:
    """The rule by which the caller may see the states of hosts; None: not at all."""
    if not behaviours.HOST_STATUS_IS_SHOWN.at(req.version):
        return None
    return next((rule for rule in (_ALL, _UNKNOWN_ONLY) if req.may(rule)), None)


def _host_status(req: Request, rule: str, instance: Instance, hosts: dict[str, Service]) -> str | None:
    """The state of the server's host, as far as the rule lets the caller see it; None: not shown."""
    status = ""
    if instance.host:
        service = hosts.get(instance.host)
        status = "UNKNOWN" if service is None else _status(req, service)
    return status if rule == _ALL or status == "UNKNOWN" else None


def _status(req: Request, service: Service) -> str:
    if service.forced_down:
        return "DOWN"
    if not service.is_up(req.cloud.clock.now(), delete.down_after(req.services)):
        return "UNKNOWN"
    return "MAINTENANCE" if service.disabled else "UP"


def _unreachable(req: Request, server_id: str) -> dict[str, Any]:
    with req.cloud.db.connect() as tx:
        mapping = instance_mappings.get_many(tx, [server_id]).get(server_id)
        spec = request_specs.get(tx, server_id)
    if mapping is None:
        raise InstanceNotFound(instance_id=server_id)
    find.demand_visible(req.ctx, mapping.project_id, server_id)
    req.demand("os_compute_api:servers:show", {"project_id": mapping.project_id, "user_id": mapping.user_id})
    if spec is None:
        return views.unreachable_row(req, server_id, mapping.project_id, mapping.created_at)
    return views.unreachable(req, spec, mapping.created_at)
