"""POST /servers/{id}/action: changePassword, trigger_crash_dump, injectNetworkInfo; GET /servers/{id}/topology."""

from __future__ import annotations

from typing import Any

from api_cell.compute.servers.actions import doing
from api_cell.compute.servers.schemas import action
from api_cell.edge.route import ByVersion, Request, Response, Route
from api_cell.edge.shapes import query, strict
from api_cell.servers import act, find
from api_cell.servers.act import Doing
from cell_service.errors import InstanceNotReady
from cell_service.model.instance import Instance
from cell_service.operations.guests import CHANGE_PASSWORD, CRASH_DUMP, PasswordArguments

PASSWORD = Doing(CHANGE_PASSWORD, "os_compute_api:os-admin-password")
DUMP = Doing(CRASH_DUMP, "os_compute_api:servers:trigger_crash_dump")
INJECT_RULE = "os_compute_api:os-admin-actions:inject_network_info"
TOPOLOGY_RULE = "compute:server:topology:index"

_PASSWORD = strict({"changePassword": strict({"adminPass": {"type": "string"}}, "adminPass")}, "changePassword")
_NO_QUERY: ByVersion = (((2, 78), query({}, closed=False)), ((2, 102), query({}, closed=True)))


def change_password(req: Request) -> Response:
    """202: the server's administrator will have the password."""
    password = req.body["changePassword"]["adminPass"]

    def prepare(_instance: Instance) -> tuple[PasswordArguments, dict[str, Any]]:
        return PasswordArguments(password), {}

    act.begin(req.cloud, req.caller, req.params["id"], PASSWORD, prepare=prepare)
    return Response(202)


def inject_network_info(req: Request) -> Response:
    """202: nothing is to be done. No hypervisor that we know writes network settings into its guests."""
    instance = find.server(req.cloud, req.ctx, req.params["id"]).instance
    req.demand(INJECT_RULE, find.target(instance))
    act.demand_unlocked(req.ctx, instance)
    if instance.host is None:
        raise InstanceNotReady(instance_uuid=instance.uuid)
    return Response(202)


def topology(req: Request) -> Response:
    """200 {"nodes": […], "pagesize_kb": …}: servers have no NUMA topology of their own."""
    req.demand(TOPOLOGY_RULE, find.target(find.server(req.cloud, req.ctx, req.params["server_id"]).instance))
    return Response(200, {"nodes": [], "pagesize_kb": None})


ROUTES = (
    Route("POST", "/servers/{id}/action", change_password, action="changePassword", body=_PASSWORD),
    Route("POST", "/servers/{id}/action", doing(DUMP), action="trigger_crash_dump",
          body=action("trigger_crash_dump"), min_version=(2, 17)),
    Route("POST", "/servers/{id}/action", inject_network_info, action="injectNetworkInfo",
          body=action("injectNetworkInfo")),
    Route("GET", "/servers/{server_id}/topology", topology, query=_NO_QUERY, min_version=(2, 78)),
)  # fmt: skip
