"""The rights of callers: Nova's rule names and defaults through oslo.policy, with the operator's files over them.

Most rules depend only on the caller's roles and on whether the target is the caller's own; such decisions are
remembered until a file changes. A rule that depends on anything else is evaluated again each time.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from oslo_config import cfg
from oslo_policy import _checks as checks
from oslo_policy import policy as oslo

from api_cell.config import PolicySection
from api_cell.edge.policy_files import PolicyFiles
from api_cell.edge.policy_rules import (
    Rule,
    circular,
    deprecated_names,
    undefined_references,
    unknown_names,
)
from cell_service.context import Context
from cell_service.errors import Invalid, PolicyForbidden

log = logging.getLogger(__name__)

RELOAD_SECONDS = 1.0
ADMIN = "context_is_admin"
_OWN = {("project_id", "%(project_id)s"), ("user_id", "%(user_id)s")}
_MANY = 50_000


class Policy:
    """Defaults and overrides. Thread-safe. When a file can't be read the last good rules stay in force.

    A deprecated name in the file sets the rules that took its place, as oslo.policy's deprecated rules do. `judges`
    says of which names the API may say that they are unknown: a file may have another API's too. Raises Invalid when
    there is a file that can't be read at the start: the defaults may allow what it forbids.
    """

    def __init__(
        self,
        rules: Sequence[Rule],
        section: PolicySection | None = None,
        *,
        judges: Callable[[str], bool] = lambda name: True,
    ) -> None:
        section = section or PolicySection()
        conf = cfg.ConfigOpts()
        conf(args=[], project="nova", prog="polycell", default_config_files=[], default_config_dirs=[])
        self._rules = tuple(rules)
        self._judges = judges
        self._files = PolicyFiles.of(section.policy_file, section.policy_dirs)
        self._enforcer: Any = oslo.Enforcer(conf, use_conf=False)
        conf.set_override("enforce_new_defaults", section.enforce_new_defaults, group="oslo_policy")
        self._enforcer.suppress_deprecation_warnings = True
        for rule in rules:
            self._enforcer.register_default(default_of(rule, scoped=section.enforce_scope))
        self._lock = threading.Lock()
        self._checked_at = float("-inf")
        self._seen: tuple[tuple[str, int, int], ...] = ()
        self._decided: dict[tuple[Any, ...], bool] = {}
        self._simple: dict[str, bool] = {}
        self._install({})
        try:
            self._reread()
        except (OSError, ValueError) as error:
            raise Invalid(reason=f"policy files {self._files.shown} can't be read: {error}") from error

    def demand_known(self, rules: Iterable[str]) -> None:
        """Raises Invalid for rules that there are not: whatever they guard would be forbidden to all."""
        unknown = sorted(set(rules) - {rule.name for rule in self._rules})
        if unknown:
            raise Invalid(reason=f"no such policy rule: {', '.join(unknown)}")

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
        """Read the files again if one has changed; at most once a second."""
        if time.monotonic() - self._checked_at < RELOAD_SECONDS:
            return
        try:
            self._reread()
        except (OSError, ValueError) as error:
            log.error("policy files can't be read, the last rules stay files=%s reason=%s", self._files.shown, error)

    def _reread(self) -> None:
        with self._lock:
            self._checked_at = time.monotonic()
            seen = self._files.fingerprint()
            if seen == self._seen:
                return
            self._seen = seen
            self._install(self._files.read())

    def _install(self, overrides: Mapping[str, str]) -> None:
        rules = oslo.Rules.from_dict(dict(overrides))
        self._enforcer.file_rules = {name: oslo.RuleDefault(name, check) for name, check in overrides.items()}
        for name, default in self._enforcer.registered_rules.items():
            if name not in rules:
                former = default.deprecated_rule
                rules[name] = self._enforcer._handle_deprecated_rule(default) if former else default.check
        for name in circular(rules):
            log.error("policy rule refers to itself and refuses files=%s rule=%s", self._files.shown, name)
            rules[name] = checks.FalseCheck()
        for name, lacking in undefined_references(rules).items():
            log.error("policy rule refers to none files=%s rule=%s to=%s", self._files.shown, name, ",".join(lacking))
        self._enforcer.set_rules(rules, overwrite=True, use_conf=False)
        for name, successors in deprecated_names(self._rules, overrides).items():
            log.warning(
                "policy name is deprecated files=%s name=%s instead=%s",
                self._files.shown,
                name,
                ",".join(sorted(successors)),
            )
        for name in unknown_names(self._rules, overrides):
            if self._judges(name):
                log.warning("policy name is unknown and has no effect files=%s name=%s", self._files.shown, name)
        self._decided.clear()
        self._simple.clear()


def default_of(rule: Rule, *, scoped: bool = True) -> oslo.RuleDefault:
    """The rule as oslo.policy has it; `scoped`: tokens of another scope than the rule's are refused."""
    former = rule.former and oslo.DeprecatedRule(
        rule.former.name,
        rule.former.check,
        deprecated_reason="Finer rules have taken its place.",
        deprecated_since="an earlier API",
    )
    scope = list(rule.scope) if scoped and rule.scope else None
    return oslo.RuleDefault(rule.name, rule.check, scope_types=scope, deprecated_rule=former)


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
