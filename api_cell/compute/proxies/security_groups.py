"""Security groups: those of a server, and, up to 2.35, those of a project with their rules."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from api_cell.compute.servers.interfaces import NOTHING
from api_cell.edge.route import Request, Response, Route, Schema
from api_cell.edge.shapes import UUID, WHOLE, query
from api_cell.servers import networking, security_groups
from api_cell.servers.security_groups import RuleRequest
from cell_service.errors import Invalid, NotFound
from cell_service.peers.network import Record

PROXIED = (2, 35)
_RULE = "os_compute_api:os-security-groups:"


def of_server(req: Request) -> Response:
    """200 {"security_groups": […]}: those that guard the server's ports."""
    found = security_groups.of_server(req.cloud, req.services, req.caller, req.params["server_id"], _RULE + "list")
    return Response(200, {"security_groups": _groups(req, found)})


def add(req: Request) -> Response:
    """202: the group guards the server's ports."""
    security_groups.join(
        req.cloud, req.services, req.caller, req.params["id"], _RULE + "add", req.body["addSecurityGroup"]["name"]
    )
    return Response(202)


def remove(req: Request) -> Response:
    """202: the group guards them no more."""
    security_groups.leave(
        req.cloud, req.services, req.caller, req.params["id"], _RULE + "remove", req.body["removeSecurityGroup"]["name"]
    )
    return Response(202)


def index(req: Request) -> Response:
    """200 {"security_groups": […]}"""
    everybody = req.ctx.is_admin and req.one("all_tenants") not in (None, "0", "false", "False")
    found = networking.records_of(req.services).find_all(req.ctx, "security-groups") if everybody else None
    if found is None:
        found = networking.mine(req.services, req.ctx, "security-groups")
    start, limit = int(req.one("offset") or 0), req.one("limit")
    found = sorted(found, key=lambda group: (group["project_id"], group["name"]))[start:]
    return Response(200, {"security_groups": _groups(req, found if limit is None else found[: int(limit)])})


def show(req: Request) -> Response:
    """200 {"security_group": {…}}"""
    return Response(
        200, {"security_group": _groups(req, [security_groups.own(req.services, req.ctx, req.params["id"])])[0]}
    )


def create(req: Request) -> Response:
    """200 {"security_group": {…}}"""
    project = req.ctx.project_id
    fields = {**_named(req), "project_id": project, "tenant_id": project}
    made = networking.records_of(req.services).create(req.ctx, "security-groups", fields)
    return Response(200, {"security_group": _groups(req, [made])[0]})


def update(req: Request) -> Response:
    """200 {"security_group": {…}}"""
    group = security_groups.own(req.services, req.ctx, req.params["id"])
    if group["name"] == "default":
        raise Invalid(reason="Unable to update system group 'default'")
    changed = networking.records_of(req.services).change(req.ctx, "security-groups", group["id"], _named(req))
    return Response(200, {"security_group": _groups(req, [changed])[0]})


def delete(req: Request) -> Response:
    """202; 400 while it guards a port."""
    group = security_groups.own(req.services, req.ctx, req.params["id"])
    if group["name"] == "default" or security_groups.in_use(req.services, req.ctx, group):
        raise Invalid(reason=f"Security group {group['name']} is in use.")
    networking.records_of(req.services).delete(req.ctx, "security-groups", group["id"])
    return Response(202)


def rule_create(req: Request) -> Response:
    """200 {"security_group_rule": {…}}: something more is let in."""
    fields = security_groups.rule_from(req.services, req.ctx, _parse_rule(req.body["security_group_rule"]))
    made = networking.records_of(req.services).create(req.ctx, "security-group-rules", fields)
    return Response(200, {"security_group_rule": _rule(made, _names(req, [made]))})


def rule_delete(req: Request) -> Response:
    """202"""
    rule_id = networking.demand_uuid(req.params["id"], "Security group rule")
    if networking.one(req.services, req.ctx, "security-group-rules", rule_id) is None:
        raise NotFound(reason=f"Rule ({rule_id}) not found")
    networking.records_of(req.services).delete(req.ctx, "security-group-rules", rule_id)
    return Response(202)


def _named(req: Request) -> Record:
    body = req.body["security_group"]
    name, description = body["name"], body["description"]
    if not name.strip():
        raise Invalid(reason="Security group name cannot be empty.")
    return {"name": name, "description": description}


def _parse_rule(body: Mapping[str, Any]) -> RuleRequest:
    protocol, cidr = body.get("ip_protocol"), body.get("cidr")
    return RuleRequest(
        body["parent_group_id"],
        protocol=None if protocol is None else str(protocol),
        from_port=_parse_port(body.get("from_port")),
        to_port=_parse_port(body.get("to_port")),
        cidr=str(cidr) if cidr else None,
        group_id=body.get("group_id"),
    )


def _parse_port(value: Any) -> int | str | None:
    """Convert texts that are numbers; leave other texts as they are."""
    try:
        return int(value)
    except (TypeError, ValueError):
        return None if value is None else str(value)


def _groups(req: Request, groups: list[Record]) -> list[dict[str, Any]]:
    names = _names(req, [rule for group in groups for rule in group.get("security_group_rules", ())])
    return [
        {
            "id": group["id"],
            "name": group["name"],
            "description": group.get("description"),
            "tenant_id": group["project_id"],
            "rules": [
                _rule(rule, names) for rule in group.get("security_group_rules", ()) if rule["direction"] == "ingress"
            ],
        }
        for group in groups
    ]


def _names(req: Request, rules: list[Record]) -> dict[str, Record]:
    """The groups that the rules name, by id: one query, however many there are."""
    ids = sorted({rule["remote_group_id"] for rule in rules if rule.get("remote_group_id")})
    if not ids:
        return {}
    return {
        group["id"]: group for group in networking.records_of(req.services).find_all(req.ctx, "security-groups", id=ids)
    }


def _rule(rule: Record, names: dict[str, Record]) -> dict[str, Any]:
    protocol, low, high = rule.get("protocol"), rule.get("port_range_min"), rule.get("port_range_max")
    if protocol and low is None and high is None:
        low, high = (1, 65535) if protocol in ("tcp", "udp") else (-1, -1)
    source = names.get(rule.get("remote_group_id") or "")
    anywhere = "::/0" if rule.get("ethertype") == "IPv6" else "0.0.0.0/0"
    group = {"name": source["name"], "tenant_id": source["project_id"]} if source is not None else {}
    cidr = {} if rule.get("remote_group_id") else {"cidr": rule.get("remote_ip_prefix") or anywhere}
    return {
        "id": rule["id"],
        "parent_group_id": rule["security_group_id"],
        "ip_protocol": protocol,
        "from_port": low,
        "to_port": high,
        "group": group,
        "ip_range": cidr,
    }


def _loose(name: str, properties: dict[str, Any], *required: str) -> Schema:
    """A body with that object, and whatever else."""
    content = {"type": "object", "properties": properties, "required": list(required), "additionalProperties": True}
    return {"type": "object", "properties": {name: content}, "required": [name], "additionalProperties": True}


def _joining(action: str) -> Schema:
    group = {
        "type": "object",
        "properties": {"name": {"type": "string", "minLength": 1}},
        "required": ["name"],
        "additionalProperties": False,
    }
    return {"type": "object", "properties": {action: group}, "required": [action], "additionalProperties": True}


_TEXT: Schema = {"type": "string", "minLength": 0, "maxLength": 255}
GROUP = _loose("security_group", {"name": _TEXT, "description": _TEXT}, "name", "description")
NEW_RULE = _loose(
    "security_group_rule",
    {
        "group_id": {"type": ["string", "null"], "format": "uuid"},
        "parent_group_id": UUID,
        "to_port": {},
        "from_port": {},
        "ip_protocol": {},
        "cidr": {},
    },
    "parent_group_id",
)
LIST = query({"limit": WHOLE, "offset": WHOLE, "all_tenants": {"type": "string"}}, closed=False)

_ACT = "/servers/{id}/action"
ROUTES = (
    Route("GET", "/servers/{server_id}/os-security-groups", of_server, query=NOTHING),
    Route("POST", _ACT, add, action="addSecurityGroup", body=_joining("addSecurityGroup")),
    Route("POST", _ACT, remove, action="removeSecurityGroup", body=_joining("removeSecurityGroup")),
    Route("GET", "/os-security-groups", index, rule=_RULE + "get", query=LIST, max_version=PROXIED),
    Route("POST", "/os-security-groups", create, rule=_RULE + "create", body=GROUP, max_version=PROXIED),
    Route("GET", "/os-security-groups/{id}", show, rule=_RULE + "show", max_version=PROXIED),
    Route("PUT", "/os-security-groups/{id}", update, rule=_RULE + "update", body=GROUP, max_version=PROXIED),
    Route("DELETE", "/os-security-groups/{id}", delete, rule=_RULE + "delete", max_version=PROXIED),
    Route("POST", "/os-security-group-rules", rule_create, rule=_RULE + "rule:create", body=NEW_RULE,
          max_version=PROXIED),
    Route("DELETE", "/os-security-group-rules/{id}", rule_delete, rule=_RULE + "rule:delete", max_version=PROXIED),
)  # fmt: skip
