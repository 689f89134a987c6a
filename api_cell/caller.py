"""The caller of an operation, and what the policy lets them do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from cell_service.context import Context


class PolicyCheck(Protocol):
    """The rules in force. Without a target a rule is checked for what is the caller's own project's."""

    def allows(self, ctx: Context, rule: str, target: Mapping[str, Any] | None = None) -> bool:
        """Whether the caller may do what the rule guards. An unknown rule: no."""

    def demand(self, ctx: Context, rule: str, target: Mapping[str, Any] | None = None) -> None:
        """Raises PolicyForbidden unless the caller may do what the rule guards."""


@dataclass(frozen=True, slots=True)
class Caller:
    """The caller of a request, for functions whose rule depends on what they read: an instance's owner is known only in
    the transaction that changes it."""

    ctx: Context
    policy: PolicyCheck

    def may(self, rule: str, target: Mapping[str, Any] | None = None) -> bool:
        return self.policy.allows(self.ctx, rule, target)

    def demand(self, rule: str, target: Mapping[str, Any] | None = None) -> None:
        """Raises PolicyForbidden."""
        self.policy.demand(self.ctx, rule, target)
