"""Fitting a request to one host's providers, by the rules of `/allocation_candidates`: pure.

A host that one provider serves, and a request that names no numbered groups, need none of this: see
`requirements.Headroom`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from api_cell.scheduler.hosts import HostState
from api_cell.scheduler.request_view import RequestView
from api_cell.scheduler.trees import Member, Tree
from mapping_db.placement.inventories import Inventory
from mapping_db.placement.search import ProviderQuery
from mapping_db.placement.ways import CandidateRequest, Way, Ways

Allocations = dict[str, dict[str, int]]
"""Provider uuid → resource class → amount."""


def needs_tree(host: HostState, request: RequestView) -> bool:
    """Whether it takes a search to know who gives what."""
    return host.tree is not None or bool(request.groups.numbered)


def allocations_of(host: HostState, request: RequestView) -> Allocations:
    """The amounts that the request takes of the host, which has passed all checks."""
    if not needs_tree(host, request):
        return {host.key: dict(request.resources)} if request.resources else {}
    found = fit(tree_of(host), candidate_request(request))
    assert not isinstance(found, str), found
    return found


def refusal(host: HostState, request: RequestView) -> str | None:
    """Why the host's providers can't serve the request, in words that follow "the host"."""
    found = fit(tree_of(host), candidate_request(request))
    return found if isinstance(found, str) else None


def taken(host: HostState, allocations: Mapping[str, Mapping[str, int]]) -> HostState:
    """The host with one more server that takes these."""

    def less(uuid: str, headrooms: Mapping[str, Inventory]) -> Mapping[str, Inventory]:
        amounts = allocations.get(uuid, {})
        return {name: replace(each, used=each.used + amounts.get(name, 0)) for name, each in headrooms.items()}

    tree = host.tree and {
        id: replace(member, headrooms=less(member.uuid, member.headrooms)) for id, member in host.tree.items()
    }
    return replace(host, headrooms=less(host.key, host.headrooms), tree=tree, num_instances=host.num_instances + 1)


def tree_of(host: HostState) -> Tree:
    """The providers that serve the host."""
    if host.tree is not None:
        return host.tree
    id = host.provider_id
    return {id: Member(host.key, id, host.headrooms, host.traits, frozenset({id}))}


def candidate_request(request: RequestView) -> CandidateRequest:
    """The request for placement. Traits of a forced host, and traits without an amount, are none of the unnumbered
    group's: the root is checked for the latter."""
    groups = request.groups
    queries = {
        suffix: ProviderQuery(
            resources=group.resources,
            required=tuple(frozenset({name}) for name in sorted(group.required)),
            forbidden=group.forbidden,
        )
        for suffix, group in {"": groups.unnumbered, **groups.numbered}.items()
        if suffix or group.resources
    }
    if request.forced and "" in queries:
        queries[""] = ProviderQuery(resources=groups.unnumbered.resources)
    return CandidateRequest(queries, groups.isolate, same_subtree=groups.same_subtree)


def fit(tree: Tree, wanted: CandidateRequest) -> Allocations | str:
    """The amounts that each provider gives, or why they can't, in words that follow "the host".

    Of `wanted` it reads amounts, traits, `isolate` and `same_subtree`, which are all that a flavor names. Of several
    ways it takes the first, in the order of the tree.
    """
    spread = wanted.groups.get("")
    amounts = spread.resources if spread is not None else {}
    holding = {name: _holding(tree, name, amount, spread) for name, amount in amounts.items()}
    for name, amount in amounts.items():
        if not holding[name]:
            has = any(name in member.headrooms for member in tree.values())
            return f"lacks {amount} {name}" if has else f"has no {name}"
    for some in spread.required if spread is not None else ():
        if not any(some & tree[id].traits for ids in holding.values() for id in ids):
            return f"lacks trait {min(some)}"
    serving = {suffix: _serving(tree, query) for suffix, query in wanted.groups.items() if suffix}
    for suffix, ids in serving.items():
        if not ids:
            return f"has no provider for request group {suffix}"
    ways = Ways(
        wanted,
        roots={id: member.root_id for id, member in tree.items()},
        lines={id: member.line for id, member in tree.items()},
        stock={id: member.headrooms for id, member in tree.items()},
        marks={id: member.traits for id, member in tree.items()},
    )
    way = next(ways.through(holding, serving), None)
    if way is None:
        return f"has no providers for all {'request groups' if serving else 'amounts and traits'} together"
    return _allocations(tree, way)


def _allocations(tree: Tree, way: Way) -> Allocations:
    found: Allocations = {}
    for (id, name), amount in way.sums.items():
        found.setdefault(tree[id].uuid, {})[name] = amount
    return found


def _holding(tree: Tree, name: str, amount: int, spread: ProviderQuery | None) -> list[int]:
    """The providers that may serve a class of the unnumbered group."""
    forbidden = spread.forbidden if spread is not None else frozenset()
    return [
        id
        for id, member in tree.items()
        if forbidden.isdisjoint(member.traits) and _gives(member.headrooms, {name: amount})
    ]


def _serving(tree: Tree, wanted: ProviderQuery) -> list[int]:
    """The providers that may serve a numbered group."""
    return [
        id
        for id, member in tree.items()
        if wanted.forbidden.isdisjoint(member.traits)
        and all(some & member.traits for some in wanted.required)
        and _gives(member.headrooms, wanted.resources)
    ]


def _gives(headrooms: Mapping[str, Inventory], amounts: Mapping[str, int]) -> bool:
    return all(
        (inventory := headrooms.get(name)) is not None and inventory.refuses(amount) is None
        for name, amount in amounts.items()
    )
