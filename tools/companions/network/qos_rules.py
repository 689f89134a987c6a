"""Rules of QoS policies, and what kinds of them there are. Where packets are moved, ports are limited and their packets
marked (wiring/spoofing.py); no minimum is guaranteed anywhere."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from sqlalchemy import Connection

from api_cell.edge.route import Schema
from api_cell.edge.schema import Validator
from cell_service.db.sql.engine import Database
from cell_service.errors import Conflict, Forbidden, Invalid, NotFound
from cell_service.http.response import Response
from tools.companions.network import lists, store
from tools.companions.network.errors import bad, refusal
from tools.companions.network.nouns import Record
from tools.companions.network.records import Records, fields_shown
from tools.companions.route import CompanionRequest, CompanionRoute

NOUN = "qos_rule"
LARGEST = 2**31 - 1
DSCP_MARKS = (0, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30, 32, 34, 36, 38, 40, 46, 48, 56)
ANY, EGRESS, INGRESS = "any", "egress", "ingress"


@dataclass(frozen=True, slots=True)
class RuleKind:
    """`amount`: the field that must be given. `optional`: the other fields, with their defaults. `directions`: empty
    where a policy has one such rule only."""

    name: str
    amount: str
    values: tuple[int, ...] = ()
    """The amounts that are allowed; empty: any number that a database keeps."""
    optional: tuple[tuple[str, int], ...] = ()
    directions: tuple[str, ...] = ()

    @property
    def defaults(self) -> Record:
        return dict(self.optional) | ({"direction": EGRESS} if self.directions else {})

    @property
    def schemas(self) -> dict[str, Schema]:
        number: Schema = {"type": "integer", "minimum": 0, "maximum": LARGEST}
        found: dict[str, Schema] = {name: number for name, _ in self.optional}
        found[self.amount] = {"type": "integer", "enum": list(self.values)} if self.values else number
        if self.directions:
            found["direction"] = {"type": "string", "enum": list(self.directions)}
        return found

    @property
    def parameters(self) -> list[Record]:
        """The parameters, as the details of a rule type show them."""
        span = {"start": 0, "end": LARGEST}
        shown: list[tuple[str, str, Any]] = [(name, "range", span) for name, _ in self.optional]
        amount = ("choices", list(self.values)) if self.values else ("range", span)
        shown.insert(0, (self.amount, *amount))
        if self.directions:
            shown.append(("direction", "choices", list(self.directions)))
        names = ("parameter_name", "parameter_type", "parameter_values")
        return [dict(zip(names, one, strict=True)) for one in shown]


KINDS = {
    kind.name: kind
    for kind in (
        RuleKind("bandwidth_limit", "max_kbps", (), (("max_burst_kbps", 0),), (EGRESS, INGRESS)),
        RuleKind("dscp_marking", "dscp_mark", DSCP_MARKS),
        RuleKind("minimum_bandwidth", "min_kbps", directions=(EGRESS, INGRESS)),
        RuleKind("minimum_packet_rate", "min_kpps", directions=(ANY, EGRESS, INGRESS)),
    )
}


class Rules:
    """The handlers of rules and of rule types. `policies`: who may see a policy may see its rules."""

    def __init__(self, db: Database, policies: Records) -> None:
        self._db, self._policies = db, policies

    def routes(self) -> tuple[CompanionRoute, ...]:
        found = [
            CompanionRoute("GET", "/v2.0/qos/rule-types", self.types),
            CompanionRoute("GET", "/v2.0/qos/rule-types/{type}", self.type),
        ]
        for kind in KINDS.values():
            many = f"/v2.0/qos/policies/{{policy}}/{kind.name}_rules"
            alias = f"/v2.0/qos/alias-{kind.name.replace('_', '-')}-rules/{{id}}"
            found += [
                CompanionRoute("GET", many, partial(self.index, kind)),
                CompanionRoute("POST", many, partial(self.create, kind)),
            ]
            for path, key in ((f"{many}/{{id}}", f"{kind.name}_rule"), (alias, f"alias_{kind.name}_rule")):
                found += [
                    CompanionRoute("GET", path, partial(self.show, kind, key)),
                    CompanionRoute("PUT", path, partial(self.change, kind, key)),
                    CompanionRoute("DELETE", path, partial(self.delete, kind)),
                ]
        return tuple(found)

    def types(self, req: CompanionRequest) -> Response:
        """The types of rules, also where those that every driver supports, or any, are requested: there is one
        driver."""
        _demand_admin(req)
        names = req.query.get("fields", [])
        wanted = req.query.get("type", list(KINDS))
        return Response(200, {"rule_types": [fields_shown({"type": name}, names) for name in KINDS if name in wanted]})

    def type(self, req: CompanionRequest) -> Response:
        _demand_admin(req)
        kind = KINDS.get(req.params["type"])
        if kind is None:
            message = f"QoS rule type {req.params['type']} could not be found."
            raise refusal(NotFound, "QosRuleTypeNotFound", message)
        drivers = [{"name": "bridges", "supported_parameters": kind.parameters}]
        return Response(200, {"rule_type": {"type": kind.name, "drivers": drivers}})

    def index(self, kind: RuleKind, req: CompanionRequest) -> Response:
        with self._db.connect() as tx:
            policy = self._policies.visible(tx, req, req.params["policy"])
        shown = [_view(kind, rule) for rule in policy["rules"] if rule["type"] == kind.name]
        page, links = lists.page(req, lists.in_order(req, [one for one in shown if lists.fits(one, req.query)]))
        many = f"{kind.name}_rules"
        body: Record = {many: [fields_shown(one, req.query.get("fields", [])) for one in page]}
        return Response(200, {**body, **({f"{many}_links": links} if links else {})})

    def show(self, kind: RuleKind, key: str, req: CompanionRequest) -> Response:
        with self._db.connect() as tx:
            rule = self._find(tx, req, kind)
        return Response(200, {key: fields_shown(_view(kind, rule), req.query.get("fields", []))})

    def create(self, kind: RuleKind, req: CompanionRequest) -> Response:
        key = f"{kind.name}_rule"
        given = req.content(key)

        def work(tx: Connection) -> Record:
            policy = self._policies.visible(tx, req, req.params["policy"])
            _demand_admin(req)
            _check(kind, given)
            if kind.amount not in given:
                message = f"Failed to parse request. Required attribute '{kind.amount}' not specified"
                raise bad(message, "HTTPBadRequest")
            rule = {**kind.defaults, **given, "id": store.new_id(), "type": kind.name}
            _demand_fit(policy, rule)
            kept = {"parent_id": policy["id"], "project_id": policy["project_id"], "tags": []}
            store.add(tx, NOUN, rule | kept)
            self._revise(tx, policy)
            return rule

        return Response(201, {key: _view(kind, self._written(work))})

    def change(self, kind: RuleKind, key: str, req: CompanionRequest) -> Response:
        given = req.content(key)

        def work(tx: Connection) -> Record:
            rule = self._find(tx, req, kind)
            _demand_admin(req)
            _check(kind, given)
            policy = self._policies.visible(tx, req, rule["parent_id"])
            _demand_fit(policy, rule | given)
            store.change(tx, rule, given)
            self._revise(tx, policy)
            return rule | given

        return Response(200, {key: _view(kind, self._written(work))})

    def delete(self, kind: RuleKind, req: CompanionRequest) -> Response:
        def work(tx: Connection) -> Record:
            rule = self._find(tx, req, kind)
            _demand_admin(req)
            store.remove(tx, rule["id"])
            self._revise(tx, self._policies.visible(tx, req, rule["parent_id"]))
            return rule

        self._written(work)
        return Response(204)

    def _written(self, work: Callable[[Connection], Record]) -> Record:
        """Do the work, and then what follows a write of the policy."""
        rule = self._db.run(work)
        self._policies.noun.written([])
        return rule

    def _find(self, tx: Connection, req: CompanionRequest, kind: RuleKind) -> Record:
        """The rule in the path, of that kind and of the policy in the path if there is one. Raises NotFound."""
        rule = store.find(tx, NOUN, req.params["id"])
        policy_id = req.params.get("policy", rule["parent_id"] if rule else "")
        if "policy" in req.params:
            self._policies.visible(tx, req, policy_id)
        if rule is None or rule["type"] != kind.name or rule["parent_id"] != policy_id:
            message = f"QoS rule {req.params['id']} for policy {policy_id} could not be found."
            raise refusal(NotFound, "QosRuleNotFound", message)
        self._policies.visible(tx, req, policy_id)
        return rule

    def _revise(self, tx: Connection, policy: Record) -> None:
        """Raise the revision of a policy whose rules have changed."""
        found = store.find(tx, self._policies.noun.name, policy["id"])
        if found is not None:
            store.change(tx, found, {})


def rules_of(tx: Connection, policy_ids: list[str]) -> dict[str, list[Record]]:
    """Policy → its rules, as a policy shows them."""
    found: dict[str, list[Record]] = {policy_id: [] for policy_id in policy_ids}
    for rule in store.search(tx, NOUN, parent_id=policy_ids) if policy_ids else ():
        policy_id = rule["parent_id"]
        shown = {"qos_policy_id": policy_id, "type": rule["type"], **_view(KINDS[rule["type"]], rule)}
        found[policy_id].append(shown)
    return found


def _view(kind: RuleKind, rule: Record) -> Record:
    return {name: rule[name] for name in ("id", kind.amount, *kind.defaults)}


def _demand_admin(req: CompanionRequest) -> None:
    """Raises Forbidden: rules and their types are for administrators, by the published default rules."""
    if not req.is_admin:
        raise refusal(Forbidden, "PolicyNotAuthorized", "This is disallowed by policy.")


def _check(kind: RuleKind, given: Record) -> None:
    """Raises Invalid unless the values fit. Numbers in text are numbers."""
    schemas = kind.schemas
    for name, value in given.items():
        if name not in schemas:
            raise bad(f"Unrecognized attribute(s) '{name}'", "HTTPBadRequest")
        if isinstance(value, str) and name != "direction" and value.isdecimal() and len(value) < 20:
            given[name] = int(value)
        try:
            Validator.of(schemas[name]).check(given[name])
        except Invalid as error:
            raise bad(f"Invalid input for {name}. Reason: {error}.", "HTTPBadRequest") from None


def _demand_fit(policy: Record, rule: Record) -> None:
    """Raises Conflict when the policy has another rule that contradicts this one."""
    for other in policy["rules"]:
        if other["id"] == rule["id"]:
            continue
        directions = {other.get("direction"), rule.get("direction")}
        if other["type"] == rule["type"] and (len(directions) == 1 or ANY in directions):
            message = (
                f"Rule {rule['type']} conflicts with rule {other['id']} which already exists in QoS Policy "
                f"{policy['id']}."
            )
            raise refusal(Conflict, "QoSRulesConflict", message)
        for least, most in ((rule, other), (other, rule)):
            if (least["type"], most["type"]) == ("minimum_bandwidth", "bandwidth_limit") and len(directions) == 1:
                _demand_order(policy, rule, other, most["max_kbps"] >= least["min_kbps"])


def _demand_order(policy: Record, rule: Record, other: Record, fits: bool) -> None:
    if not fits:
        amount: Callable[[Record], Any] = lambda one: one[KINDS[one["type"]].amount]  # noqa: E731
        message = (
            f"Unable to add the rule with value {amount(rule)} to the policy {policy['id']} as the existing rule of "
            f"type {other['type']} restricts the bandwidth to {amount(other)}"
        )
        raise refusal(Conflict, "QoSRuleParameterConflict", message)
