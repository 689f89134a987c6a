"""Routers and floating addresses, as records only: they are stored and counted, nothing is forwarded."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

from sqlalchemy import Connection

from cell_service.db.sql.engine import Database
from cell_service.errors import Conflict
from cell_service.http.response import Response
from tools.companions.network import addresses, qos, store
from tools.companions.network.errors import bad, in_use, not_found, refusal
from tools.companions.network.nouns import REQUIRED, Attr, Noun, Record
from tools.companions.network.ports import ROUTER_PORT, drop_port, network_of, subnets_of
from tools.companions.network.records import Records
from tools.companions.route import CompanionRequest, CompanionRoute


def _making_router(tx: Connection, req: CompanionRequest, router: Record) -> None:
    router["external_gateway_info"] = _gateway(tx, req, router, router["external_gateway_info"])


def _changing_router(tx: Connection, req: CompanionRequest, old: Record, values: Record) -> None:
    if "external_gateway_info" in values:
        store.release(tx, old["id"])
        values["external_gateway_info"] = _gateway(tx, req, old, values["external_gateway_info"])


def _gateway(tx: Connection, req: CompanionRequest, router: Record, given: Record | None) -> Record | None:
    """The gateway with its addresses on the external network."""
    if not given or not given.get("network_id"):
        return None
    network = network_of(tx, req, given["network_id"])
    if not network["router:external"]:
        raise bad(f"Bad router request: Network {network['id']} is not an external network.", "BadRequest")
    port = {"id": router["id"], "network_id": network["id"], "mac_address": "fa:16:3e:00:00:00"}
    addresses.give(tx, port, subnets_of(tx, [network["id"]]), given.get("external_fixed_ips") or None)
    return {
        "network_id": network["id"],
        "enable_snat": bool(given.get("enable_snat", True)),
        "external_fixed_ips": store.fixed_ips_of(tx, [router["id"]]).get(router["id"], []),
    }


def _removing_router(tx: Connection, req: CompanionRequest, router: Record) -> None:
    if store.search(tx, "port", device_id=[router["id"]]):
        raise in_use("router", router["id"], "It still has ports.")
    store.release(tx, router["id"])


def _making_floating(tx: Connection, req: CompanionRequest, floating: Record) -> None:
    qos.check_use(tx, req, {}, floating)
    network = network_of(tx, req, floating["floating_network_id"])
    if not network["router:external"]:
        raise bad(f"Network {network['id']} is not a valid external network for floating ips.", "BadRequest")
    port = {"id": floating["id"], "network_id": network["id"], "mac_address": "fa:16:3e:00:00:00"}
    wanted = floating["floating_ip_address"]
    requested = [{"ip_address": wanted}] if wanted else None
    subnets = [subnet for subnet in subnets_of(tx, [network["id"]]) if subnet["ip_version"] == 4]
    if requested is None and not subnets:
        message = f"No more IP addresses available on network {network['id']}."
        raise refusal(Conflict, "IpAddressGenerationFailure", message)
    addresses.give(tx, port, subnets, requested)
    floating["floating_ip_address"] = store.fixed_ips_of(tx, [floating["id"]])[floating["id"]][0]["ip_address"]
    _point(tx, req, floating, floating)


def _changing_floating(tx: Connection, req: CompanionRequest, old: Record, values: Record) -> None:
    qos.check_use(tx, req, old, values)
    if {"port_id", "fixed_ip_address"} & values.keys():
        values.setdefault("port_id", old["port_id"])
        _point(tx, req, old, values)


def _point(tx: Connection, req: CompanionRequest, floating: Record, values: Record) -> None:
    """Have the floating address lead to the port named in `values`, or nowhere. Raises NotFound, Conflict, Invalid."""
    port_id = values.get("port_id")
    if not port_id:
        values |= {"port_id": None, "fixed_ip_address": None, "router_id": None, "status": "DOWN", "parent_id": None}
        return
    port = store.find(tx, "port", port_id)
    if port is None or (port["project_id"] != req.caller.project_id and not req.is_admin):
        raise not_found("port", port_id)
    has = [ip["ip_address"] for ip in store.fixed_ips_of(tx, [port_id]).get(port_id, ()) if ":" not in ip["ip_address"]]
    fixed = values.get("fixed_ip_address") or (has[0] if has else None)
    if fixed not in has:
        raise bad(f"Port {port_id} does not have fixed ip {fixed}.", "BadRequest")
    for other in store.search(tx, "floatingip", parent_id=[port_id]):
        if other["fixed_ip_address"] == fixed and other["id"] != floating["id"]:
            message = (
                f"Cannot associate floating IP {floating['floating_ip_address']} ({floating['id']}) with port "
                f"{port_id} using fixed IP {fixed}, as that fixed IP already has a floating IP on external network "
                f"{other['floating_network_id']}."
            )
            raise refusal(Conflict, "FloatingIPPortAlreadyAssociated", message)
    values |= {
        "fixed_ip_address": fixed,
        "router_id": _router_of(tx, port),
        "status": "ACTIVE",
        "parent_id": port_id,
    }


def _router_of(tx: Connection, port: Record) -> str | None:
    for other in store.search(tx, "port", network_id=[port["network_id"]]):
        if other["device_owner"] == ROUTER_PORT:
            return str(other["device_id"])
    return None


def _removing_floating(tx: Connection, req: CompanionRequest, floating: Record) -> None:
    store.release(tx, floating["id"])


ROUTER = Noun(
    "router",
    {
        "name": Attr(),
        "description": Attr("text?", ""),
        "admin_state_up": Attr("bool", True),
        "external_gateway_info": Attr("gateway?", None),
        "routes": Attr("entries", []),
        "distributed": Attr("bool", False, admin=True),
        "ha": Attr("bool", False, admin=True),
        "flavor_id": Attr("text?", None, fixed=True),
        "availability_zone_hints": Attr("texts", [], fixed=True),
        "availability_zones": Attr("texts", ["nova"], computed=True),
        "status": Attr("text", "ACTIVE", computed=True),
    },
    making=_making_router,
    changing=_changing_router,
    removing=_removing_router,
)
FLOATING = Noun(
    "floatingip",
    {
        "description": Attr("text?", ""),
        "floating_network_id": Attr("text", REQUIRED, fixed=True),
        "floating_ip_address": Attr("text?", None, fixed=True),
        "subnet_id": Attr("text?", None, fixed=True),
        "port_id": Attr("text?", None),
        "fixed_ip_address": Attr("text?", None),
        "router_id": Attr("text?", None, computed=True),
        "status": Attr("text", "DOWN", computed=True),
        "dns_name": Attr("text", "", fixed=True),
        "dns_domain": Attr("text", "", fixed=True),
        "qos_policy_id": Attr("text?", None),
    },
    making=_making_floating,
    changing=_changing_floating,
    removing=_removing_floating,
)


class Interfaces:
    """Subnets put on routers, and taken off."""

    def __init__(self, db: Database, routers: Records, ports: Records) -> None:
        self._db, self._routers, self._ports = db, routers, ports

    def routes(self) -> tuple[CompanionRoute, ...]:
        return (
            CompanionRoute("PUT", "/v2.0/routers/{id}/add_router_interface", self.add),
            CompanionRoute("PUT", "/v2.0/routers/{id}/remove_router_interface", self.remove),
        )

    def add(self, req: CompanionRequest) -> Response:
        requested = _requested(req)

        def work(tx: Connection) -> Record:
            router = self._routers.own(tx, req, req.params["id"])
            if requested.get("port_id"):
                port = self._ports.own(tx, req, requested["port_id"])
                if port["device_id"]:
                    raise in_use("port", port["id"], "It is in use.")
                store.change(
                    tx,
                    store.find(tx, "port", port["id"]) or port,
                    {"device_id": router["id"], "device_owner": ROUTER_PORT},
                )
            else:
                port = self._make_port(tx, req, router, requested.get("subnet_id"))
            return _shown(tx, router, port)

        return Response(200, self._db.run(work))

    def remove(self, req: CompanionRequest) -> Response:
        requested = _requested(req)

        def work(tx: Connection) -> Record:
            router = self._routers.own(tx, req, req.params["id"])
            for port in store.search(tx, "port", device_id=[router["id"]]):
                on = {ip["subnet_id"] for ip in store.fixed_ips_of(tx, [port["id"]]).get(port["id"], ())}
                if port["id"] == requested.get("port_id") or requested.get("subnet_id") in on:
                    shown = _shown(tx, router, port)
                    drop_port(tx, port["id"])
                    store.remove(tx, port["id"])
                    return shown
            raise not_found("router_interface", router["id"])

        return Response(200, self._db.run(work))

    def _make_port(self, tx: Connection, req: CompanionRequest, router: Record, subnet_id: object) -> Record:
        subnet = store.find(tx, "subnet", str(subnet_id))
        if subnet is None:
            raise not_found("subnet", str(subnet_id))
        network_of(tx, req, subnet["network_id"])
        gateway = subnet["gateway_ip"]
        if gateway is None or ip_address(gateway) not in ip_network(subnet["cidr"]):
            raise bad("Subnet for router interface must have a gateway IP", "BadRequest")
        port: Record = {
            "network_id": subnet["network_id"],
            "project_id": router["project_id"],
            "device_owner": ROUTER_PORT,
            "device_id": router["id"],
            "fixed_ips": [{"subnet_id": subnet["id"], "ip_address": gateway}],
        }
        return self._ports.make(tx, req.elevated(), port)


def _requested(req: CompanionRequest) -> Record:
    if not isinstance(req.body, dict) or not (req.body.get("subnet_id") or req.body.get("port_id")):
        raise bad("Either subnet_id or port_id must be specified", "BadRequest")
    if not all(isinstance(req.body.get(name, ""), str) for name in ("subnet_id", "port_id")):
        raise bad("subnet_id and port_id are strings", "BadRequest")
    return req.body


def _shown(tx: Connection, router: Record, port: Record) -> Record:
    on = [ip["subnet_id"] for ip in store.fixed_ips_of(tx, [port["id"]]).get(port["id"], ())]
    return {
        "id": router["id"],
        "project_id": router["project_id"],
        "tenant_id": router["project_id"],
        "port_id": port["id"],
        "network_id": port["network_id"],
        "subnet_id": on[0] if on else None,
        "subnet_ids": on,
        "tags": [],
    }
