"""The Placement API's rules, by placement's names and defaults: an administrator or a service may, with a token of a
project; projects see what they use; services alone reshape. policy.yaml may say otherwise."""

from __future__ import annotations

from api_cell.edge.policy_rules import Former, Rule
from api_cell.placement.candidates import RULE_OF_USAGES
from api_cell.placement.routes import ROUTES

_FORMER = Former("rule:admin_api", "role:admin")
_CHECKS = {
    RULE_OF_USAGES: "rule:admin_or_project_reader_or_service_api",
    "placement:reshaper:reshape": "rule:service_api",
}
RULES: tuple[Rule, ...] = (
    Rule("context_is_admin", "role:admin"),
    Rule("admin_api", "role:admin"),
    Rule("service_api", "role:service", former=_FORMER),
    Rule("admin_or_service_api", "role:admin or role:service", former=_FORMER),
    Rule("project_reader_api", "role:reader and project_id:%(project_id)s", scope=(), former=_FORMER),
    Rule(
        "admin_or_project_reader_or_service_api",
        "role:admin or rule:project_reader_api or role:service",
        former=_FORMER,
    ),
    *(
        Rule(name, _CHECKS.get(name, "rule:admin_or_service_api"))
        for name in sorted({RULE_OF_USAGES} | {route.rule for route in ROUTES if route.rule is not None})
    ),
)


def judges(name: str) -> bool:
    """Whether a name that is none of RULES is a mistake: the file may be the Compute API's as well."""
    return name.startswith("placement:")
