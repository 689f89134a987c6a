"""The hosts that can serve one kind of request, by weight; kept up to date instead of made again.

Filtering every host for every instance would cost far more than the choice itself. So a ranking remembers which hosts
passed and each weigher's score of them, in columns; when hosts change, these alone are run again. Hosts lie in blocks
of one cell, so that the best, and the next best of the same cell, are found without visiting all of them.

For one round of choices (`open`) the scores' ranges are kept: weights are normalised over the hosts as they were, and
again only when a host has left these ranges by more than a little.
"""

from __future__ import annotations

import heapq
import random
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from api_cell.scheduler.filters.contract import Filter
from api_cell.scheduler.hosts import HostState
from api_cell.scheduler.request_view import GroupState, RequestView
from api_cell.scheduler.weighers import SoftPolicies, Weigher

BLOCK = 256
SLACK = 0.1
"""The part of its range by which a score may lie outside of it before all hosts are weighed again."""
OUT = float("-inf")
"""The weight of a host that passed all filters but those of the server group."""
Refusal = tuple[str, str]
"""The filter's name ("" for what every host must have) and its reason."""


@dataclass(slots=True)
class Block:
    """Hosts of one cell; `columns` has a list for each weigher, `weights` what they come to in this round."""

    cell_id: int
    hosts: list[HostState] = field(default_factory=list)
    columns: list[list[float]] = field(default_factory=list)
    weights: list[float] = field(default_factory=list)
    best: float | None = None
    """The highest weight; None when it must be computed again."""
    spans: list[tuple[float, float]] | None = None
    """The least and the greatest score of each column; None likewise."""

    def ranges(self) -> list[tuple[float, float]]:
        if self.spans is None:
            self.spans = [(min(column), max(column)) for column in self.columns]
        return self.spans

    def highest(self) -> float:
        if self.best is None:
            self.best = max(self.weights, default=OUT)
        return self.best


class Ranking:
    """The ranking of hosts for requests that differ only in instance and group. Use it under the snapshot's lock."""

    def __init__(
        self,
        request: RequestView,
        checks: Sequence[tuple[str, Filter]],
        weighers: Sequence[Weigher],
        soft: SoftPolicies,
    ) -> None:
        self.refusals: dict[str, Refusal] = {}
        self.tally: Counter[Refusal] = Counter()
        """How many hosts each refusal has."""
        self.version = -1
        self._request_view, self._checks, self._soft = request, [(name, check.reject) for name, check in checks], soft
        self._weighers = tuple(weighers)
        self._spots: dict[str, tuple[Block, int]] = {}
        self._blocks: dict[int, list[Block]] = {}
        self._own: dict[str, tuple[float, ...]] = {}
        """Multipliers of hosts whose aggregates override any."""
        self._terms: list[tuple[int, float, float]] = []
        """(column, its least score, 1 / its range); a column without a range weighs nothing."""
        self._ranges: list[tuple[float, float]] = []
        """The ranges that the terms were made for, by column; empty when there were no hosts."""
        self._opened = self._outgrown = False
        self._multipliers = tuple(weigher.multiplier for weigher in weighers)
        self._group: GroupState | None = None
        self._bonus: dict[str, float] = {}
        self._seed = 0

    # -- which hosts --------------------------------------------------------------------------

    def update(self, changed: Iterable[str], hosts: Mapping[str, HostState]) -> None:
        """Filter and score the hosts that changed again."""
        for key in changed:
            state = hosts.get(key)
            before = self.refusals.pop(key, None)
            if before is not None:
                self.tally[before] -= 1
            refusal = self._refusal(state) if state is not None else None
            if state is not None and refusal is None:
                self._put(state)
                continue
            if refusal is not None:
                self.refusals[key] = refusal
                self.tally[refusal] += 1
            self._remove(key)

    def _refusal(self, host: HostState) -> Refusal | None:
        request = self._request_view
        for name, reject in self._checks:
            reason = reject(host, request)
            if reason is not None:
                return name, reason
        return None

    def _put(self, state: HostState) -> None:
        scores = [weigher.score(state) for weigher in self._weighers]
        own = tuple(weigher.multiplier_for(state) for weigher in self._weighers) if state.aggregates else None
        if own is not None and own != self._multipliers:
            self._own[state.key] = own
        else:
            self._own.pop(state.key, None)
        spot = self._spots.get(state.key)
        if spot is not None and spot[0].cell_id != state.cell_id:
            self._remove(state.key)
            spot = None
        if spot is None:
            block, at = self._block_for(state.cell_id), -1
            self._spots[state.key] = (block, len(block.hosts))
            block.hosts.append(state)
            block.weights.append(OUT)
            for column, score in zip(block.columns, scores, strict=True):
                column.append(score)
        else:
            block, at = spot
            block.hosts[at] = state
            for column, score in zip(block.columns, scores, strict=True):
                column[at] = score
        block.spans = None
        if self._opened:
            self._weigh_one(state.key)
            self._outgrown = (
                self._outgrown
                or not self._ranges
                or any(_outside((score, score), span) for score, span in zip(scores, self._ranges, strict=True))
            )

    def _block_for(self, cell_id: int) -> Block:
        blocks = self._blocks.setdefault(cell_id, [])
        if not blocks or len(blocks[-1].hosts) >= BLOCK:
            blocks.append(Block(cell_id, columns=[[] for _ in self._weighers]))
        return blocks[-1]

    def _remove(self, key: str) -> None:
        """Remove the host from its block, whose last host takes the place."""
        spot = self._spots.pop(key, None)
        if spot is None:
            return
        block, at = spot
        last = block.hosts.pop()
        weight = block.weights.pop()
        scores = [column.pop() for column in block.columns]
        if last.key != key:
            block.hosts[at], block.weights[at] = last, weight
            for column, score in zip(block.columns, scores, strict=True):
                column[at] = score
            self._spots[last.key] = (block, at)
        block.best = block.spans = None
        self._own.pop(key, None)

    # -- how much they weigh ------------------------------------------------------------------

    def open(self, group: GroupState | None, seed: int) -> None:
        """Begin a round: weigh all hosts, over the ranges that their scores have now. `seed` breaks ties.

        Weights of the round before serve on while the ranges have hardly changed.
        """
        before, self._group, self._seed = self._group, group, seed
        blocks = [block for block in self.blocks() if block.hosts]
        ranges = [
            (min(low for low, _ in spans), max(high for _, high in spans))
            for spans in zip(*(block.ranges() for block in blocks), strict=True)
        ]
        alike = len(ranges) == len(self._ranges) and not any(map(_apart, ranges, self._ranges))
        if self._opened and before is None and group is None and alike and not self._outgrown:
            return
        self._ranges, self._opened, self._outgrown, self._bonus = ranges, True, False, {}
        self._terms = [(at, low, 1.0 / (high - low)) for at, (low, high) in enumerate(ranges) if high > low]
        factors = [(at, self._multipliers[at] * scale, low) for at, low, scale in self._terms if self._multipliers[at]]
        start = -sum(factor * low for _, factor, low in factors)
        for block in blocks:
            weights = [start] * len(block.hosts)
            for at, factor, _ in factors:
                weights = [weight + factor * score for weight, score in zip(weights, block.columns[at], strict=True)]
            block.weights, block.best = weights, None
        for key in self._own:
            self._weigh_one(key)
        if group is not None:
            self._weigh_group(everybody=True)

    def placed(self, host: str) -> None:
        """A member of the group has been placed there; the host itself has been updated before."""
        if self._group is not None:
            first = not self._group.counts
            self._group.add(host)
            self._weigh_group(everybody=first)

    def _weigh_group(self, *, everybody: bool) -> None:
        """Weigh the hosts of members again; all hosts, when there were none before and only members' hosts serve."""
        group = self._group
        assert group is not None
        multiplier = self._soft.multiplier_for(group.policy)
        here = [
            key for block in self.blocks() for key in (state.key for state in block.hosts if state.host in group.counts)
        ]
        if multiplier:
            counts = [group.counts[self._state(key).host] for key in here]
            low = min(counts, default=0) if len(here) == len(self._spots) else 0
            high = max(counts, default=0)
            scale = multiplier / (high - low) if high > low else 0.0
            self._bonus = {key: (count - low) * scale for key, count in zip(here, counts, strict=True)}
        else:
            self._bonus = {}
        if everybody and group.policy == "affinity" and group.counts:
            for block in self.blocks():
                block.weights, block.best = [OUT] * len(block.hosts), OUT
        for key in here:
            self._weigh_one(key)

    def _weigh_one(self, key: str) -> None:
        block, at = self._spots[key]
        state = block.hosts[at]
        if self._group is not None and self._group.refuses(state.host) is not None:
            weight = OUT
        else:
            own = self._own.get(key, self._multipliers)
            weight = self._bonus.get(key, 0.0)
            for column, low, scale in self._terms:
                weight += own[column] * (block.columns[column][at] - low) * scale
        block.weights[at] = weight
        block.best = None

    # -- choosing -----------------------------------------------------------------------------

    def able(self) -> dict[int, int]:
        """How many hosts can take the next instance, by the cells that have any (nearly so, with a server group)."""
        if self._outgrown:
            self.open(self._group, self._seed)
        counts: dict[int, int] = {}
        for block in self.blocks():
            if block.highest() != OUT:
                counts[block.cell_id] = counts.get(block.cell_id, 0) + len(block.hosts)
        return counts

    def pick(self, chance: random.Random, subset: int, cells: Collection[int] | None = None) -> HostState | None:
        """The best host; with `subset`, any of so many of the best; perhaps only of some cells. None when there is
        none."""
        if self._outgrown:
            self.open(self._group, self._seed)
        blocks = [block for block in self.blocks() if cells is None or block.cell_id in cells]
        if subset > 1:
            best = self.best(subset, blocks)
            return chance.choice(best) if best else None
        highest = max((block.highest() for block in blocks), default=OUT)
        if highest == OUT:
            return None
        block = chance.choice([block for block in blocks if block.highest() == highest])
        ties = (at for at, weight in enumerate(block.weights) if weight == highest)
        return block.hosts[min(ties, key=lambda at: block.hosts[at].tie ^ self._seed)]

    def others(self, chosen: HostState, count: int) -> list[HostState]:
        """The best hosts but the chosen one, of its cell."""
        found = self.best(count + 1, self._blocks.get(chosen.cell_id, []))
        return [state for state in found if state.key != chosen.key][:count]

    def elsewhere(self, cell_id: int, refused: Collection[int], count: int) -> list[HostState]:
        """One of the best hosts of each of that many other cells, those with the best hosts."""
        tops: dict[int, Block] = {}
        for block in self.blocks():
            if block.cell_id == cell_id or block.cell_id in refused or block.highest() == OUT:
                continue
            if block.cell_id not in tops or tops[block.cell_id].highest() < block.highest():
                tops[block.cell_id] = block
        best = heapq.nlargest(count, tops.values(), key=Block.highest)
        return [block.hosts[block.weights.index(block.highest())] for block in best]

    def weight_of(self, key: str) -> tuple[float, list[tuple[str, float, float]]]:
        """The host's weight in this round, and of each weigher whose scores differ its name, its score, and the part of
        the weight that comes from it."""
        block, at = self._spots[key]
        own = self._own.get(key, self._multipliers)
        parts = []
        for column, low, scale in self._terms:
            if own[column]:
                score = block.columns[column][at]
                parts.append((self._weighers[column].name, score, own[column] * (score - low) * scale))
        return block.weights[at], parts

    def best(self, count: int, blocks: Iterable[Block]) -> list[HostState]:
        """The best hosts in these blocks, that many, the best first."""
        found: list[tuple[float, int, HostState]] = []
        for block in sorted(blocks, key=lambda block: -block.highest()):
            if block.highest() == OUT or (len(found) == count and found[-1][0] >= block.highest()):
                break
            ranked = (
                (weight, ~(state.tie ^ self._seed), state)
                for weight, state in zip(block.weights, block.hosts, strict=True)
                if weight != OUT
            )
            found = heapq.nlargest(count, [*found, *ranked], key=lambda entry: entry[:2])
        return [state for _, _, state in found]

    def all_refusals(self, cells: Mapping[int, str] | None = None) -> Collection[Refusal]:
        """Why each host that is refused is, the server group's reasons among them, and those of whole `cells`."""
        refusals = list(self.refusals.values())
        if cells:
            refusals += [("", cells[block.cell_id]) for block in self.blocks() if block.cell_id in cells
                         for _ in block.hosts]  # fmt: skip
        if self._group is not None:
            name = {"affinity": "ServerGroupAffinityFilter"}.get(self._group.policy, "ServerGroupAntiAffinityFilter")
            for block in self.blocks():
                for state in block.hosts if not cells or block.cell_id not in cells else ():
                    reason = self._group.refuses(state.host)
                    if reason is not None:
                        refusals.append((name, reason))
        return refusals

    def _state(self, key: str) -> HostState:
        block, at = self._spots[key]
        return block.hosts[at]

    def blocks(self) -> Iterator[Block]:
        """All blocks, for `best`."""
        for blocks in self._blocks.values():
            yield from blocks


def _outside(span: tuple[float, float], of: tuple[float, float]) -> bool:
    """Whether it reaches out of the other by more than the slack."""
    slack = (of[1] - of[0]) * SLACK
    return span[0] < of[0] - slack or span[1] > of[1] + slack


def _apart(one: tuple[float, float], other: tuple[float, float]) -> bool:
    """Whether either end has moved by more than the slack."""
    slack = (other[1] - other[0]) * SLACK
    return abs(one[0] - other[0]) > slack or abs(one[1] - other[1]) > slack
