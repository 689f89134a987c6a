"""The rules of an API as data, and what is wrong with an operator's file over them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from oslo_policy import _checks as checks
from oslo_policy import _parser as parser


@dataclass(frozen=True, slots=True)
class Former:
    """The name and the default that a rule had before."""

    name: str
    check: str


@dataclass(frozen=True, slots=True)
class Rule:
    """A default. `scope`: the kinds of token that may use it at all (none: any kind)."""

    name: str
    check: str
    scope: tuple[str, ...] = ("project",)
    former: Former | None = None


def read_overrides(file: Path) -> dict[str, str]:
    """Rule → check. Raises ValueError, OSError or YAMLError."""
    found = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
    if not isinstance(found, dict):
        raise ValueError("a policy file maps rule names to checks")
    return {str(name): str(check) for name, check in found.items()}


def deprecated_names(rules: Iterable[Rule], overrides: Mapping[str, str]) -> dict[str, list[str]]:
    """The file's deprecated names, each with the rules that took its place and that it therefore sets."""
    found: dict[str, list[str]] = {}
    for rule in rules:
        before = rule.former.name if rule.former else rule.name
        if before in overrides and rule.name not in overrides:
            found.setdefault(before, []).append(rule.name)
    return found


def unknown_names(rules: Iterable[Rule], overrides: Mapping[str, str]) -> list[str]:
    """The file's names that are no rule, no deprecated name, and that no check in the file refers to."""
    known = {name for text in overrides.values() for name in references(parser.parse_rule(text))}
    for rule in rules:
        known |= {rule.name} | ({rule.former.name} if rule.former else set())
    return sorted(overrides.keys() - known)


def undefined_references(found: Mapping[str, Any]) -> dict[str, list[str]]:
    """Each rule that refers to rules that are none, with their names. `found`: name → parsed check."""
    lacking = {name: sorted(set(references(check)) - found.keys()) for name, check in found.items()}
    return {name: names for name, names in lacking.items() if names}


def circular(found: Mapping[str, Any]) -> list[str]:
    """The rules that refer to themselves, whether directly or through others. `found`: name → parsed check."""
    edges = {name: set(references(check)) & found.keys() for name, check in found.items()}
    return sorted(name for name in edges if name in _reachable(edges, name))


def _reachable(edges: Mapping[str, set[str]], start: str) -> set[str]:
    reached: set[str] = set()
    ahead = set(edges[start])
    while ahead:
        name = ahead.pop()
        reached.add(name)
        ahead |= edges[name] - reached
    return reached


def references(check: Any) -> Iterator[str]:
    """The names of the rules that a parsed check refers to."""
    if isinstance(check, checks.RuleCheck):
        yield check.match
    elif isinstance(check, checks.NotCheck):
        yield from references(check.rule)
    elif isinstance(check, (checks.AndCheck, checks.OrCheck)):
        for part in check.rules:
            yield from references(part)
