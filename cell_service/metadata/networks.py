"""network_data.json: the server's links, the networks on them, and name servers. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_network
from typing import Any

from cell_service.model.instance import FixedIp, Vif

_LINK_TYPES = frozenset({"bridge", "dvs", "hw_veb", "hyperv", "ovs", "tap", "vhostuser", "vif"})
_IPV6_TYPES = {"slaac": "ipv6_slaac", "dhcpv6-stateless": "ipv6_slaac", "dhcpv6-stateful": "ipv6_dhcp"}


def network_data(vifs: Iterable[Vif]) -> dict[str, Any]:
    """The description of the guest's networks, by which it sets its interfaces up."""
    links: list[dict[str, Any]] = []
    networks: list[dict[str, Any]] = []
    services: list[dict[str, str]] = []
    for vif in vifs:
        link = _link(vif)
        links.append(link)
        subnets = {subnet["id"]: subnet for subnet in vif.details.get("subnets") or ()}
        for fixed in vif.fixed_ips:
            subnet = subnets.get(fixed.subnet_id)
            if subnet is None:
                continue
            networks.append({"id": f"network{len(networks)}", "link": link["id"], **_network(vif, fixed, subnet)})
            services += [each for each in _services(subnet) if each not in services]
    return {"links": links, "networks": networks, "services": services}


def _link(vif: Vif) -> dict[str, Any]:
    return {
        "id": f"tap{vif.port_id[:11]}",
        "vif_id": vif.port_id,
        "type": vif.vif_type if vif.vif_type in _LINK_TYPES else "phy",
        "mtu": vif.mtu,
        "ethernet_mac_address": vif.mac,
    }


def _network(vif: Vif, fixed: FixedIp, subnet: dict[str, Any]) -> dict[str, Any]:
    """The description of one network. With DHCP or SLAAC it has no address: the guest gets its address from the
    network."""
    kind = _kind(fixed, subnet)
    made: dict[str, Any] = {"type": kind, "network_id": vif.network_id}
    if kind in ("ipv4", "ipv6"):
        made["ip_address"] = fixed.address
        made["netmask"] = str(ip_network(subnet["cidr"], strict=False).netmask)
        made["routes"] = _routes(fixed.version, subnet)
        made["services"] = _services(subnet)
    return made


def _kind(fixed: FixedIp, subnet: dict[str, Any]) -> str:
    if fixed.version == 4:
        return "ipv4_dhcp" if subnet.get("enable_dhcp") else "ipv4"
    mode = subnet.get("ipv6_address_mode")
    if mode in _IPV6_TYPES:
        return _IPV6_TYPES[mode]
    return "ipv6_dhcp" if subnet.get("enable_dhcp") else "ipv6"


def _routes(version: int, subnet: dict[str, Any]) -> list[dict[str, str]]:
    everywhere = "0.0.0.0" if version == 4 else "::"
    routes = []
    if subnet.get("gateway_ip"):
        routes.append({"network": everywhere, "netmask": everywhere, "gateway": subnet["gateway_ip"]})
    for route in subnet.get("host_routes") or ():
        target = ip_network(route["destination"], strict=False)
        routes.append(
            {"network": str(target.network_address), "netmask": str(target.netmask), "gateway": route["nexthop"]}
        )
    return routes


def _services(subnet: dict[str, Any]) -> list[dict[str, str]]:
    return [{"type": "dns", "address": address} for address in subnet.get("dns_nameservers") or ()]
