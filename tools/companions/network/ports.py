"""Networks, subnets and ports."""

from __future__ import annotations

import re
from ipaddress import ip_network
from typing import Any, Protocol

from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from cell_service.errors import Conflict, Forbidden, PolycellError
from tools.companions.network import addresses, qos, store, trunks
from tools.companions.network.errors import bad, in_use, not_found, refusal
from tools.companions.network.groups import check_groups, group_ids
from tools.companions.network.nouns import REQUIRED, Attr, Noun, Record
from tools.companions.route import CompanionRequest

MAC_PREFIX = "fa:16:3e:"
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
VIF_DETAILS: dict[str, dict[str, Any]] = {
    "ovs": {"port_filter": True, "connectivity": "l2", "bridge_name": "br-int", "datapath_type": "system",
            "ovs_hybrid_plug": False},
    "bridge": {"port_filter": True, "connectivity": "l2"},
}  # fmt: skip
VNIC_TYPES = ("normal", "direct", "macvtap", "baremetal", "direct-physical", "virtio-forwarder", "smart-nic", "vdpa",
              "accelerator-direct", "accelerator-direct-physical", "remote-managed")  # fmt: skip
BOUND_TYPES = ("normal",)
"""The types of ports for which hosts have something: all others are for devices that are given to guests."""
ROUTER_PORT = "network:router_interface"
DHCP_PORT = "network:dhcp"


def network_of(tx: Connection, req: CompanionRequest, network_id: str) -> Record:
    """Raises NotFound unless the caller may see the network."""
    network = store.find(tx, "network", network_id)
    if network is None or not (req.is_admin or network_visible(req, network)):
        raise not_found("network", network_id)
    return network


def network_visible(req: CompanionRequest, network: Record) -> bool:
    return bool(network["project_id"] == req.caller.project_id or network["shared"] or network["router:external"])


def subnets_of(tx: Connection, network_ids: list[str]) -> list[Record]:
    return store.search(tx, "subnet", network_id=network_ids)


def _complete_networks(tx: Connection, networks: list[Record]) -> None:
    subnets = subnets_of(tx, [network["id"] for network in networks])
    for network in networks:
        network["subnets"] = [subnet["id"] for subnet in subnets if subnet["network_id"] == network["id"]]


def _making_network(tx: Connection, req: CompanionRequest, network: Record) -> None:
    qos.check_use(tx, req, {}, network)
    network["qos_policy_id"] = network["qos_policy_id"] or qos.default_policy(tx, network["project_id"])


def _changing_network(tx: Connection, req: CompanionRequest, old: Record, values: Record) -> None:
    qos.check_use(tx, req, old, values)
    if values.get("shared") is False:
        for port in store.search(tx, "port", network_id=[old["id"]]):
            if port["project_id"] not in (old["project_id"], ""):
                message = (
                    f"Unable to reconfigure sharing settings for network {old['id']}. Multiple tenants are using it."
                )
                raise refusal(Conflict, "InvalidSharedSetting", message)


def _removing_network(tx: Connection, req: CompanionRequest, network: Record) -> None:
    ports = store.search(tx, "port", network_id=[network["id"]])
    if all(port["device_owner"] == DHCP_PORT for port in ports):
        for port in ports:
            _remove_port(tx, port["id"])
    else:
        raise in_use("network", network["id"], "There are one or more ports still in use on the network.")
    for subnet in subnets_of(tx, [network["id"]]):
        store.remove(tx, subnet["id"])


def _complete_subnets(tx: Connection, subnets: list[Record]) -> None:
    ids = sorted({subnet["network_id"] for subnet in subnets})
    shared = {network["id"]: network["shared"] for network in store.search(tx, "network", id=ids)}
    for subnet in subnets:
        subnet["shared"] = shared.get(subnet["network_id"], False)


def _making_subnet(tx: Connection, req: CompanionRequest, subnet: Record) -> None:
    network = network_of(tx, req, subnet["network_id"])
    if network["project_id"] != req.caller.project_id:
        req.demand_admin()
    net = addresses.parsed_net(subnet["cidr"], subnet["ip_version"])
    subnet["cidr"] = str(net)
    for other in subnets_of(tx, [network["id"]]):
        if net.overlaps(ip_network(other["cidr"])):
            raise bad(f"Requested subnet with cidr: {net} for network: {network['id']} overlaps with another subnet.")
    if net.version == 4 and (subnet["ipv6_ra_mode"] or subnet["ipv6_address_mode"]):
        raise bad("ipv6_ra_mode and ipv6_address_mode are for IPv6 subnets only.")
    gateway = subnet["gateway_ip"]
    if gateway == DEFAULT_GATEWAY:
        subnet["gateway_ip"] = str(addresses.first_address(net))
    elif gateway is not None:
        subnet["gateway_ip"] = str(addresses.parsed_address(gateway))
    _complete_pools(net, subnet, subnet["allocation_pools"])


def _complete_pools(net: addresses.Net, subnet: Record, given: list[Any] | None) -> None:
    gateway = addresses.parsed_address(subnet["gateway_ip"]) if subnet["gateway_ip"] else None
    if given is None:
        subnet["allocation_pools"] = addresses.usual_pools(net, gateway)
    else:
        subnet["allocation_pools"] = addresses.check_pools(given, net, gateway)


def _changing_subnet(tx: Connection, req: CompanionRequest, old: Record, values: Record) -> None:
    net = ip_network(old["cidr"])
    if "allocation_pools" in values or "gateway_ip" in values:
        new = old | values
        _complete_pools(net, new, new["allocation_pools"])
        values["allocation_pools"] = new["allocation_pools"]


def _removing_subnet(tx: Connection, req: CompanionRequest, subnet: Record) -> None:
    ids = store.ports_with_address(tx, None, subnet["id"])
    ports = store.search(tx, "port", id=sorted(ids))
    if len(ports) == len(ids) and all(port["device_owner"] == DHCP_PORT for port in ports):
        for port in ports:
            _remove_port(tx, port["id"])
    else:
        raise in_use("subnet", subnet["id"], "One or more ports have an IP allocation from this subnet.")


def _narrowed_ports(tx: Connection, req: CompanionRequest) -> dict[str, list[str]]:
    """A search by address is one by ids."""
    wanted = dict(value.partition("=")[::2] for value in req.query.get("fixed_ips", ()))
    if not wanted.keys() & {"ip_address", "subnet_id"} or "id" in req.query:
        return {}
    return {"id": sorted(store.ports_with_address(tx, wanted.get("ip_address"), wanted.get("subnet_id")))}


def _complete_ports(tx: Connection, ports: list[Record]) -> None:
    found = store.fixed_ips_of(tx, [port["id"] for port in ports])
    for port in ports:
        port["fixed_ips"] = found.get(port["id"], [])
    qos.complete_ports(tx, ports)
    trunks.complete_ports(tx, ports)


class Wires(Protocol):
    """Moves packets for the hosts that it can reach."""

    def wires(self, host: str) -> bool: ...

    def details(self, network_id: str) -> Record: ...


class Ports:
    """The special rules of ports: addresses, MACs, groups and the binding to a host."""

    def __init__(self, vif_type: str, wiring: Wires | None = None) -> None:
        self._vif_type, self._wiring = vif_type, wiring

    def noun(self) -> Noun:
        return Noun(
            "port",
            PORT_ATTRS,
            making=self._making,
            changing=self._changing,
            removing=_removing_port,
            complete=_complete_ports,
            narrowed=_narrowed_ports,
            visible=lambda req, port: bool(port["project_id"] == req.caller.project_id),
        )

    def _making(self, tx: Connection, req: CompanionRequest, port: Record) -> None:
        network = network_of(tx, req, port["network_id"])
        if network["router:external"] and not network["shared"] and network["project_id"] != req.caller.project_id:
            req.demand_admin()
        _check_owner(req, network, port)
        _check_device(tx, req, port["device_id"], port["project_id"])
        qos.check_use(tx, req, {}, port)
        if port["port_security_enabled"] is None:
            port["port_security_enabled"] = network["port_security_enabled"]
        port["security_groups"] = group_ids(tx, req, port)
        give_mac(tx, port)
        requested = port.pop("fixed_ips")
        addresses.give(tx, port, subnets_of(tx, [network["id"]]), requested)
        self._bind(port)

    def _changing(self, tx: Connection, req: CompanionRequest, old: Record, values: Record) -> None:
        if "mac_address" in values and not req.is_admin:
            raise _disallowed("mac_address")
        _check_owner(req, network_of(tx, req.elevated(), old["network_id"]), values)
        qos.check_use(tx, req, old, values)
        if "device_id" in values:
            _check_device(tx, req, values["device_id"], old["project_id"])
        if "security_groups" in values:
            check_groups(tx, req, values["security_groups"] or [], old["project_id"])
            values["security_groups"] = list(dict.fromkeys(values["security_groups"] or []))
        if values.get("port_security_enabled") is False and (values.get("security_groups", old["security_groups"])):
            raise refusal(Conflict, "PortSecurityPortHasSecurityGroup", "Port has security group associated.")
        if values.get("binding:profile", 1) is None:
            values["binding:profile"] = {}
        if values.get("binding:host_id", 1) is None:
            values["binding:host_id"] = ""
        if "mac_address" in values:
            store.give_mac_back(tx, old["id"])
            moved = old | values
            give_mac(tx, moved)
            values["mac_address"] = moved["mac_address"]
        requested = values.pop("fixed_ips", None)
        if requested is not None and not _same_addresses(requested, old["fixed_ips"]):
            store.release(tx, old["id"])
            addresses.give(tx, old | values, subnets_of(tx, [old["network_id"]]), requested)
        new = old | values
        moved = new["binding:host_id"] != old["binding:host_id"]
        self._bind(new, moved=moved)
        values |= {name: new[name] for name in ("status", "binding:vif_type", "binding:vif_details")}
        if moved:
            trunks.follow(tx, old, new["binding:host_id"], self.bound)

    def bound(self, port: Record, host: str) -> Record:
        """The port's binding once it is bound to that host."""
        new = port | {"binding:host_id": host}
        self._bind(new, moved=host != port["binding:host_id"])
        return {name: new[name] for name in ("binding:host_id", "status", "binding:vif_type", "binding:vif_details")}

    def _bind(self, port: Record, *, moved: bool = False) -> None:
        """Bind a port with a host; one with a device as well is active. Where packets are moved for the host, the port
        is active when its tap is wired."""
        if port["binding:vnic_type"] not in VNIC_TYPES:
            raise bad(f"Invalid input for binding:vnic_type: {port['binding:vnic_type']}", "HTTPBadRequest")
        bound = bool(port["binding:host_id"])
        if bound and port["binding:vnic_type"] not in BOUND_TYPES:
            port |= {"binding:vif_type": "binding_failed", "binding:vif_details": {}, "status": "DOWN"}
            return
        if bound and self._wiring is not None and self._wiring.wires(port["binding:host_id"]):
            known = port.get("binding:vif_type") == "bridge" and not moved and port["admin_state_up"]
            port["binding:vif_type"] = "bridge"
            port["binding:vif_details"] = self._wiring.details(port["network_id"])
            port["status"] = port["status"] if known else "DOWN"
            return
        port["binding:vif_type"] = self._vif_type if bound else "unbound"
        port["binding:vif_details"] = dict(VIF_DETAILS.get(self._vif_type, {})) if bound else {}
        port["status"] = "ACTIVE" if bound and port["device_id"] and port["admin_state_up"] else "DOWN"


def _check_owner(req: CompanionRequest, network: Record, given: Record) -> None:
    """Raises Forbidden unless the caller owns the network: only its owner may set more of a port than the network."""
    if req.is_admin or network["project_id"] == req.caller.project_id:
        return
    if str(given.get("device_owner") or "").startswith("network:"):
        raise _disallowed("device_owner")
    if any(entry.get("ip_address") for entry in given.get("fixed_ips") or ()):
        raise _disallowed("fixed_ips:ip_address")
    for name in ("mac_address", "port_security_enabled", "allowed_address_pairs"):
        if given.get(name) not in (None, []):
            raise _disallowed(name)


def _disallowed(name: str) -> PolycellError:
    return refusal(Forbidden, "PolicyNotAuthorized", f"The attribute {name} of a port is disallowed by policy.")


def _check_device(tx: Connection, req: CompanionRequest, device_id: str | None, project_id: str) -> None:
    """Raises Conflict for a port of a device of another project, as far as its router or ports show that, unless an
    administrator sends the request."""
    if not device_id or req.is_admin:
        return
    router = store.find(tx, "router", device_id)
    known = [*store.search(tx, "port", device_id=[device_id]), *([router] if router is not None else [])]
    if any(record["project_id"] != project_id for record in known):
        message = f"The following device_id {device_id} is not owned by your tenant or matches another tenants router."
        raise refusal(Conflict, "DeviceIDNotOwnedByTenant", message)


def give_mac(tx: Connection, port: Record) -> None:
    """Give the port a MAC address of its own on its network: the one given, or a new one. Raises Invalid, Conflict."""
    given = port["mac_address"]
    if given and not _MAC.fullmatch(given.lower()):
        raise bad(f"Invalid input for mac_address. Reason: '{given}' is not a valid MAC address.", "HTTPBadRequest")
    for _ in range(16):
        port["mac_address"] = given.lower() if given else addresses.new_mac(MAC_PREFIX)
        nested = tx.begin_nested()
        try:
            store.take_mac(tx, port["network_id"], port["mac_address"], port["id"])
        except IntegrityError as error:
            nested.rollback()
            if given:
                message = (
                    f"Unable to complete operation for network {port['network_id']}. The mac address {given} is in use."
                )
                raise refusal(Conflict, "MacAddressInUse", message) from error
        else:
            nested.commit()
            return
    raise refusal(Conflict, "MacAddressGenerationFailure", "Unable to generate unique mac.")


def _same_addresses(requested: list[Any], has: list[Any]) -> bool:
    """Whether a port has exactly the requested addresses."""
    return len(requested) == len(has) and all(
        isinstance(one, dict) and one.items() <= other.items() for one, other in zip(requested, has, strict=True)
    )


def _remove_port(tx: Connection, port_id: str) -> None:
    drop_port(tx, port_id)
    store.remove(tx, port_id)


def drop_port(tx: Connection, port_id: str) -> None:
    """Free the port's addresses and MAC, and point floating addresses to it no more."""
    store.release(tx, port_id)
    store.give_mac_back(tx, port_id)
    for floating in store.search(tx, "floatingip", parent_id=[port_id]):
        freed = {"port_id": None, "fixed_ip_address": None, "router_id": None, "status": "DOWN", "parent_id": None}
        store.change(tx, floating, freed)


def _removing_port(tx: Connection, req: CompanionRequest, port: Record) -> None:
    if port["device_owner"] == ROUTER_PORT:
        message = f"Port {port['id']} cannot be deleted directly via the port API: has device owner {ROUTER_PORT}."
        raise refusal(Conflict, "ServicePortInUse", message)
    trunks.demand_in_none(tx, port)
    drop_port(tx, port["id"])


DEFAULT_GATEWAY = "default"
NETWORK = Noun(
    "network",
    {
        "name": Attr(),
        "description": Attr("text?", ""),
        "admin_state_up": Attr("bool", True),
        "shared": Attr("bool", False, admin=True),
        "router:external": Attr("bool", False, admin=True),
        "is_default": Attr("bool", False, admin=True),
        "mtu": Attr("int", 1500),
        "port_security_enabled": Attr("bool", True),
        "dns_domain": Attr("text?", ""),
        "vlan_transparent": Attr("bool?", None, fixed=True),
        "qos_policy_id": Attr("text?", None),
        "availability_zone_hints": Attr("texts", [], fixed=True),
        "availability_zones": Attr("texts", ["nova"], computed=True),
        "ipv4_address_scope": Attr("text?", None, computed=True),
        "ipv6_address_scope": Attr("text?", None, computed=True),
        "status": Attr("text", "ACTIVE", computed=True),
        "provider:network_type": Attr("text?", "flat", admin=True, hidden=True),
        "provider:physical_network": Attr("text?", None, admin=True, hidden=True),
        "provider:segmentation_id": Attr("int?", None, admin=True, hidden=True),
    },
    making=_making_network,
    changing=_changing_network,
    removing=_removing_network,
    complete=_complete_networks,
    visible=network_visible,
)
SUBNET = Noun(
    "subnet",
    {
        "name": Attr(),
        "description": Attr("text?", ""),
        "network_id": Attr("text", REQUIRED, fixed=True),
        "cidr": Attr("text", REQUIRED, fixed=True),
        "ip_version": Attr("int", 4, fixed=True),
        "gateway_ip": Attr("text?", DEFAULT_GATEWAY),
        "allocation_pools": Attr("entries?", None),
        "dns_nameservers": Attr("texts", []),
        "host_routes": Attr("entries", []),
        "enable_dhcp": Attr("bool", True),
        "ipv6_ra_mode": Attr("text?", None, fixed=True),
        "ipv6_address_mode": Attr("text?", None, fixed=True),
        "service_types": Attr("texts", []),
        "subnetpool_id": Attr("text?", None, fixed=True),
        "segment_id": Attr("text?", None, fixed=True),
        "dns_publish_fixed_ip": Attr("bool", False),
    },
    making=_making_subnet,
    changing=_changing_subnet,
    removing=_removing_subnet,
    complete=_complete_subnets,
)
PORT_ATTRS = {
    "name": Attr("text?", ""),
    "description": Attr("text?", ""),
    "network_id": Attr("text", REQUIRED, fixed=True),
    "mac_address": Attr("text?", None),
    "admin_state_up": Attr("bool", True),
    "status": Attr("text", "DOWN", computed=True),
    "device_id": Attr("text?", ""),
    "device_owner": Attr("text?", ""),
    "fixed_ips": Attr("entries?", None),
    "security_groups": Attr("texts?", None),
    "port_security_enabled": Attr("bool?", None),
    "allowed_address_pairs": Attr("entries", []),
    "extra_dhcp_opts": Attr("options?", []),
    "dns_name": Attr("text?", ""),
    "dns_assignment": Attr("entries", [], computed=True),
    "ip_allocation": Attr("text", "immediate", computed=True),
    "propagate_uplink_status": Attr("bool", True),
    "qos_policy_id": Attr("text?", None),
    "qos_network_policy_id": Attr("text?", None, computed=True),
    "resource_request": Attr("dict?", None, computed=True, hidden=True),
    "binding:host_id": Attr("text?", "", admin=True, hidden=True),
    "binding:profile": Attr("dict?", {}, admin=True, hidden=True),
    "binding:vif_type": Attr("text", "unbound", computed=True, hidden=True),
    "binding:vif_details": Attr("dict", {}, computed=True, hidden=True),
    "binding:vnic_type": Attr("text", "normal"),
}
