"""Allocation candidates: every way to serve a request from single providers or from one tree of them.

The unnamed group may be spread over a tree; each named group is served by one provider. A provider that shares by
aggregate is taken for one of each tree that it serves (`sharing`).
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from operator import attrgetter

from sqlalchemy import Connection

from mapping_db.placement import inventories, search, sharing, traits
from mapping_db.placement.inventories import Inventory
from mapping_db.placement.providers import Provider
from mapping_db.placement.search import ProviderQuery

WAYS_PER_TREE = 1000
"""The most ways that are tried of each tree: one with many like children has more than a client would read."""


@dataclass(frozen=True, slots=True)
class CandidateRequest:
    """A whole request. `groups` by suffix, "" is the unnamed one. `same_subtree`: sets of suffixes."""

    groups: Mapping[str, ProviderQuery]
    isolate: bool = False
    limit: int | None = None
    root_required: frozenset[str] = frozenset()
    root_forbidden: frozenset[str] = frozenset()
    same_subtree: tuple[frozenset[str], ...] = ()
    nested: bool = True


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


Choice = tuple[tuple[int, str, int], ...]
"""One way to serve one group: (provider id, class, amount)."""


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
    ways = _Ways(requested, by_id, ids, stock, marks)

    found: dict[_Key, Candidate] = {}
    for root_id in sorted(common):
        if not requested.root_required <= marks[root_id] or requested.root_forbidden & marks[root_id]:
            continue
        serving = {suffix: [one.id for one in served[root_id]] for suffix, served in singles.items()}
        holding = {name: [one.id for one in served[root_id]] for name, served in parts.items()}
        for key, candidate in itertools.islice(ways.through(holding, serving), WAYS_PER_TREE):
            if requested.limit is not None and len(found) >= requested.limit:
                break
            found.setdefault(key, candidate)
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


@dataclass(frozen=True, slots=True)
class _Ways:
    """The ways to serve a request from one tree and what it is served by."""

    requested: CandidateRequest
    providers: Mapping[int, Provider]
    ids: Mapping[str, int]
    stock: Mapping[int, Mapping[str, Inventory]]
    marks: Mapping[int, set[str]]

    def through(
        self, holding: Mapping[str, Sequence[int]], serving: Mapping[str, Sequence[int]]
    ) -> Iterator[tuple[_Key, Candidate]]:
        """`holding`: by class, what may serve it in the unnamed group. `serving`: by suffix, what may serve the group.

        Two ways that allocate the same differ when a group is served by another provider.
        """
        requested, suffixes = self.requested, sorted(serving)
        named = [[self._alone(requested.groups[suffix], id) for id in serving[suffix]] for suffix in suffixes]
        spread = requested.groups.get("")
        unnamed = list(self._spread(spread, holding)) if spread is not None and spread.resources else [()]
        for first, *rest in itertools.product(unnamed, *named):
            where = dict(zip(suffixes, (choice[0][0] for choice in rest), strict=True))
            if requested.isolate and len(set(where.values())) < len(where):
                continue
            if any(not self._together(where, group) for group in requested.same_subtree):
                continue
            sums: dict[tuple[int, str], int] = defaultdict(int)
            for id, name, amount in itertools.chain(first, *rest):
                if name:
                    sums[id, name] += amount
            if not all(self._fits(id, name, amount) for (id, name), amount in sums.items()):
                continue
            if not requested.nested and self._nested({id for id, _ in sums}):
                continue
            served = frozenset((*where.items(), *(("", id) for id, _, _ in first)))
            key = frozenset((id, name, amount) for (id, name), amount in sums.items()), served
            yield key, self._candidate(sums, first, where)

    def _nested(self, ids: set[int]) -> bool:
        """Whether two of the providers are of one tree."""
        return len({self.providers[id].root_id for id in ids}) < len(ids)

    def _alone(self, wanted: ProviderQuery, id: int) -> Choice:
        """The way to serve a group without resources: a provider that must be there, without a class."""
        return tuple((id, name, amount) for name, amount in wanted.resources.items()) or ((id, "", 0),)

    def _spread(self, wanted: ProviderQuery, holding: Mapping[str, Sequence[int]]) -> Iterator[Choice]:
        options = [[(id, name, amount) for id in holding[name]] for name, amount in wanted.resources.items()]
        for choice in itertools.islice(itertools.product(*options), WAYS_PER_TREE * 10):
            have = set().union(*(self.marks[id] for id, _, _ in choice))
            if all(have & some for some in wanted.required):
                yield choice

    def _fits(self, id: int, name: str, amount: int) -> bool:
        inventory = self.stock[id].get(name)
        return inventory is not None and inventory.refuses(amount) is None

    def _together(self, where: Mapping[str, int], group: frozenset[str]) -> bool:
        """Whether one of the group's providers is above (or is) all the others."""
        ids = {where[suffix] for suffix in group if suffix in where}
        return any(all(top in self._line(id) for id in ids) for top in ids) if ids else True

    def _line(self, id: int) -> set[int]:
        """The provider, and all above it."""
        line, here = {id}, self.providers[id]
        while here.parent_uuid is not None:
            here = self.providers[self.ids[here.parent_uuid]]
            line.add(here.id)
        return line

    def _candidate(self, sums: Mapping[tuple[int, str], int], first: Choice, where: Mapping[str, int]) -> Candidate:
        allocations: dict[str, dict[str, int]] = defaultdict(dict)
        for (id, name), amount in sums.items():
            allocations[self.providers[id].uuid][name] = amount
        mappings = {suffix: [self.providers[id].uuid] for suffix, id in where.items()}
        if first:
            mappings[""] = sorted({self.providers[id].uuid for id, _, _ in first})
        return Candidate(dict(allocations), mappings)
