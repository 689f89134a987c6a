"""Security groups: what a project has of them, and which of them guard a server's ports."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_network
from typing import Any

from sqlalchemy import Connection

from api_cell.caller import Caller
from api_cell.servers import addresses, find, networking
from api_cell.services import Services
from cell_service.context import Context
from cell_service.db import actions, instances, network_info
from cell_service.errors import Conflict, Invalid, NotFound, SecurityGroupNotFound
from cell_service.peers.network import Record
from mapping_db.cells.registry import Cell
from mapping_db.cloud import Cloud

_WITH_PORTS = {"tcp": (1, 65535), "udp": (1, 65535), "icmp": (-1, 255)}


@dataclass(frozen=True, slots=True)
class RuleRequest:
    """A new rule of the group `parent_group_id`: it lets in what comes from a CIDR, or from members of another group.
    A port that is no number stays as the client wrote it, and is refused with the rule."""

    parent_group_id: str
    protocol: str | None = None
    from_port: int | str | None = None
    to_port: int | str | None = None
    cidr: str | None = None
    group_id: str | None = None


def own(services: Services, ctx: Context, group_id: str) -> Record:
    """The project's group of this id. Raises Invalid, NotFound."""
    found = networking.one(services, ctx, "security-groups", networking.demand_uuid(group_id, "Security group"))
    if found is None:
        raise NotFound(reason=f"Security group {group_id} not found.")
    return found


def of_server(cloud: Cloud, services: Services, caller: Caller, server_id: str, rule: str) -> list[Record]:
    """The groups that guard the server's ports, each once. Raises InstanceNotFound, PolicyForbidden."""
    instance = find.server(cloud, caller.ctx, server_id).instance
    caller.demand(rule, find.target(instance))
    ports = services.require_networks().port_states(caller.ctx, instance.uuid, project_id=instance.project_id)
    ids = [group for port in ports for group in port.security_groups]
    if not ids:
        return []
    found = networking.records_of(services).find_all(caller.ctx, "security-groups", id=list(dict.fromkeys(ids)))
    return sorted(found, key=lambda group: ids.index(group["id"]))


def join(cloud: Cloud, services: Services, caller: Caller, server_id: str, rule: str, name: str) -> None:
    """Add the group to all ports of the server. Raises SecurityGroupNotFound, NotFound without ports, Conflict when
    several groups have this name."""
    _change(
        cloud,
        services,
        caller,
        server_id,
        rule,
        "addSecurityGroup",
        name,
        lambda now, group: now if group in now else (*now, group),
    )


def leave(cloud: Cloud, services: Services, caller: Caller, server_id: str, rule: str, name: str) -> None:
    """Remove the group from the server's ports. Raises as `join`, and SecurityGroupNotFound when the group guarded
    none."""

    def without(now: tuple[str, ...], group: str) -> tuple[str, ...]:
        return tuple(each for each in now if each != group)

    _change(cloud, services, caller, server_id, rule, "removeSecurityGroup", name, without)


def in_use(services: Services, ctx: Context, group: Record) -> bool:
    """Whether the group guards any port of its project."""
    ports = networking.records_of(services).find_all(ctx, "ports", project_id=group["project_id"])
    return any(group["id"] in (port.get("security_groups") or ()) for port in ports)


def rule_from(services: Services, ctx: Context, request: RuleRequest) -> Record:
    """The fields of a new rule that lets something in. Raises Invalid, NotFound."""
    parent = own(services, ctx, request.parent_group_id)
    protocol, low, high = request.protocol, request.from_port, request.to_port
    cidr, group_id = request.cidr, request.group_id
    if cidr and group_id:
        raise Invalid(reason="A rule names a CIDR or a group, not both.")
    fields: Record = {"direction": "ingress", "security_group_id": parent["id"], "project_id": parent["project_id"]}
    if group_id:
        fields |= {"remote_group_id": own(services, ctx, group_id)["id"], "ethertype": "IPv4"}
    else:
        try:
            network = ip_network(cidr or "0.0.0.0/0", strict=False)
        except ValueError:
            raise Invalid(reason=f"CIDR {cidr} is malformed.") from None
        fields |= {"remote_ip_prefix": str(network), "ethertype": f"IPv{network.version}"}
    if protocol is None and group_id and low is None and high is None:
        return fields
    return fields | _ports(protocol, low, high)


def _ports(protocol: str | None, first: int | str | None, last: int | str | None) -> Record:
    name = (protocol or "").lower()
    if name not in _WITH_PORTS:
        raise Invalid(reason=f"Invalid IP protocol {protocol}.")
    if not isinstance(first, int) or not isinstance(last, int):
        raise Invalid(reason="Invalid input: from_port and to_port must be whole numbers.")
    least, most = _WITH_PORTS[name]
    if not (least <= first <= most and least <= last <= most) or (first > last and name != "icmp"):
        raise Invalid(reason=f"Invalid port range {first}:{last}. Valid {name.upper()} ports are {least}-{most}.")
    bounds = {"port_range_min": first, "port_range_max": last}
    return {"protocol": name, **{key: value for key, value in bounds.items() if value != -1}}


def _change(
    cloud: Cloud, services: Services, caller: Caller, server_id: str, rule: str, action: str, name: str, make: Any
) -> None:
    instance = addresses.changed(cloud, caller, server_id, rule)
    records = networking.records_of(services)
    groups = records.find_all(caller.ctx, "security-groups", project_id=instance.project_id)
    found = [each for each in groups if each["id"] == name] or [each for each in groups if each["name"] == name]
    if not found:
        raise SecurityGroupNotFound(name=name, project_id=instance.project_id)
    if len(found) > 1:
        raise Conflict(reason=f"Multiple security groups found matching '{name}'. Use an ID to be more specific.")
    group = found[0]
    ports = services.require_networks().port_states(caller.ctx, server_id, project_id=instance.project_id)
    if not ports:
        raise NotFound(reason=f"Instance {server_id} has no ports that a security group could guard.")
    changes = {port.port_id: make(port.security_groups, group["id"]) for port in ports}
    if action == "removeSecurityGroup" and all(changes[port.port_id] == port.security_groups for port in ports):
        raise SecurityGroupNotFound(name=name, project_id=instance.project_id)
    for port in ports:
        if changes[port.port_id] != port.security_groups:
            records.change(caller.ctx, "ports", port.port_id, {"security_groups": list(changes[port.port_id])})
    guarding = dict.fromkeys(each for after in changes.values() for each in after)
    names = {each["id"]: each["name"] for each in groups}
    seen = find.server(cloud, caller.ctx, server_id).instance
    found_now = services.require_networks().info(caller.ctx, server_id, project_id=instance.project_id)
    vifs = {vif.port_id: vif for vif in found_now}

    def work(tx: Connection, cell: Cell) -> None:
        find.to_change(cloud, caller.ctx, tx, cell, server_id)
        now = cloud.clock.now()
        instances.change(tx, server_id, now=now, security_groups=tuple(names.get(each, each) for each in guarding))
        network_info.renew(tx, seen, vifs, now)
        actions.start(tx, caller.ctx, server_id, action, now)
        actions.finish(tx, server_id, caller.ctx.request_id, now)

    find.change(cloud, caller.ctx, server_id, work)
