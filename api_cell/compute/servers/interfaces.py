"""/servers/{id}/os-interface: the ports of a server."""

from __future__ import annotations

from api_cell.compute.servers.schemas import ADDRESS, TAG
from api_cell.edge.route import ByVersion, Request, Response, Route
from api_cell.edge.shapes import UUID, query, strict
from api_cell.edge.versioned import Field, View, bodies_of
from api_cell.servers import interfaces
from cell_service.errors import Invalid
from cell_service.model.instance import NetworkRequest
from cell_service.peers.network import PortState

LIST_RULE = "os_compute_api:os-attach-interfaces:list"
SHOW_RULE = "os_compute_api:os-attach-interfaces:show"


def index(req: Request) -> Response:
    """200 {"interfaceAttachments": […]}"""
    ports = interfaces.ports_of(req.cloud, req.services, req.caller, req.params["server_id"], LIST_RULE)
    return Response(200, {"interfaceAttachments": [_VIEW.at(req.version, port) for port in ports]})


def show(req: Request) -> Response:
    """200 {"interfaceAttachment": {…}}; 404 when the port is not the server's."""
    port = interfaces.port_of(req.cloud, req.services, req.caller, req.params["server_id"], req.params["id"], SHOW_RULE)
    return Response(200, {"interfaceAttachment": _VIEW.at(req.version, port)})


def create(req: Request) -> Response:
    """200 {"interfaceAttachment": {…}}: the port is there, and plugged."""
    body = (req.body or {}).get("interfaceAttachment") or {}
    network_id, port_id = body.get("net_id"), body.get("port_id")
    fixed_ips = body.get("fixed_ips") or []
    if network_id and port_id:
        raise Invalid(reason="Must not input both network_id and port_id")
    if fixed_ips and not network_id:
        raise Invalid(reason="Must input network_id when request IP address")
    fixed_ip = fixed_ips[0]["ip_address"] if fixed_ips else None
    request = NetworkRequest(network_id, port_id, fixed_ip, body.get("tag"))
    port = interfaces.attach(req.cloud, req.services, req.caller, req.params["server_id"], request)
    return Response(200, {"interfaceAttachment": _VIEW.at(req.version, port)})


def delete(req: Request) -> Response:
    """202: the port will be detached; deleted if the service made it."""
    interfaces.detach(req.cloud, req.caller, req.params["server_id"], req.params["id"])
    return Response(202)


_VIEW: View[PortState] = View(
    Field("net_id", lambda port: port.network_id),
    Field("port_id", lambda port: port.port_id),
    Field("mac_addr", lambda port: port.mac),
    Field("port_state", lambda port: port.status),
    Field("fixed_ips", lambda port: [{"subnet_id": ip.subnet_id, "ip_address": ip.address} for ip in port.fixed_ips]),
    Field("tag", lambda port: port.tag, since=(2, 70)),
)


_FIXED_IP = strict({"ip_address": ADDRESS}, "ip_address")
CREATE = bodies_of(
    lambda fields: strict({"interfaceAttachment": fields}),
    Field("net_id", UUID),
    Field("port_id", UUID),
    Field("fixed_ips", {"type": "array", "minItems": 1, "maxItems": 1, "items": _FIXED_IP}),
    Field("tag", TAG, since=(2, 49)),
)
NOTHING: ByVersion = (((2, 1), query({}, closed=False)), ((2, 102), query({}, closed=True)))

_PATH = "/servers/{server_id}/os-interface"
ROUTES = (
    Route("GET", _PATH, index, query=NOTHING),
    Route("POST", _PATH, create, body=CREATE),
    Route("GET", _PATH + "/{id}", show, query=NOTHING),
    Route("DELETE", _PATH + "/{id}", delete),
)
