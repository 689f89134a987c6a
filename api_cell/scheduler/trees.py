"""Which providers serve each host besides its root: those below it, and those that share by aggregate.

Kept up to date with the providers. A host that is served by its root alone costs nothing here.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass

from mapping_db.placement.inventories import Inventory
from mapping_db.placement.sharing import SHARES
from mapping_db.placement.stock import ProviderState
from mapping_db.placement.ways import lines_of


@dataclass(frozen=True, slots=True)
class Member:
    """A provider that serves a host. `headrooms` count pending claims as used; `line`: itself and all above it."""

    uuid: str
    root_id: int
    headrooms: Mapping[str, Inventory]
    traits: frozenset[str]
    line: frozenset[int]


Tree = Mapping[int, Member]
"""All providers that serve a host, by id: its root, those below it, those that share."""


class Trees:
    """`providers` by uuid and `uuids` by id are the owner's, and up to date at each call."""

    def __init__(self, providers: Mapping[str, ProviderState], uuids: Mapping[int, str]) -> None:
        self._providers, self._uuids = providers, uuids
        self._members: dict[int, set[int]] = {}
        """By root: the providers below it."""
        self._sharing: set[int] = set()
        self._sharers: dict[int, frozenset[int]] = {}
        """By root: the providers of other trees that share with it; likewise those of its own that share."""
        self._served: dict[int, frozenset[int]] = {}
        """By sharing provider: the roots that it serves."""
        self._stale = False

    @property
    def roots(self) -> frozenset[int]:
        """The roots that have others below them."""
        return frozenset(self._members)

    def clear(self) -> None:
        self._members.clear()
        self._sharing.clear()
        self._stale = True

    def take(self, before: ProviderState | None, after: ProviderState | None) -> None:
        """Note that a provider is another now; either may be None."""
        if before is not None and before.parent_id is not None:
            members = self._members.get(before.root_id, set())
            members.discard(before.id)
            if not members:
                self._members.pop(before.root_id, None)
        if after is not None and after.parent_id is not None:
            self._members.setdefault(after.root_id, set()).add(after.id)
        if after is not None and SHARES in after.traits:
            self._sharing.add(after.id)
        elif before is not None:
            self._sharing.discard(before.id)
        self._stale = self._stale or ((bool(self._sharing or self._served)) and _joins(before) != _joins(after))

    def settle(self) -> set[str]:
        """Work out again who shares with whom, if that may have changed. The hosts for which it has."""
        if not self._stale:
            return set()
        self._stale = False
        before = self._sharers
        joined: dict[str, set[int]] = {
            name: set() for id in self._sharing for name in self._providers[self._uuids[id]].aggregates
        }
        if joined:
            for provider in self._providers.values():
                for name in provider.aggregates & joined.keys():
                    joined[name].add(provider.root_id)
        self._served = {
            id: frozenset().union(*(joined[name] for name in self._providers[self._uuids[id]].aggregates))
            for id in self._sharing
        }
        sharers: dict[int, set[int]] = {}
        for id, roots in self._served.items():
            for root in roots:
                sharers.setdefault(root, set()).add(id)
        self._sharers = {root: frozenset(ids) for root, ids in sharers.items() if ids != {root}}
        changed = {root for root in before.keys() | self._sharers if before.get(root) != self._sharers.get(root)}
        return {self._uuids[root] for root in changed if root in self._uuids}

    def hosts_of(self, providers: Iterable[str]) -> set[str]:
        """The uuids of the roots that these providers, by uuid, serve."""
        found = set(providers)
        if not (self._members or self._served):
            return found
        for uuid in list(found):
            provider = self._providers.get(uuid)
            if provider is not None:
                roots = {provider.root_id, *self._served.get(provider.id, ())} - {provider.id}
                found |= {self._uuids[root] for root in roots if root in self._uuids}
        return found

    def of(self, root: ProviderState, headrooms: Callable[[ProviderState], Mapping[str, Inventory]]) -> Tree | None:
        """The tree of a root that is not alone."""
        members, sharers = self._members.get(root.id, ()), self._sharers.get(root.id, ())
        if not (members or sharers) or root.parent_id is not None:
            return None
        ids = dict.fromkeys((root.id, *sorted(members), *sorted(sharers)))
        serving = [self._providers[self._uuids[id]] for id in ids]
        strangers = self._around(state for state in serving if state.root_id != root.id)
        lines = lines_of({state.id: state.parent_id for state in (*serving, *strangers)})
        return {
            state.id: Member(state.uuid, state.root_id, headrooms(state), state.traits, lines[state.id])
            for state in serving
        }

    def _around(self, providers: Iterable[ProviderState]) -> Collection[ProviderState]:
        """The providers above these ones."""
        found: dict[int, ProviderState] = {}
        for provider in providers:
            parent = provider.parent_id
            while parent is not None and parent in self._uuids and parent not in found:
                found[parent] = self._providers[self._uuids[parent]]
                parent = found[parent].parent_id
        return found.values()


def _joins(provider: ProviderState | None) -> object:
    """All that decides with which trees a provider shares, or which share with it."""
    return provider and (provider.root_id, provider.aggregates, SHARES in provider.traits)
