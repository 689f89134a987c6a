"""QoS policies, and what networks, ports and floating addresses say of theirs.

A port that is guaranteed bandwidth or packets shows which resources a host must have for it (`resource_request`), as
the network service publishes it for compute.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid5

from sqlalchemy import Connection

from cell_service.errors import Conflict, Forbidden, NotFound
from tools.companions.network import store
from tools.companions.network.errors import refusal
from tools.companions.network.nouns import Attr, Noun, Record
from tools.companions.network.qos_rules import NOUN as RULE
from tools.companions.network.qos_rules import rules_of
from tools.companions.network.records import Records
from tools.companions.route import CompanionRequest, CompanionRoute

POLICY_ID = "qos_policy_id"
USERS = ("port", "network", "floatingip")
"""The nouns that may have a policy."""
TUNNELLED = "CUSTOM_NETWORK_TUNNEL_PROVIDER"
"""The trait of providers for networks that are on no physical one."""


@dataclass(frozen=True, slots=True)
class Guarantee:
    """The demand of a kind of rule on a host: the field with the amount, and direction → resource class. `on_network`:
    whether the provider must be on the port's network."""

    amount: str
    classes: tuple[tuple[str, str], ...]
    on_network: bool = False


GUARANTEES = {
    "minimum_bandwidth": Guarantee(
        "min_kbps",
        (("egress", "NET_BW_EGR_KILOBIT_PER_SEC"), ("ingress", "NET_BW_IGR_KILOBIT_PER_SEC")),
        on_network=True,
    ),
    "minimum_packet_rate": Guarantee(
        "min_kpps",
        (
            ("any", "NET_PACKET_RATE_KILOPACKET_PER_SEC"),
            ("egress", "NET_PACKET_RATE_EGR_KILOPACKET_PER_SEC"),
            ("ingress", "NET_PACKET_RATE_IGR_KILOPACKET_PER_SEC"),
        ),
    ),
}


def check_use(tx: Connection, req: CompanionRequest, old: Record, values: Record) -> None:
    """Whether a network, a port or a floating address may have the policy that `values` name, and may leave the one of
    `old`. Raises NotFound, Forbidden."""
    if POLICY_ID not in values:
        return
    given, before = values[POLICY_ID] or None, old.get(POLICY_ID)
    values[POLICY_ID] = given
    if given is not None:
        policy = store.find(tx, POLICY.name, given)
        if policy is None or not _accessible(req, policy):
            raise _missing(given)
    if before and before != given:
        policy = store.find(tx, POLICY.name, before)
        if policy is not None and not _accessible(req, policy):
            message = f"Failed to remove provided policy {before} because you are not authorized."
            raise refusal(Forbidden, "PolicyRemoveAuthorizationError", message)


def default_policy(tx: Connection, project_id: str) -> str | None:
    """The policy of new networks of the project that name none."""
    found = store.search(tx, POLICY.name, project_id=[project_id])
    return next((str(policy["id"]) for policy in found if policy["is_default"]), None)


def complete_ports(tx: Connection, ports: list[Record]) -> None:
    """Show on ports the policy of their network, and what a host must have for them."""
    networks = _networks_of(tx, ports)
    for port in ports:
        port["qos_network_policy_id"] = networks.get(port["network_id"], {}).get(POLICY_ID)
    rules = _rules(tx, ports, networks)
    for port in ports:
        network = networks.get(port["network_id"], {})
        port["resource_request"] = resource_request(port, network, rules[port["id"]])


def rules_by_port(tx: Connection, ports: list[Record]) -> dict[str, list[Record]]:
    """Port → the rules that apply to it: those of its own policy, else of its network's."""
    return _rules(tx, ports, _networks_of(tx, ports))


def _networks_of(tx: Connection, ports: list[Record]) -> dict[str, Record]:
    wanted = sorted({port["network_id"] for port in ports})
    return {one["id"]: one for one in store.search(tx, "network", id=wanted)}


def _rules(tx: Connection, ports: list[Record], networks: dict[str, Record]) -> dict[str, list[Record]]:
    applied = {port["id"]: port.get(POLICY_ID) or networks.get(port["network_id"], {}).get(POLICY_ID) for port in ports}
    rules = rules_of(tx, sorted({policy_id for policy_id in applied.values() if policy_id}))
    return {port_id: rules.get(policy_id or "", []) for port_id, policy_id in applied.items()}


def resource_request(port: Record, network: Record, rules: list[Record]) -> Record | None:
    """A group of resources for each kind of guarantee, from providers of one host's subtree; None without any."""
    groups = []
    for kind, guarantee in GUARANTEES.items():
        mine = [rule for rule in rules if rule["type"] == kind]
        if mine:
            classes = dict(guarantee.classes)
            traits = [_network_trait(network)] if guarantee.on_network else []
            groups.append({
                "id": str(uuid5(UUID(port["id"]), "".join(rule["id"] for rule in mine))),
                "required": [*traits, f"CUSTOM_VNIC_TYPE_{_word(port['binding:vnic_type'])}"],
                "resources": {classes[rule["direction"]]: rule[guarantee.amount] for rule in mine},
            })  # fmt: skip
    return {"request_groups": groups, "same_subtree": [group["id"] for group in groups]} if groups else None


def tag_routes(policies: Records) -> tuple[CompanionRoute, ...]:
    """Tags of policies have a path of their own, without the prefix."""
    many, one = "/v2.0/policies/{id}/tags", "/v2.0/policies/{id}/tags/{tag}"
    return (
        CompanionRoute("GET", many, policies.tags),
        CompanionRoute("PUT", many, policies.put_tags),
        CompanionRoute("DELETE", many, policies.clear_tags),
        CompanionRoute("GET", one, policies.tag),
        CompanionRoute("PUT", one, policies.add_tag),
        CompanionRoute("DELETE", one, policies.remove_tag),
    )


def _network_trait(network: Record) -> str:
    physical = network.get("provider:physical_network")
    return f"CUSTOM_PHYSNET_{_word(physical)}" if physical else TUNNELLED


def _word(text: Any) -> str:
    """The text as a part of a trait's name."""
    return re.sub(r"[^A-Z0-9]", "_", str(text).upper())


def _accessible(req: CompanionRequest, policy: Record) -> bool:
    return bool(req.is_admin or policy["shared"] or policy["project_id"] == req.caller.project_id)


def _missing(policy_id: str) -> Exception:
    return refusal(NotFound, "QosPolicyNotFound", f"QoS policy {policy_id} could not be found.")


def _making(tx: Connection, req: CompanionRequest, policy: Record) -> None:
    _demand_admin(req)
    if policy["is_default"]:
        _demand_no_default(tx, policy)


def _changing(tx: Connection, req: CompanionRequest, old: Record, values: Record) -> None:
    _demand_admin(req)
    if values.get("is_default"):
        _demand_no_default(tx, old)
    if values.get("shared") is False:
        for noun, user in _used_by(tx, old["id"]):
            if user["project_id"] != old["project_id"]:
                message = (
                    f"RBAC policy on object {old['id']} cannot be removed because other objects depend on it.\n"
                    f"Details: {noun} {user['id']} of another project uses it"
                )
                raise refusal(Conflict, "RbacPolicyInUse", message)


def _removing(tx: Connection, req: CompanionRequest, policy: Record) -> None:
    _demand_admin(req)
    for noun, user in _used_by(tx, policy["id"]):
        message = f"QoS Policy {policy['id']} is used by {noun} {user['id']}."
        raise refusal(Conflict, "QosPolicyInUse", message)
    for rule in store.search(tx, RULE, parent_id=[policy["id"]]):
        store.remove(tx, rule["id"])


def _used_by(tx: Connection, policy_id: str) -> list[tuple[str, Record]]:
    return [(noun, record) for noun in USERS for record in store.search(tx, noun) if record.get(POLICY_ID) == policy_id]


def _demand_no_default(tx: Connection, policy: Record) -> None:
    if default_policy(tx, policy["project_id"]) not in (None, policy["id"]):
        message = f"A default QoS policy exists for project {policy['project_id']}."
        raise refusal(Conflict, "QoSPolicyDefaultAlreadyExists", message)


def _demand_admin(req: CompanionRequest) -> None:
    """Raises Forbidden: policies are made by administrators, by the published default rules."""
    if not req.is_admin:
        raise refusal(Forbidden, "PolicyNotAuthorized", "This is disallowed by policy.")


def _complete(tx: Connection, policies: list[Record]) -> None:
    rules = rules_of(tx, [policy["id"] for policy in policies])
    for policy in policies:
        policy["rules"] = rules[policy["id"]]


POLICY = Noun(
    "qos_policy",
    {
        "name": Attr(),
        "description": Attr("text?", ""),
        "shared": Attr("bool", False),
        "is_default": Attr("bool", False),
        "rules": Attr("entries", [], computed=True),
    },
    "qos/policies",
    key="policy",
    many="policies",
    making=_making,
    changing=_changing,
    removing=_removing,
    complete=_complete,
)
