"""Networks and addresses as the Compute API showed them before clients called the network service themselves."""

from __future__ import annotations

from typing import Any

from api_cell.compute.servers.schemas import ADDRESS, action
from api_cell.edge.route import Request, Response, Route, Schema
from api_cell.edge.shapes import query, strict
from api_cell.servers import addresses, networking
from cell_service.errors import NetworkNotFound, NotFound
from cell_service.peers.network import Record

PROXIED = (2, 35)
ADDRESSED = (2, 43)
_UNKNOWN = (
    "bridge", "bridge_interface", "broadcast", "cidr", "cidr_v6", "created_at", "deleted", "deleted_at", "dhcp_server",
    "dhcp_start", "dns1", "dns2", "enable_dhcp", "gateway", "gateway_v6", "host", "injected", "mtu", "multi_host",
    "netmask", "netmask_v6", "priority", "project_id", "rxtx_base", "share_address", "updated_at", "vlan",
    "vpn_private_address", "vpn_public_address", "vpn_public_port",
)  # fmt: skip
"""The fields of a network that administrators see; other callers see only those in _SHOWN."""
_SHOWN = ("broadcast", "cidr", "cidr_v6", "dns1", "dns2", "gateway", "gateway_v6", "netmask", "netmask_v6")


def networks_index(req: Request) -> Response:
    """200 {"networks": […]}"""
    return Response(200, {"networks": [_network(req, found) for found in networking.networks(req.services, req.ctx)]})


def networks_show(req: Request) -> Response:
    """200 {"network": {…}}"""
    return Response(200, {"network": _network(req, _visible(req))})


def tenant_index(req: Request) -> Response:
    """200 {"networks": [{id, label, cidr}]}"""
    return Response(200, {"networks": [_tenant(found) for found in networking.networks(req.services, req.ctx)]})


def tenant_show(req: Request) -> Response:
    """200 {"network": {id, label, cidr}}"""
    return Response(200, {"network": _tenant(_visible(req))})


def pools(req: Request) -> Response:
    """200 {"floating_ip_pools": [{name}]}: the external networks."""
    return Response(200, {"floating_ip_pools": [{"name": _pool(found)} for found in _external(req)]})


def floating_index(req: Request) -> Response:
    """200 {"floating_ips": […]}"""
    return Response(200, {"floating_ips": _floating(req, networking.mine(req.services, req.ctx, "floatingips"))})


def floating_show(req: Request) -> Response:
    """200 {"floating_ip": {…}}"""
    return Response(200, {"floating_ip": _floating(req, [_own_floating(req)])[0]})


def floating_create(req: Request) -> Response:
    """200 {"floating_ip": {…}}: a new one of that pool, or of the first."""
    wanted = (req.body or {}).get("pool")
    found = [network for network in _external(req) if wanted in (None, network["id"], network.get("name"))]
    if not found:
        raise NotFound(
            reason=f"Floating IP pool '{wanted}' not found." if wanted else "No floating IP pools available."
        )
    project = req.ctx.project_id
    fields = {"floating_network_id": found[0]["id"], "project_id": project, "tenant_id": project}
    made = networking.records_of(req.services).create(req.ctx, "floatingips", fields)
    return Response(200, {"floating_ip": _floating(req, [made])[0]})


def floating_delete(req: Request) -> Response:
    """202: the address leads nowhere, and is the project's no more."""
    found = _own_floating(req)
    networking.records_of(req.services).delete(req.ctx, "floatingips", found["id"])
    return Response(202)


def add_floating(req: Request) -> Response:
    """202"""
    body = req.body["addFloatingIp"]
    rule = "os_compute_api:os-floating-ips:add"
    addresses.add_floating(
        req.cloud, req.services, req.caller, req.params["id"], rule, body["address"], body.get("fixed_address")
    )
    return Response(202)


def remove_floating(req: Request) -> Response:
    """202"""
    rule = "os_compute_api:os-floating-ips:remove"
    addresses.remove_floating(
        req.cloud, req.services, req.caller, req.params["id"], rule, req.body["removeFloatingIp"]["address"]
    )
    return Response(202)


def add_fixed(req: Request) -> Response:
    """202"""
    network_id = str(req.body["addFixedIp"]["networkId"])
    addresses.add_fixed(
        req.cloud, req.services, req.caller, req.params["id"], "os_compute_api:os-multinic:add", network_id
    )
    return Response(202)


def remove_fixed(req: Request) -> Response:
    """202"""
    rule = "os_compute_api:os-multinic:remove"
    addresses.remove_fixed(
        req.cloud, req.services, req.caller, req.params["id"], rule, req.body["removeFixedIp"]["address"]
    )
    return Response(202)


def _visible(req: Request) -> Record:
    for found in networking.networks(req.services, req.ctx):
        if found["id"] == req.params["id"]:
            return found
    raise NetworkNotFound(network_id=req.params["id"])


def _network(req: Request, found: Record) -> dict[str, Any]:
    fields = _UNKNOWN if req.ctx.is_admin else _SHOWN
    return {"id": found["id"], "label": found.get("name") or "", **dict.fromkeys(fields)}


def _tenant(found: Record) -> dict[str, Any]:
    return {"id": found["id"], "label": found.get("name") or "", "cidr": "None"}


def _external(req: Request) -> list[Record]:
    return [found for found in networking.networks(req.services, req.ctx) if found.get("router:external")]


def _pool(network: Record) -> str:
    return str(network.get("name") or network["id"])


def _own_floating(req: Request) -> Record:
    floating_id = networking.demand_uuid(req.params["id"], "Floating IP")
    found = networking.one(req.services, req.ctx, "floatingips", floating_id)
    if found is None:
        raise NotFound(reason=f"Floating IP not found for ID {floating_id}")
    return found


def _floating(req: Request, found: list[Record]) -> list[dict[str, Any]]:
    """The floating addresses with the servers and pools that they belong to: two queries, however many there are."""
    records = networking.records_of(req.services)
    ports = sorted({one["port_id"] for one in found if one.get("port_id")})
    owners = {port["id"]: port for port in records.find_all(req.ctx, "ports", id=ports)} if ports else {}
    names = {network["id"]: _pool(network) for network in _external(req)} if found else {}
    return [
        {
            "id": one["id"],
            "ip": one.get("floating_ip_address"),
            "pool": names.get(one["floating_network_id"], one["floating_network_id"]),
            "fixed_ip": one.get("fixed_ip_address"),
            "instance_id": owners.get(one.get("port_id"), {}).get("device_id") or None,
        }
        for one in found
    ]


_ANY: Schema = query({}, closed=False)
_POOL: Schema = {"type": ["object", "null"], "properties": {"pool": {"type": ["string", "null"]}}}
_ADDRESS = strict({"address": ADDRESS}, "address")
_NETWORK = strict({"networkId": {"type": ["string", "number"], "minLength": 1, "maxLength": 36}}, "networkId")
_ACT = "/servers/{id}/action"

ROUTES = (
    Route("GET", "/os-networks", networks_index, rule="os_compute_api:os-networks:list", max_version=PROXIED),
    Route("GET", "/os-networks/{id}", networks_show, rule="os_compute_api:os-networks:show", max_version=PROXIED),
    Route("GET", "/os-tenant-networks", tenant_index, rule="os_compute_api:os-tenant-networks:list",
          max_version=PROXIED),
    Route("GET", "/os-tenant-networks/{id}", tenant_show, rule="os_compute_api:os-tenant-networks:show",
          max_version=PROXIED),
    Route("GET", "/os-floating-ip-pools", pools, rule="os_compute_api:os-floating-ip-pools", query=_ANY,
          max_version=PROXIED),
    Route("GET", "/os-floating-ips", floating_index, rule="os_compute_api:os-floating-ips:list", max_version=PROXIED),
    Route("POST", "/os-floating-ips", floating_create, rule="os_compute_api:os-floating-ips:create", body=_POOL,
          max_version=PROXIED),
    Route("GET", "/os-floating-ips/{id}", floating_show, rule="os_compute_api:os-floating-ips:show",
          max_version=PROXIED),
    Route("DELETE", "/os-floating-ips/{id}", floating_delete, rule="os_compute_api:os-floating-ips:delete",
          max_version=PROXIED),
    Route("POST", _ACT, add_floating, action="addFloatingIp", max_version=ADDRESSED,
          body=action("addFloatingIp", strict({"address": ADDRESS, "fixed_address": ADDRESS}, "address"))),
    Route("POST", _ACT, remove_floating, action="removeFloatingIp", max_version=ADDRESSED,
          body=action("removeFloatingIp", _ADDRESS)),
    Route("POST", _ACT, add_fixed, action="addFixedIp", max_version=ADDRESSED, body=action("addFixedIp", _NETWORK)),
    Route("POST", _ACT, remove_fixed, action="removeFixedIp", max_version=ADDRESSED,
          body=action("removeFixedIp", _ADDRESS)),
)  # fmt: skip
