"""Allocation candidates: every way to serve a request from single providers or from one tree of them.

The unnamed group may be spread over a tree; each named group is served by one provider. A provider that shares by
aggregate is taken for one of each tree that it serves (`sharing`).
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from operator import attrgetter

from sqlalchemy import Connection

from mapping_db.placement import inventories, search, sharing, traits
from mapping_db.placement.inventories import Inventory
from mapping_db.placement.providers import Provider
from mapping_db.placement.search import ProviderQuery
from mapping_db.placement.ways import CandidateRequest, Way, Ways, lines_of

WAYS_PER_TREE = 1000
"""The most ways that are tried of each tree: one with many like children has more than a client would read."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One way: provider uuid → class → amount, and which providers serve each group."""

    allocations: dict[str, dict[str, int]]
    mappings: dict[str, list[str]]


@dataclass(frozen=True, slots=True)
class Summary:
    """A provider of a tree that has candidates. `serves`: it is in one of them itself."""

    provider: Provider
    resources: Mapping[str, Inventory]
    traits: frozenset[str]
    serves: bool


@dataclass(frozen=True, slots=True)
class FoundCandidates:
    """Candidates, and the providers of their trees."""

    candidates: list[Candidate] = field(default_factory=list)
    summaries: list[Summary] = field(default_factory=list)


_Key = tuple[frozenset[tuple[int, str, int]], frozenset[tuple[str, int]]]
"""The key by which two ways differ: the allocations, and which providers serve which group."""
_Served = Mapping[int, Sequence[Provider]]
"""The providers that fit, by the root of a tree: those of the tree itself, and sharing ones."""


def find(tx: Connection, requested: CandidateRequest) -> FoundCandidates:
    """All candidates, at most `limit` of them."""
    anchors, spread = sharing.anchors(tx), requested.groups.get("")
    singles = {
        suffix: _served((root_id, one) for one in search.matching(tx, wanted) for root_id in _roots(one, anchors))
        for suffix, wanted in requested.groups.items()
        if suffix
    }
    parts = _parts(tx, spread, anchors) if spread is not None else {}
    needed = [*singles.values(), *parts.values()]
    common = set.intersection(*map(set, needed)) if needed else set()
    roots = common | {one.root_id for served in needed for root_id in common for one in served[root_id]}
    providers = search.trees_of(tx, roots)
    by_id, ids = {one.id: one for one in providers}, {one.uuid: one.id for one in providers}
    stock, marks = inventories.of_providers(tx, by_id), traits.of_providers(tx, by_id)
    ways = Ways(
        requested,
        roots={one.id: one.root_id for one in providers},
        lines=lines_of({one.id: ids.get(one.parent_uuid or "") for one in providers}),
        stock=stock,
        marks=marks,
    )

    found: dict[_Key, Candidate] = {}
    for root_id in sorted(common):
        if not requested.root_required <= marks[root_id] or requested.root_forbidden & marks[root_id]:
            continue
        serving = {suffix: [one.id for one in served[root_id]] for suffix, served in singles.items()}
        holding = {name: [one.id for one in served[root_id]] for name, served in parts.items()}
        for way in itertools.islice(ways.through(holding, serving), WAYS_PER_TREE):
            if requested.limit is not None and len(found) >= requested.limit:
                break
            found.setdefault(_key(way), _candidate(way, by_id))
    allocated = {uuid for candidate in found.values() for uuid in candidate.allocations}
    shown = {provider.root_id for provider in providers if provider.uuid in allocated}
    summaries = [
        Summary(provider, stock[provider.id], frozenset(marks[provider.id]), provider.uuid in allocated)
        for provider in sorted(providers, key=attrgetter("root_id", "id"))
        if provider.root_id in shown
    ]
    return FoundCandidates(list(found.values()), summaries)


def _roots(provider: Provider, anchors: Mapping[int, set[int]]) -> set[int]:
    """The roots of the trees that the provider serves, its own among them."""
    return {provider.root_id} | anchors.get(provider.id, set())


def _served(pairs: Iterable[tuple[int, Provider]]) -> _Served:
    found: dict[int, dict[int, Provider]] = defaultdict(dict)
    for root_id, provider in pairs:
        found[root_id][provider.id] = provider
    return {root_id: list(fitting.values()) for root_id, fitting in found.items()}


def _parts(tx: Connection, spread: ProviderQuery, anchors: Mapping[int, set[int]]) -> dict[str, _Served]:
    """The providers that may serve each class of the unnamed group; its traits may be on any of the chosen providers.

    A request for one tree (`in_tree`) takes nothing of others. What is in the aggregates of a tree's root are all
    providers of the tree; a sharing provider of a tree that must not be in some must not be in them either.
    """
    found = {}
    outside = _members(tx, spread.not_member_of)
    for name, amount in spread.resources.items():
        one = replace(spread, resources={name: amount}, required=(), by_root=True)
        fitting = search.matching(tx, one)
        pairs = [(provider.root_id, provider) for provider in fitting]
        if spread.in_tree is None:
            pairs += [
                (root_id, provider) for provider in fitting for root_id in anchors.get(provider.id, set()) - outside
            ]
        found[name] = _served(pairs)
    return found


def _members(tx: Connection, any_of: frozenset[str]) -> set[int]:
    """The ids of the providers in one of the aggregates; none for no aggregates."""
    return {provider.id for provider in search.matching(tx, ProviderQuery(member_of=(any_of,)))} if any_of else set()


def _key(way: Way) -> _Key:
    """Two ways that allocate the same differ when a group is served by another provider."""
    served = frozenset((*way.where.items(), *(("", id) for id in way.spread)))
    return frozenset((id, name, amount) for (id, name), amount in way.sums.items()), served


def _candidate(way: Way, providers: Mapping[int, Provider]) -> Candidate:
    allocations: dict[str, dict[str, int]] = defaultdict(dict)
    for (id, name), amount in way.sums.items():
        allocations[providers[id].uuid][name] = amount
    mappings = {suffix: [providers[id].uuid] for suffix, id in way.where.items()}
    if way.spread:
        mappings[""] = sorted({providers[id].uuid for id in way.spread})
    return Candidate(dict(allocations), mappings)
