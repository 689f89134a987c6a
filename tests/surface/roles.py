"""Callers of every kind, and what the published rules say of each."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from typing import Any

from oslo_config import cfg
from oslo_policy import policy as oslo

from api_cell.edge.auth import Identity
from cell_service.errors import Unauthenticated
from tests.edge import reference
from tests.surface.world import Row

PROJECT = "admin-project"
ROLES = {
    "admin": ("admin", "manager", "member", "reader"),
    "manager": ("manager", "member", "reader"),
    "member": ("member", "reader"),
    "reader": ("reader",),
    "service": ("service",),
    "stranger": ("manager", "member", "reader"),
    "nobody": (),
}
"""Who asks, and with which roles. The stranger has theirs in another project."""


class RoleAuth:
    """The token is the name of one of ROLES."""

    challenge = 'Keystone uri=""'

    def authenticate(self, token: str, service_token: str | None) -> Identity:
        if token not in ROLES:
            raise Unauthenticated()
        return Identity(f"{token}-user", "elsewhere" if token == "stranger" else PROJECT, ROLES[token])


def verdicts(row: Row, who: str) -> set[bool]:
    """What the rules that may refuse this row say of a caller who asks about a thing of PROJECT."""
    rules = [policy["rule"] for policy in row.data["policies"] if policy["effect"] == "deny"]
    return {allowed(rule, who) for rule in rules}


def allowed(rule: str, who: str) -> bool:
    """What a published rule says of a caller, about a thing of PROJECT that is the admin's own."""
    own = "elsewhere" if who == "stranger" else PROJECT
    credentials: dict[str, Any] = {"roles": list(ROLES[who]), "project_id": own, "user_id": f"{who}-user"}
    credentials["is_admin"] = who == "admin"
    return bool(_enforce()(rule, {"project_id": PROJECT, "user_id": "admin"}, credentials))


@cache
def _enforce() -> Callable[..., Any]:
    conf = cfg.ConfigOpts()
    conf(args=[], project="nova", default_config_files=[], default_config_dirs=[])
    enforcer: Any = oslo.Enforcer(conf, use_conf=False)
    published = json.loads((reference.FOLDER / "policies.json").read_text())
    enforcer.set_rules(oslo.Rules.from_dict({row["rule"]: row["check_str"] for row in published}), use_conf=False)
    enforce: Callable[..., Any] = enforcer.enforce
    return enforce
