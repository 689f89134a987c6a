"""The cells' rules at work in one round of choices, worked out once for instances that they treat alike."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from api_cell.scheduler import cells
from api_cell.scheduler.ranking import Ranking
from api_cell.scheduler.request_view import GroupState
from cell_service.model.request_spec import RequestSpec
from mapping_db.cells.topology import Snapshot


@dataclass(frozen=True, slots=True)
class Admitted:
    """Why cells are refused, by id; `trouble`: why no cell is possible at all, if so."""

    refused: Mapping[int, str]
    trouble: str | None = None


@dataclass(frozen=True, slots=True)
class Admission:
    """`homes`: cells of the servers that hints name. `at_home`: instances confined to the cell that they live in."""

    snapshot: Snapshot
    request_id: str
    homes: Mapping[str, int | None]
    per_project: int = 0
    at_home: frozenset[str] = frozenset()
    _known: dict[tuple[str, bool, bool], Admitted] = field(default_factory=dict)

    def of(self, spec: RequestSpec) -> Admitted:
        home = spec.instance_uuid in self.at_home
        hints = cells.NO_HINTS if home else cells.hints_of(self.snapshot, spec, self.homes)
        if hints.trouble is not None:
            return Admitted({}, hints.trouble)
        if hints != cells.NO_HINTS:
            return self._made(spec, hints)
        key = (spec.project_id, spec.force_host is not None or spec.force_node is not None, home)
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = self._made(spec, hints)
        return known

    def drawn(
        self, spec: RequestSpec, admitted: Admitted, ranking: Ranking, group: GroupState | None
    ) -> Collection[int]:
        """The cells among whose hosts the best is to be picked. Soft affinity outweighs the cells' weights.

        A cell that is not known here any more is refused: nothing says that it may be used.
        """
        able = {cell_id: count for cell_id, count in ranking.able().items()
                if cell_id not in admitted.refused and cell_id in self.snapshot.by_id}  # fmt: skip
        drawn = None
        if len(able) > 1 and not (group is not None and group.policy == "soft-affinity"):
            weights = {cell_id: self.snapshot.by_id[cell_id].weight for cell_id in able}
            drawn = cells.draw(able, weights, self.request_id, spec.instance_uuid)
        return able.keys() if drawn is None else drawn

    def _made(self, spec: RequestSpec, hints: cells.CellHints) -> Admitted:
        home = spec.instance_uuid in self.at_home
        return Admitted(cells.refusals(self.snapshot, spec, hints, per_project=self.per_project, at_home=home))
