"""A flavor's request groups, as placement's API has them: what one provider, or the tree of one host, must give.

`resources:CLASS` and `trait:NAME` are of the unnumbered group, which all providers of a tree may serve together; so are
the flavor's sizes, of the classes that no group names. `resourcesS:CLASS` and `traitS:NAME` are of the group with the
suffix S, which one provider serves alone. `group_policy=isolate`: each such group by another provider. Without
`group_policy` groups may share one, as with `none`. `same_subtree=S,T`: one of the groups' providers is above the
others.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from cell_service.errors import Invalid
from cell_service.model import demand
from cell_service.model.instance import Flavor

_TRAIT = re.compile(r"trait(?P<suffix>[a-zA-Z0-9_-]{0,64}):(?P<name>[A-Z0-9_]+)")


@dataclass(frozen=True, slots=True)
class RequestGroup:
    """Resource class → amount, none of them 0, and traits."""

    resources: Mapping[str, int] = field(default_factory=dict)
    required: frozenset[str] = frozenset()
    forbidden: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class RequestGroups:
    """`numbered`: by suffix. `same_subtree`: sets of suffixes."""

    unnumbered: RequestGroup
    numbered: Mapping[str, RequestGroup] = field(default_factory=dict)
    isolate: bool = False
    same_subtree: tuple[frozenset[str], ...] = ()


NO_GROUPS = RequestGroups(RequestGroup())


def groups_of(flavor: Flavor, *, volume_backed: bool) -> RequestGroups:
    """The groups that a flavor's extra specs and sizes come to.

    Raises Invalid for a strange amount, policy or suffix, a trait that is neither required nor forbidden, and a group
    without resources that `same_subtree` does not name.
    """
    if not flavor.extra_specs:
        return RequestGroups(RequestGroup(demand.of_flavor(flavor, volume_backed=volume_backed)))
    demand.check_amounts(flavor)
    sums, named = demand.of_flavor(flavor, volume_backed=volume_backed), demand.by_suffix(flavor)
    required, forbidden = _traits(flavor)
    suffixes = {suffix for suffix in (*named, *required, *forbidden) if suffix}
    if not suffixes and not flavor.extra_specs.keys() & {"group_policy", "same_subtree"}:
        return RequestGroups(RequestGroup(sums, _of(required, ""), _of(forbidden, "")))
    found = {
        suffix: RequestGroup(
            {name: amount for name, amount in named.get(suffix, {}).items() if amount},
            _of(required, suffix),
            _of(forbidden, suffix),
        )
        for suffix in sorted(suffixes)
    }
    numbered = {suffix: group for suffix, group in found.items() if group != RequestGroup()}
    others = [name for amounts in (group.resources for group in numbered.values()) for name in amounts]
    unnumbered = {name: amount for name, amount in sums.items() if name not in others} | {
        name: amount for name, amount in named.get("", {}).items() if amount
    }
    subtree = _subtree(flavor, numbered)
    for suffix in sorted(numbered):
        if not numbered[suffix].resources and suffix not in subtree:
            raise Invalid(reason=f"Flavor extra specs have traits for request group {suffix}, but no resources.")
    return RequestGroups(
        RequestGroup(unnumbered, _of(required, ""), _of(forbidden, "")),
        numbered,
        isolate=_isolates(flavor),
        same_subtree=(subtree,) if subtree else (),
    )


def check(flavor: Flavor) -> None:
    """Raises Invalid for request groups that are ill-formed."""
    groups_of(flavor, volume_backed=False)


def _of(traits: Mapping[str, Iterable[str]], suffix: str) -> frozenset[str]:
    return frozenset(traits.get(suffix, ()))


def _traits(flavor: Flavor) -> tuple[dict[str, set[str]], dict[str, set[str]]]:
    """The required and the forbidden traits, by suffix."""
    required: dict[str, set[str]] = {}
    forbidden: dict[str, set[str]] = {}
    for key, value in flavor.extra_specs.items():
        match = _TRAIT.fullmatch(key)
        if match is None:
            continue
        if value not in ("required", "forbidden"):
            raise Invalid(reason=f"Invalid value in flavor extra spec {key}: {value} is not required or forbidden")
        (required if value == "required" else forbidden).setdefault(match["suffix"], set()).add(match["name"])
    return required, forbidden


def _isolates(flavor: Flavor) -> bool:
    policy = flavor.extra_specs.get("group_policy", "none")
    if policy not in ("none", "isolate"):
        raise Invalid(reason=f"Invalid value in flavor extra spec group_policy: {policy} is not none or isolate")
    return policy == "isolate"


def _subtree(flavor: Flavor, numbered: Mapping[str, RequestGroup]) -> frozenset[str]:
    value = flavor.extra_specs.get("same_subtree")
    if value is None:
        return frozenset()
    suffixes = frozenset(part.strip() for part in value.split(","))
    if strange := sorted(suffixes - numbered.keys()):
        raise Invalid(
            reason=f"Invalid value in flavor extra spec same_subtree: {', '.join(strange)} is no request group"
        )
    return suffixes
