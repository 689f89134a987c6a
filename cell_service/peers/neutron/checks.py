"""The networks, ports and groups that a project may use, and the network that it gets when it names none."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address, ip_network

from cell_service.context import Context
from cell_service.errors import (
    Conflict,
    Forbidden,
    Invalid,
    NetworkNotFound,
    OverQuota,
    PortNotFound,
    SecurityGroupNotFound,
)
from cell_service.model.instance import NetworkRequest
from cell_service.peers.neutron.calls import Calls, Record

GUARANTEES = ("minimum_bandwidth", "minimum_packet_rate")
"""The kinds of rules of a QoS policy for which a host must have resources."""


def validate(
    calls: Calls,
    ctx: Context,
    requests: Sequence[NetworkRequest],
    security_groups: Sequence[str],
    count: int,
    attached_to: str | None,
    *,
    external: bool,
) -> None:
    """See Networks.validate. The number of requests does not grow with `count`."""
    if tuple(security_groups) not in ((), ("default",)):
        group_ids(calls, ctx, ctx.project_id, security_groups)
    new_ports = 0
    ports_seen: set[str] = set()
    for request in requests:
        if request.port_id is not None:
            port = _check_port(calls, ctx, request, count, ports_seen, attached_to)
            if not external:
                _demand_inside(calls, ctx, network(calls, ctx, port["network_id"]))
            continue
        new_ports += count
        if request.network_id is None:
            chosen_id = chosen(calls, ctx, ctx.project_id, auto=True, dry_run=True)
            if chosen_id is not None:
                _demand_no_guarantee(calls, ctx, network(calls, ctx, chosen_id), attached_to)
            continue
        found = network(calls, ctx, request.network_id)
        if not ctx.is_admin:
            _demand_visible(calls, ctx, found)
        if not external:
            _demand_inside(calls, ctx, found)
        demand_subnets(found)
        _demand_no_guarantee(calls, ctx, found, attached_to)
        if request.fixed_ip is not None:
            _check_fixed_ip(calls, ctx, found, request.fixed_ip, count)
    if new_ports:
        _check_quota(calls, ctx, new_ports)


def available(calls: Calls, ctx: Context, project_id: str) -> list[Record]:
    """The networks that may be chosen for a project: its own, then those shared with all."""
    own = calls.find_all(ctx, "networks", project_id=project_id, shared=False)
    shared = calls.find_all(ctx, "networks", shared=True)
    return [record for record in (*own, *shared) if not record.get("router:external")]


def shown(calls: Calls, ctx: Context, project_id: str) -> list[Record]:
    """The networks that the service shows to the project: its own, shared ones and external ones. Where the service
    has policies that share a network with single projects, they decide."""
    found = {record["id"]: record for record in calls.find_all(ctx, "networks", project_id=project_id)}
    external = calls.find_all(ctx, "networks", **{"router:external": True})
    if "rbac-policies" in calls.extensions(ctx):
        policies = calls.find_all(ctx, "rbac-policies", object_type="network", target_tenant=[project_id, "*"])
        granted = {policy["object_id"] for policy in policies}
        external = [record for record in external if record["id"] in granted]
        known = {*found, *(record["id"] for record in external)}
        found |= calls.lasting(ctx, "networks", sorted(granted - known))
    shared = calls.find_all(ctx, "networks", shared=True)
    return list({**found, **{record["id"]: record for record in (*shared, *external)}}.values())


def chosen(calls: Calls, ctx: Context, project_id: str, auto: bool, dry_run: bool = False) -> str | None:
    """The id of the one network a project can have; None when there is none and none is made. Raises Conflict."""
    candidates = available(calls, ctx, project_id)
    if len(candidates) > 1:
        raise Conflict(reason="Multiple possible networks found, use a Network ID to be more specific.")
    if candidates:
        return str(candidates[0]["id"])
    if not auto or dry_run:
        return None
    return calls.auto_topology(ctx, project_id)


def network(calls: Calls, ctx: Context, network_id: str) -> Record:
    """Raises NetworkNotFound."""
    found = calls.lasting(ctx, "networks", [network_id]).get(network_id) if network_id.isprintable() else None
    if found is None:
        raise NetworkNotFound(network_id=network_id)
    return found


def demand_subnets(found: Record) -> None:
    """Raises Invalid for a network without subnets: security groups need a port's addresses."""
    if not found.get("subnets") and found.get("port_security_enabled", True):
        raise Invalid(reason=f"Network {found['id']} requires a subnet in order to boot instances on.")


def demand_port_security(found: Record) -> None:
    """Raises Invalid where security groups can't be applied."""
    if not found.get("port_security_enabled", True):
        raise Invalid(
            reason=f"Network {found['id']} has port security disabled; security groups cannot be applied to its ports."
        )


def group_ids(calls: Calls, ctx: Context, project_id: str, names: Sequence[str]) -> list[str]:
    """Ids of the project's groups of these ids or names, in order. Raises SecurityGroupNotFound, Conflict."""
    groups = calls.find_all(ctx, "security-groups", project_id=project_id)
    ids = []
    for name in names:
        found = [group["id"] for group in groups if group["id"] == name] or [
            group["id"] for group in groups if group["name"] == name
        ]
        if not found:
            raise SecurityGroupNotFound(name=name, project_id=project_id)
        if len(found) > 1:
            raise Conflict(reason=f"Multiple security groups found matching '{name}'. Use an ID to be more specific.")
        if found[0] not in ids:
            ids.append(found[0])
    return ids


def port_needs_resources(attached_to: str | None = None) -> Invalid:
    """The refusal of a port that needs resources of its host: they are not claimed here."""
    if attached_to is not None:
        return Invalid(reason=f"Attaching interfaces with QoS policy is not supported for instance {attached_to}.")
    words = "like a port with a QoS minimum bandwidth policy, is not supported."
    return Invalid(reason=f"Creating servers with ports having resource requests, {words}")


def network_needs_resources(network_id: str, instance_uuid: str | None = None) -> Invalid:
    """The refusal of a network whose ports would need resources of their hosts."""
    named = f" for instance {instance_uuid}" if instance_uuid is not None else ""
    return Invalid(reason=f"Using networks with QoS policy is not supported{named}. (Network ID is {network_id})")


def _demand_no_guarantee(calls: Calls, ctx: Context, found: Record, attached_to: str | None) -> None:
    """Raises Invalid for a network that guarantees its ports bandwidth or packets."""
    policy_id = found.get("qos_policy_id")
    policies = calls.find_all(ctx, "qos/policies", id=policy_id) if policy_id else []
    if any(rule.get("type") in GUARANTEES for policy in policies for rule in policy.get("rules") or ()):
        raise network_needs_resources(found["id"], attached_to)


def _demand_visible(calls: Calls, ctx: Context, found: Record) -> None:
    """Raises NetworkNotFound unless the project owns the network or shares it, or the network is external: those are
    shown to all projects."""
    if found["project_id"] != ctx.project_id and not found.get("router:external") and not _shared(calls, ctx, found):
        raise NetworkNotFound(network_id=found["id"])


def _demand_inside(calls: Calls, ctx: Context, found: Record) -> None:
    """Raises Forbidden for an external network that the project does not share."""
    if found.get("router:external") and not _shared(calls, ctx, found):
        raise Forbidden(reason=f"It is not allowed to create an interface on external network {found['id']}")


def _shared(calls: Calls, ctx: Context, found: Record) -> bool:
    """Whether the network is shared with all projects or with the caller's."""
    if found.get("shared"):
        return True
    if "rbac-policies" not in calls.extensions(ctx):
        return False
    policies = calls.find_all(
        ctx, "rbac-policies", object_type="network", object_id=found["id"], action="access_as_shared"
    )
    return any(policy["target_tenant"] in ("*", ctx.project_id) for policy in policies)


def _check_port(
    calls: Calls, ctx: Context, request: NetworkRequest, count: int, seen: set[str], attached_to: str | None
) -> Record:
    """The port, which the project may use and nothing has."""
    assert request.port_id is not None
    port = calls.find(ctx, "ports", request.port_id)
    if port is None or port["project_id"] != ctx.project_id:
        raise PortNotFound(port_id=request.port_id)
    if count > 1:
        raise Invalid(reason="Unable to launch multiple instances with a single configured port ID.")
    if request.port_id in seen:
        raise Invalid(reason=f"Port {request.port_id} is requested twice.")
    seen.add(request.port_id)
    if port.get("device_id"):
        raise Conflict(reason=f"Port {request.port_id} is still in use.")
    if port.get("resource_request"):
        raise port_needs_resources(attached_to)
    if not port.get("fixed_ips") and port.get("ip_allocation") != "deferred":
        raise Invalid(reason=f"Port {request.port_id} requires a FixedIP in order to be used.")
    return port


def _check_fixed_ip(calls: Calls, ctx: Context, found: Record, fixed_ip: str, count: int) -> None:
    try:
        address = ip_address(fixed_ip)
    except ValueError as error:
        raise Invalid(reason=f"Invalid fixed IP address {fixed_ip}.") from error
    if count > 1:
        raise Invalid(reason="max_count cannot be greater than 1 if an fixed_ip is specified.")
    subnets = calls.find_all(ctx, "subnets", network_id=found["id"])
    if not any(address in ip_network(subnet["cidr"]) for subnet in subnets):
        raise Invalid(reason=f"Fixed IP address {fixed_ip} is not a valid ip address for network {found['id']}.")
    if calls.find_all(ctx, "ports", network_id=found["id"], fixed_ips=f"ip_address={address}", fields="id"):
        raise Conflict(reason=f"Fixed IP address {fixed_ip} is already in use on network {found['id']}.")


def _check_quota(calls: Calls, ctx: Context, new_ports: int) -> None:
    limit, used = calls.quota(ctx, ctx.project_id, "ports")
    if limit >= 0 and used + new_ports > limit:
        raise OverQuota(resources="port", requested=new_ports, used=used, limit=limit)
