"""Security groups and their rules."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Any

from sqlalchemy import Connection

from cell_service.errors import Conflict
from tools.companions.network import store
from tools.companions.network.errors import bad, in_use, not_found, refusal
from tools.companions.network.nouns import REQUIRED, Attr, Noun, Record
from tools.companions.route import CompanionRequest

DEFAULT = "default"
PROTOCOLS = ("ah", "dccp", "egp", "esp", "gre", "hopopt", "icmp", "icmpv6", "igmp", "ip", "ipip", "ipv6-encap",
             "ipv6-frag", "ipv6-icmp", "ipv6-nonxt", "ipv6-opts", "ipv6-route", "ospf", "pgm", "rsvp", "sctp", "tcp",
             "udp", "udplite", "vrrp", "any")  # fmt: skip
_WITH_PORTS = ("tcp", "udp", "dccp", "sctp", "udplite")


def ensure_default(tx: Connection, project_id: str) -> str:
    """The id of the project's default group, which is made when there is none."""
    for group in store.search(tx, "security_group", project_id=[project_id], name=[DEFAULT]):
        return str(group["id"])
    group_id = store.new_id()
    add_group(tx, {"id": group_id, "project_id": project_id, "name": DEFAULT, "tags": [], "stateful": True,
                   "shared": False, "description": "Default security group"})  # fmt: skip
    for version in ("IPv4", "IPv6"):
        _add_rule(tx, group_id, project_id, direction="ingress", ethertype=version, remote_group_id=group_id)
    return group_id


def add_group(tx: Connection, group: Record) -> None:
    """A group that lets everything out."""
    store.add(tx, "security_group", group)
    _let_out(tx, group)


def _let_out(tx: Connection, group: Record) -> None:
    for version in ("IPv4", "IPv6"):
        _add_rule(tx, group["id"], group["project_id"], direction="egress", ethertype=version)


def _add_rule(tx: Connection, group_id: str, project_id: str, **values: object) -> None:
    rule = {name: attr.default for name, attr in RULE_ATTRS.items()}
    store.add(tx, "security_group_rule", {
        **rule, **values, "id": store.new_id(), "project_id": project_id, "security_group_id": group_id,
        "parent_id": group_id, "tags": [],
    })  # fmt: skip


def group_ids(tx: Connection, req: CompanionRequest, port: Record) -> list[str]:
    """The groups of a new port: those given, else the project's default group, none without port security."""
    given = port["security_groups"]
    if not port["port_security_enabled"]:
        if given:
            raise refusal(Conflict, "PortSecurityPortHasSecurityGroup", "Port has security group associated.")
        return []
    if given is None:
        return [ensure_default(tx, port["project_id"])]
    check_groups(tx, req, given, port["project_id"])
    return list(dict.fromkeys(given))


def check_groups(tx: Connection, req: CompanionRequest, ids: list[Any], project_id: str) -> None:
    """Raises NotFound unless all are groups of the project."""
    for group_id in ids:
        group = store.find(tx, "security_group", str(group_id))
        if group is None or (group["project_id"] != project_id and not req.is_admin):
            raise not_found("security_group", str(group_id))


def _listing(tx: Connection, req: CompanionRequest) -> None:
    if req.caller.project_id:
        ensure_default(tx, req.caller.project_id)


def _complete(tx: Connection, groups: list[Record]) -> None:
    rules = store.search(tx, "security_group_rule", parent_id=[group["id"] for group in groups]) if groups else []
    for group in groups:
        group["security_group_rules"] = [
            {
                name: value
                for name, value in rule.items()
                if name not in ("parent_id", "network_id", "device_id", "name")
            }
            | {"tenant_id": rule["project_id"]}
            for rule in rules
            if rule["security_group_id"] == group["id"]
        ]


def _making_group(tx: Connection, req: CompanionRequest, group: Record) -> None:
    if group["name"] == DEFAULT:
        raise refusal(Conflict, "SecurityGroupDefaultAlreadyExists", "Default security group already exists.")
    ensure_default(tx, group["project_id"])


def _changing_group(tx: Connection, req: CompanionRequest, old: Record, values: Record) -> None:
    if "name" in values and DEFAULT in (old["name"], values["name"]):
        raise refusal(Conflict, "SecurityGroupCannotUpdateDefault", "Updating default security group not allowed.")


def _removing_group(tx: Connection, req: CompanionRequest, group: Record) -> None:
    if group["name"] == DEFAULT and not req.is_admin:
        raise refusal(
            Conflict, "SecurityGroupCannotRemoveDefault", "Insufficient rights for removing default security group."
        )
    for port in store.search(tx, "port", project_id=[group["project_id"]]):
        if group["id"] in port["security_groups"]:
            raise in_use("security_group", group["id"], "It is in use by a port.")
    for rule in store.search(tx, "security_group_rule"):
        if group["id"] in (rule["security_group_id"], rule["remote_group_id"]):
            store.remove(tx, rule["id"])


def _making_rule(tx: Connection, req: CompanionRequest, rule: Record) -> None:
    group = store.find(tx, "security_group", rule["security_group_id"])
    if group is None or (group["project_id"] != req.caller.project_id and not req.is_admin):
        raise not_found("security_group", rule["security_group_id"])
    rule["project_id"] = group["project_id"]
    rule["parent_id"] = group["id"]
    _check_rule(tx, req, rule)
    same = ("direction", "ethertype", "protocol", "port_range_min", "port_range_max", "remote_group_id")
    for other in store.search(tx, "security_group_rule", parent_id=[group["id"]]):
        prefixes = {_normalized(one["remote_ip_prefix"]) for one in (rule, other)}
        if len(prefixes) == 1 and all(other[name] == rule[name] for name in same):
            message = f"Security group rule already exists. Rule id is {other['id']}."
            raise refusal(Conflict, "SecurityGroupRuleExists", message)


def _check_rule(tx: Connection, req: CompanionRequest, rule: Record) -> None:
    if rule["direction"] not in ("ingress", "egress"):
        raise bad("direction must be ingress or egress.", "HTTPBadRequest")
    versions = {"ipv4": "IPv4", "ipv6": "IPv6"}
    if str(rule["ethertype"]).lower() not in versions:
        raise bad("ethertype must be IPv4 or IPv6.", "HTTPBadRequest")
    rule["ethertype"] = versions[str(rule["ethertype"]).lower()]
    protocol = rule["protocol"]
    if protocol is not None:
        protocol = str(protocol).lower()
        if protocol not in PROTOCOLS and not (protocol.isdigit() and int(protocol) <= 255):
            raise bad(f"Security group rule protocol {protocol} not supported.", "SecurityGroupRuleInvalidProtocol")
        rule["protocol"] = None if protocol in ("any", "ip") else protocol
    low, high = (_port_number(rule[name]) for name in ("port_range_min", "port_range_max"))
    rule["port_range_min"], rule["port_range_max"] = low, high
    if protocol in _WITH_PORTS and (low is not None or high is not None):
        if low is None or high is None or low > high:
            raise bad(
                "For TCP/UDP protocols, port_range_min must be <= port_range_max", "SecurityGroupInvalidPortRange"
            )
    elif protocol in (None, "any") and (low is not None or high is not None):
        raise bad("Must also specify protocol if port range is given.", "SecurityGroupProtocolRequiredWithPorts")
    if rule["remote_ip_prefix"] and rule["remote_group_id"]:
        raise bad(
            "Only remote_ip_prefix or remote_group_id may be provided.", "SecurityGroupRemoteGroupAndRemoteIpPrefix"
        )
    if rule["remote_group_id"]:
        check_groups(tx, req, [rule["remote_group_id"]], rule["project_id"])
    if rule["remote_ip_prefix"]:
        try:
            net = ip_network(rule["remote_ip_prefix"], strict=False)
        except ValueError as error:
            raise bad(f"'{rule['remote_ip_prefix']}' is not a valid IP subnet.", "HTTPBadRequest") from error
        if f"IPv{net.version}" != rule["ethertype"]:
            message = f"Conflicting value ethertype {rule['ethertype']} for CIDR {net}"
            raise bad(message, "SecurityGroupRuleParameterConflict")
        rule["normalized_cidr"] = str(net)


def _normalized(prefix: str | None) -> str | None:
    """The network without the bits of a host."""
    return str(ip_network(prefix, strict=False)) if prefix else None


def _port_number(value: Any) -> int | None:
    if value is None or value == "":
        return None
    try:
        number = int(value)
    except (TypeError, ValueError) as error:
        raise bad(f"Invalid value for port {value}", "SecurityGroupInvalidPortValue") from error
    if not 0 <= number <= 65535:
        raise bad(f"Invalid value for port {value}", "SecurityGroupInvalidPortValue")
    return number


RULE_ATTRS = {
    "security_group_id": Attr("text", REQUIRED, fixed=True),
    "direction": Attr("text", REQUIRED, fixed=True),
    "ethertype": Attr("text", "IPv4", fixed=True),
    "protocol": Attr("number or text?", None, fixed=True),
    "port_range_min": Attr("number or text?", None, fixed=True),
    "port_range_max": Attr("number or text?", None, fixed=True),
    "remote_ip_prefix": Attr("text?", None, fixed=True),
    "normalized_cidr": Attr("text?", None, computed=True),
    "remote_group_id": Attr("text?", None, fixed=True),
    "remote_address_group_id": Attr("text?", None, fixed=True),
    "description": Attr("text?", ""),
}
GROUP = Noun(
    "security_group",
    {
        "name": Attr("text", REQUIRED),
        "description": Attr("text?", ""),
        "stateful": Attr("bool", True),
        "shared": Attr("bool", False, computed=True),
    },
    "security-groups",
    making=_making_group,
    made=lambda tx, req, group: _let_out(tx, group),
    changing=_changing_group,
    removing=_removing_group,
    complete=_complete,
    listing=_listing,
)
RULE = Noun("security_group_rule", RULE_ATTRS, "security-group-rules", making=_making_rule)
