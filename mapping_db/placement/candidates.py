"""Allocation candidates: every way to serve a request from single providers or from one tree of them.

The unnamed group may be spread over a tree; each named group is served by one provider. Providers that share by
aggregate (MISC_SHARES_VIA_AGGREGATE) are not combined with others.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from sqlalchemy import Connection

from mapping_db.placement import inventories, search, traits
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
    """A provider of a tree that has candidates."""

    provider: Provider
    resources: Mapping[str, Inventory]
    traits: frozenset[str]


@dataclass(frozen=True, slots=True)
class FoundCandidates:
    """Candidates, and the providers of their trees."""

    candidates: list[Candidate] = field(default_factory=list)
    summaries: list[Summary] = field(default_factory=list)


Choice = tuple[tuple[int, str, int], ...]
"""One way to serve one group: (provider id, class, amount)."""


def find(tx: Connection, requested: CandidateRequest) -> FoundCandidates:
    """All candidates, at most `limit` of them."""
    singles = {suffix: search.matching(tx, wanted) for suffix, wanted in requested.groups.items() if suffix}
    roots = [{provider.root_id for provider in found} for found in singles.values()]
    spread = requested.groups.get("")
    parts: dict[str, set[int]] = {}
    if spread is not None:
        for name, amount in spread.resources.items():
            one = replace(spread, resources={name: amount}, required=())
            having = search.matching(tx, one)
            parts[name] = {provider.id for provider in having}
            roots.append({provider.root_id for provider in having})
        if not requested.nested:
            fitting = {provider.id for provider in search.matching(tx, spread)}
            parts = {name: having & fitting for name, having in parts.items()}
    common = set.intersection(*roots) if roots else set()
    members: dict[int, list[Provider]] = defaultdict(list)
    for provider in search.trees_of(tx, common):
        members[provider.root_id].append(provider)
    ids = [provider.id for tree in members.values() for provider in tree]
    stock, marks = inventories.of_providers(tx, ids), traits.of_providers(tx, ids)

    found: list[Candidate] = []
    used_roots: set[int] = set()
    for root_id in sorted(members):
        tree = _Tree({provider.id: provider for provider in members[root_id]}, stock, marks)
        if not requested.root_required <= marks[root_id] or requested.root_forbidden & marks[root_id]:
            continue
        serving = {suffix: [p.id for p in some if p.root_id == root_id] for suffix, some in singles.items()}
        for candidate in itertools.islice(tree.ways(requested, parts, serving), WAYS_PER_TREE):
            if requested.limit is not None and len(found) >= requested.limit:
                break
            found.append(candidate)
            used_roots.add(root_id)
    summaries = [
        Summary(provider, stock[provider.id], frozenset(marks[provider.id]))
        for root_id in sorted(used_roots)
        for provider in members[root_id]
    ]
    return FoundCandidates(found, summaries)


@dataclass(frozen=True, slots=True)
class _Tree:
    """One tree, and the ways through it."""

    providers: Mapping[int, Provider]
    stock: Mapping[int, Mapping[str, Inventory]]
    marks: Mapping[int, set[str]]

    def ways(
        self, requested: CandidateRequest, parts: Mapping[str, set[int]], serving: Mapping[str, Sequence[int]]
    ) -> Iterator[Candidate]:
        suffixes = sorted(serving)
        named = [[self._alone(requested.groups[suffix], id) for id in serving[suffix]] for suffix in suffixes]
        spread = requested.groups.get("")
        unnamed = list(self._spread(spread, parts)) if spread is not None and spread.resources else [()]
        seen: set[frozenset[tuple[int, str, int]]] = set()
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
            key = frozenset((id, name, amount) for (id, name), amount in sums.items())
            if key in seen:
                continue
            seen.add(key)
            yield self._candidate(sums, first, where)

    def _alone(self, wanted: ProviderQuery, id: int) -> Choice:
        """The way to serve a group without resources: a provider that must be there, without a class."""
        return tuple((id, name, amount) for name, amount in wanted.resources.items()) or ((id, "", 0),)

    def _spread(self, wanted: ProviderQuery, parts: Mapping[str, set[int]]) -> Iterator[Choice]:
        options = [
            [(id, name, amount) for id in self.providers if id in parts[name]]
            for name, amount in wanted.resources.items()
        ]
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
        by_uuid = {provider.uuid: provider for provider in self.providers.values()}
        line, here = {id}, self.providers[id]
        while here.parent_uuid is not None and here.parent_uuid in by_uuid:
            here = by_uuid[here.parent_uuid]
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
