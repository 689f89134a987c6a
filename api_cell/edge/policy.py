"""What callers may do: Nova's rule names and defaults through oslo.policy, with the operator's policy.yaml over them.

Most rules depend only on the caller's roles and on whether the target is the caller's own; such decisions are
remembered until the file changes. A rule that depends on anything else is evaluated again each time.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from oslo_config import cfg
from oslo_policy import _checks as checks
from oslo_policy import policy as oslo

from api_cell.config import PolicySection
from cell_service.context import Context
from cell_service.errors import PolicyForbidden

log = logging.getLogger(__name__)

RELOAD_SECONDS = 1.0
ADMIN = "context_is_admin"
_OWN = {("project_id", "%(project_id)s"), ("user_id", "%(user_id)s")}
_MANY = 50_000


@dataclass(frozen=True, slots=True)
class Rule:
    """A default. `scope`: the kinds of token that may use it at all (none: any kind)."""

    name: str
    check: str
    scope: tuple[str, ...] = ("project",)


class Policy:
    """Defaults and overrides. Thread-safe. When a file can't be read the last good rules stay in force."""

    def __init__(self, rules: Sequence[Rule], section: PolicySection | None = None) -> None:
        section = section or PolicySection()
        conf = cfg.ConfigOpts()
        conf(args=[], project="nova", prog="polycell", default_config_files=[], default_config_dirs=[])
        self._file = Path(section.policy_file) if section.policy_file else None
        self._enforcer: Any = oslo.Enforcer(conf, use_conf=False)
        self._enforcer.suppress_deprecation_warnings = True
        for rule in rules:
            scope = list(rule.scope) if section.enforce_scope and rule.scope else None
            self._enforcer.register_default(oslo.RuleDefault(rule.name, rule.check, scope_types=scope))
        self._lock = threading.Lock()
        self._checked_at = float("-inf")
        self._seen: tuple[int, int] | None = None
        self._decided: dict[tuple[Any, ...], bool] = {}
        self._simple: dict[str, bool] = {}
        self._install({})

    def is_admin(self, roles: Sequence[str]) -> bool:
        """Whether a caller with these roles is an administrator."""
        return self.allows(Context(request_id="", roles=tuple(roles)), ADMIN, {})

    def allows(self, ctx: Context, rule: str, target: Mapping[str, Any] | None = None) -> bool:
        """Whether the caller may; without a target, with what is their own project's. An unknown rule: no."""
        self._refresh()
        own_project = target is None or target.get("project_id") == ctx.project_id
        own_user = target is None or target.get("user_id") == ctx.user_id
        scope = ctx.system_scope, ctx.domain_scope, bool(ctx.project_id)
        key = (rule, ctx.roles, ctx.is_admin, own_project, own_user, *scope)
        known = self._decided.get(key)
        if known is not None:
            return known
        answer = self._ask(ctx, rule, target)
        if self._is_simple(rule):
            if len(self._decided) >= _MANY:
                self._decided.clear()
            self._decided[key] = answer
        return answer

    def demand(self, ctx: Context, rule: str, target: Mapping[str, Any] | None = None) -> None:
        """Raises PolicyForbidden unless `allows`."""
        if not self.allows(ctx, rule, target):
            raise PolicyForbidden(rule=rule)

    def _ask(self, ctx: Context, rule: str, target: Mapping[str, Any] | None) -> bool:
        credentials = {
            "roles": list(ctx.roles),
            "project_id": ctx.project_id,
            "user_id": ctx.user_id,
            "user_domain_id": ctx.user_domain_id,
            "project_domain_id": ctx.project_domain_id,
            "is_admin": ctx.is_admin,
            "domain_id": ctx.domain_scope or None,
            "system": ctx.system_scope or None,
            "system_scope": ctx.system_scope or None,
            "service_roles": list(ctx.service_roles),
        }
        own = {"project_id": ctx.project_id, "user_id": ctx.user_id}
        with self._lock:
            return bool(self._enforcer.enforce(rule, dict(own if target is None else target), credentials))

    def _is_simple(self, rule: str) -> bool:
        if rule not in self._simple:
            self._simple[rule] = _depends_on_caller_only(self._enforcer.rules, rule, set())
        return self._simple[rule]

    def _refresh(self) -> None:
        """Read the file again if it changed; at most once a second."""
        if self._file is None or time.monotonic() - self._checked_at < RELOAD_SECONDS:
            return
        with self._lock:
            self._checked_at = time.monotonic()
            seen = _fingerprint(self._file)
            if seen == self._seen:
                return
            self._seen = seen
            try:
                self._install({} if seen is None else _overrides(self._file))
            except (OSError, ValueError, yaml.YAMLError) as error:
                log.error("policy file can't be read, the last rules stay file=%s reason=%s", self._file, error)

    def _install(self, overrides: Mapping[str, str]) -> None:
        rules = oslo.Rules.from_dict(dict(overrides))
        for default in self._enforcer.registered_rules.values():
            rules.setdefault(default.name, default.check)
        self._enforcer.set_rules(rules, overwrite=True, use_conf=False)
        self._decided.clear()
        self._simple.clear()


def _overrides(file: Path) -> dict[str, str]:
    """Rule → check. Raises ValueError, OSError or YAMLError."""
    found = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
    if not isinstance(found, dict):
        raise ValueError("a policy file maps rule names to checks")
    return {str(name): str(check) for name, check in found.items()}


def _fingerprint(file: Path) -> tuple[int, int] | None:
    try:
        stat = file.stat()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size


def _depends_on_caller_only(rules: Mapping[str, Any], name: str, seen: set[str]) -> bool:
    """Whether the rule depends only on roles, administration, and whether the target is the caller's own."""
    if name in seen:
        return False
    return name in rules and _caller_only(rules, rules[name], seen | {name})


def _caller_only(rules: Mapping[str, Any], check: Any, seen: set[str]) -> bool:
    if isinstance(check, (checks.TrueCheck, checks.FalseCheck)):
        return True
    if isinstance(check, checks.RoleCheck):
        return "%(" not in check.match
    if isinstance(check, checks.RuleCheck):
        return _depends_on_caller_only(rules, check.match, seen)
    if isinstance(check, checks.NotCheck):
        return _caller_only(rules, check.rule, seen)
    if isinstance(check, (checks.AndCheck, checks.OrCheck)):
        return all(_caller_only(rules, part, seen) for part in check.rules)
    if type(check) is checks.GenericCheck:
        return (check.kind, check.match) in _OWN or check.kind == "is_admin"
    return False
