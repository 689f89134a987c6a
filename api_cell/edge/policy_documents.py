"""An API's rules as oslo.policy documents them: what each allows, and the operations that it guards."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from oslo_policy import policy as oslo

from api_cell.edge.policy import default_of
from api_cell.edge.policy_rules import Rule
from api_cell.edge.route import Route


@dataclass(frozen=True, slots=True)
class Permission:
    """The description of what a rule allows. `inside`: the operations that check the rule themselves; those of routes
    are not here."""

    text: str
    inside: tuple[str, ...] = ()


def permissions(lines: str, prefix: str = "", *, prefixed: tuple[str, ...] = ()) -> dict[str, Permission]:
    """Rule → permission. A line is `rule: what | METHOD path, METHOD path (action)`; the last part may be lacking.

    Names get `prefix` unless they begin with one of `prefixed`.
    """
    found = {}
    for line in lines.strip().splitlines():
        left, _, inside = line.partition(" | ")
        name, _, what = left.partition(": ")
        whole = name if name.startswith(prefixed) else prefix + name
        operations = tuple(each.strip() for each in inside.split(",") if each.strip())
        found[whole] = Permission(f"The caller may {what}.", operations)
    return found


def operation(route: Route) -> str:
    """`METHOD path`, with the action in parentheses: as Nova's policy reference writes it."""
    return f"{route.method} {route.path}" + (f" ({route.action})" if route.action else "")


def guarded(routes: Iterable[Route]) -> dict[str, list[str]]:
    """Each rule that routes check, with their operations in the order of the table."""
    found: dict[str, dict[str, None]] = {}
    for route in routes:
        if route.rule is not None:
            found.setdefault(route.rule, {})[operation(route)] = None
    return {rule: list(operations) for rule, operations in found.items()}


def documented(
    rules: Iterable[Rule],
    routes: Iterable[Route],
    allowed: Mapping[str, Permission],
    others: Mapping[str, str],
) -> Iterator[oslo.RuleDefault]:
    """The rules with their documentation. `others`: texts of the rules that guard no operation."""
    of_routes = guarded(routes)
    for rule in rules:
        plain = default_of(rule)
        if rule.name in others:
            yield oslo.RuleDefault(
                rule.name,
                rule.check,
                others[rule.name],
                deprecated_rule=plain.deprecated_rule,
                scope_types=plain.scope_types,
            )
            continue
        permission = allowed[rule.name]
        operations = (*of_routes.get(rule.name, ()), *permission.inside)
        inside = " The operation checks this rule itself." if permission.inside else ""
        yield oslo.DocumentedRuleDefault(
            rule.name,
            rule.check,
            permission.text + inside,
            [dict(zip(("method", "path"), each.split(" ", 1), strict=True)) for each in operations],
            deprecated_rule=plain.deprecated_rule,
            scope_types=plain.scope_types,
        )
