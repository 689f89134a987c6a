"""The ways to serve a request from one tree and the sharing providers that serve it: pure, for the API and schedulers.

The unnamed group may be spread over the providers; each named group is served by one of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from mapping_db.placement.inventories import Inventory
from mapping_db.placement.search import ProviderQuery

STEPS = 20_000
"""The most steps of a search in one tree: what many like providers and groups would take is found, or not at all."""


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
class Way:
    """`sums`: what it takes, by provider id and class. `spread`: the providers that serve the unnamed group; `where`:
    the one that serves each named group."""

    sums: Mapping[tuple[int, str], int]
    spread: frozenset[int]
    where: Mapping[str, int]


@dataclass(slots=True)
class _Found:
    """A way while it is being made. An amount of "" is a provider that must be there, and gives nothing."""

    sums: dict[tuple[int, str], int] = field(default_factory=dict)
    spread: list[int] = field(default_factory=list)
    where: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Ways:
    """The providers that may serve a request, by id. `roots`: the root of each; `lines`: each with all above it."""

    requested: CandidateRequest
    roots: Mapping[int, int]
    lines: Mapping[int, AbstractSet[int]]
    stock: Mapping[int, Mapping[str, Inventory]]
    marks: Mapping[int, AbstractSet[str]]

    def through(self, holding: Mapping[str, Sequence[int]], serving: Mapping[str, Sequence[int]]) -> Iterator[Way]:
        """`holding`: by class, what may serve it in the unnamed group. `serving`: by suffix, what may serve the group.

        A choice that can't be completed is left at once. The search ends after STEPS choices.
        """
        if not self._possible(holding, serving):
            return
        spread = self.requested.groups.get("")
        classes = list(spread.resources) if spread is not None else []
        suffixes = sorted(
            serving, key=lambda suffix: (len(serving[suffix]), suffix)
        )  # those with the least choice first
        made, steps = _Found(), 0

        def place(at: int) -> Iterator[None]:
            """Make all choices from this one on; `made` is complete at each yield."""
            nonlocal steps
            if at == len(classes) and not self._marked(made):
                return
            if at == len(classes) + len(suffixes):
                if self._complete(made):
                    yield
                return
            suffix = suffixes[at - len(classes)] if at >= len(classes) else ""
            if suffix:
                amounts, options = self.requested.groups[suffix].resources, serving[suffix]
            else:
                assert spread is not None
                amounts, options = {classes[at]: spread.resources[classes[at]]}, holding[classes[at]]
            for id in options:
                steps += 1
                if steps > STEPS:
                    return
                if suffix and self.requested.isolate and id in made.where.values():
                    continue
                if not all(self._room(made, id, name, amount) for name, amount in amounts.items()):
                    continue
                before = {(id, name): made.sums.get((id, name)) for name in amounts}
                for name, amount in amounts.items():
                    made.sums[id, name] = made.sums.get((id, name), 0) + amount
                if suffix:
                    made.where[suffix] = id
                else:
                    made.spread.append(id)
                yield from place(at + 1)
                if suffix:
                    del made.where[suffix]
                else:
                    made.spread.pop()
                for key, amount_before in before.items():
                    if amount_before is None:
                        del made.sums[key]
                    else:
                        made.sums[key] = amount_before

        for _ in place(0):
            yield Way(dict(made.sums), frozenset(made.spread), dict(made.where))

    def _possible(self, holding: Mapping[str, Sequence[int]], serving: Mapping[str, Sequence[int]]) -> bool:
        """Whether enough is free in sum, and there are enough providers for groups that keep apart."""
        if self.requested.isolate and len({id for ids in serving.values() for id in ids}) < len(serving):
            return False
        spread = self.requested.groups.get("")
        wanted: dict[str, int] = dict(spread.resources) if spread is not None else {}
        able: dict[str, set[int]] = {name: set(holding[name]) for name in wanted}
        for suffix, ids in serving.items():
            for name, amount in self.requested.groups[suffix].resources.items():
                wanted[name] = wanted.get(name, 0) + amount
                able.setdefault(name, set()).update(ids)
        return all(
            sum(self.stock[id][name].free for id in able[name] if name in self.stock[id]) >= amount
            for name, amount in wanted.items()
        )

    def _room(self, made: _Found, id: int, name: str, amount: int) -> bool:
        inventory, in_all = self.stock[id].get(name), made.sums.get((id, name), 0) + amount
        return inventory is not None and in_all <= inventory.free and in_all <= inventory.max_unit

    def _marked(self, made: _Found) -> bool:
        """Whether the unnamed group's providers have its traits together."""
        spread = self.requested.groups.get("")
        if spread is None or not spread.resources or not spread.required:
            return True
        have = frozenset().union(*(self.marks[id] for id in made.spread))
        return all(have & some for some in spread.required)

    def _complete(self, made: _Found) -> bool:
        """Whether the sums fit the units, and the choices each other."""
        if any(self.stock[id][name].refuses(amount) is not None for (id, name), amount in made.sums.items()):
            return False
        if any(not self._together(made.where, group) for group in self.requested.same_subtree):
            return False
        return self.requested.nested or not self._nested({id for id, _ in made.sums})

    def _together(self, where: Mapping[str, int], group: frozenset[str]) -> bool:
        """Whether one of the group's providers is above (or is) all the others."""
        ids = {where[suffix] for suffix in group if suffix in where}
        return any(all(top in self.lines[id] for id in ids) for top in ids) if ids else True

    def _nested(self, ids: set[int]) -> bool:
        """Whether two of the providers are of one tree."""
        return len({self.roots[id] for id in ids}) < len(ids)


def lines_of(parents: Mapping[int, int | None]) -> dict[int, frozenset[int]]:
    """Each provider, by id, with all above it as far as they are known; `parents` by id."""
    found: dict[int, frozenset[int]] = {}
    for id in parents:
        line: list[int] = []
        here: int | None = id
        while here is not None and here in parents and here not in line:
            line.append(here)
            here = parents[here]
        found[id] = frozenset(line)
    return found
