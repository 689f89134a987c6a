"""The Placement API's rules: an administrator or a service may, and no other caller unless policy.yaml says so."""

from __future__ import annotations

from api_cell.edge.policy_rules import Rule
from api_cell.placement.routes import ROUTES

RULES: tuple[Rule, ...] = (
    Rule("context_is_admin", "role:admin", scope=()),
    Rule("admin_or_service_api", "role:admin or role:service", scope=()),
    *(
        Rule(name, "rule:admin_or_service_api", scope=())
        for name in sorted({route.rule for route in ROUTES if route.rule is not None})
    ),
)


def judges(name: str) -> bool:
    """Whether a name that is none of RULES is a mistake: the file may be the Compute API's as well."""
    return name.startswith("placement:")
