"""Which cells may take an instance, and how much of what is new each of them gets.

The rules are the newest known topology's, which every process follows within two seconds; no cell is queried. A cell's
weight scales its share: where all cells that can take an instance have the same weight, the hosts' weights alone
decide; where they differ, a cell is drawn first, with a chance of its weight times its hosts that can take the
instance, and then the best of its hosts. The draw is made from the request's and the instance's ids, so that it can be
replayed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from cell_service.model.request_spec import RequestSpec
from mapping_db.cell_mappings import CellMapping
from mapping_db.cells.topology import Snapshot

TARGET, DIFFERENT = "target_cell", "different_cell"
_DRAWS = 2.0**64


@dataclass(frozen=True, slots=True)
class CellHints:
    """The scheduler hints of a spec that name cells: ids of those it may go to (None: any) and not go to, and
    why it can go nowhere, if so."""

    targets: frozenset[int] | None = None
    avoided: frozenset[int] = frozenset()
    trouble: str | None = None


NO_HINTS = CellHints()


def named(value: object) -> list[str]:
    """The texts of a hint: one, or a list of several."""
    if isinstance(value, (list, tuple)):
        return [str(part) for part in value if part]
    return [str(value)] if value else []


def cells_called(snapshot: Snapshot, text: str) -> frozenset[int]:
    """The cells with this name or uuid; names may repeat."""
    return frozenset(
        mapping.id
        for mapping in snapshot.by_id.values()
        if not mapping.is_cell0 and text in (mapping.uuid, mapping.name)
    )


def servers_of(snapshot: Snapshot, specs: Iterable[RequestSpec]) -> set[str]:
    """The names in `different_cell` hints that are of no cell, and so must be servers."""
    return {
        text
        for spec in specs
        if DIFFERENT in spec.scheduler_hints
        for text in named(spec.scheduler_hints[DIFFERENT])
        if not cells_called(snapshot, text)
    }


def hints_of(snapshot: Snapshot, spec: RequestSpec, homes: Mapping[str, int | None]) -> CellHints:
    """`homes`: the cells of the servers that the hints name, by uuid."""
    hints = spec.scheduler_hints
    if TARGET not in hints and DIFFERENT not in hints:
        return NO_HINTS
    targets: frozenset[int] | None = None
    for text in named(hints.get(TARGET)):
        found = cells_called(snapshot, text)
        if not found:
            return CellHints(trouble=f"No cell is called {text}.")
        targets = found if targets is None else targets | found
    avoided: set[int] = set()
    for text in named(hints.get(DIFFERENT)):
        found = cells_called(snapshot, text)
        home = homes.get(text)
        if not found and text not in homes:
            return CellHints(trouble=f"{text} is no cell and no server.")
        avoided |= found | ({home} if home is not None else set())
    return CellHints(targets, frozenset(avoided))


def refusals(
    snapshot: Snapshot, spec: RequestSpec, hints: CellHints = NO_HINTS, *, per_project: int = 0, at_home: bool = False
) -> dict[int, str]:
    """Why cells may not take the instance, by cell id, in words that follow "the host".

    `per_project`: each project gets so many cells (0: all). `at_home`: the instance lives in the one cell that is
    considered, so that only a cell which takes nothing refuses it. A host that an administrator has named is refused
    for the same reason alone.
    """
    refused: dict[int, str] = {}
    open_to: list[CellMapping] = []
    named_host = spec.force_host is not None or spec.force_node is not None
    project = spec.project_id
    pinned = snapshot.projects.pinned.get(project)
    for mapping in snapshot.by_id.values():
        reason = closed(mapping)
        if reason is None and not at_home and not named_host:
            reason = _unsuitable(snapshot, mapping, project, pinned, hints)
        if reason is not None:
            refused[mapping.id] = reason
        if closed(mapping) is None and _belongs(snapshot, mapping, project, pinned):
            open_to.append(mapping)
    if per_project and not at_home and not named_host and pinned is None:
        chosen = share_of(project, open_to, per_project)
        for mapping in open_to:
            if mapping.id not in chosen:
                refused.setdefault(mapping.id, f"is in cell {mapping.shown}, which is not among the project's cells")
    return refused


def closed(mapping: CellMapping) -> str | None:
    """Why the cell takes nothing at all, if so."""
    if mapping.is_cell0:
        return "is in cell0"
    if mapping.disabled:
        return "is in a cell that is disabled"
    return f"is in cell {mapping.shown}, which is drained" if mapping.weight == 0 else None


def share_of(project_id: str, cells: Iterable[CellMapping], count: int) -> frozenset[int]:
    """The project's own cells: the `count` whose hash with the project is highest.

    A cell that comes takes the place of at most one of them, and one that goes, or is drained, gives its place to one
    other until it is back.
    """
    ranked = sorted(cells, key=lambda mapping: (_hash(f"{project_id}/{mapping.uuid}"), mapping.uuid), reverse=True)
    return frozenset(mapping.id for mapping in ranked[:count])


def draw(
    able: Mapping[int, int], weights: Mapping[int, int], request_id: str, instance_uuid: str
) -> Collection[int] | None:
    """The cell that is drawn, of those that have `able` hosts; None where the hosts' own weights are to decide."""
    if len({weights[cell_id] for cell_id in able}) < 2:
        return None
    point = _hash(f"{request_id}/{instance_uuid}") / _DRAWS * sum(weights[one] * count for one, count in able.items())
    for cell_id in sorted(able):
        point -= weights[cell_id] * able[cell_id]
        if point < 0:
            return (cell_id,)
    return (max(able),)


def _unsuitable(
    snapshot: Snapshot, mapping: CellMapping, project: str, pinned: frozenset[int] | None, hints: CellHints
) -> str | None:
    if hints.targets is not None and mapping.id not in hints.targets:
        return f"is not in the target cell but in {mapping.shown}"
    if mapping.id in hints.avoided:
        return f"is in cell {mapping.shown}, which is to be avoided"
    if pinned is not None and mapping.id not in pinned:
        return f"is in cell {mapping.shown}, and the project is pinned to others"
    if not _belongs(snapshot, mapping, project, pinned):
        return f"is in cell {mapping.shown}, which is reserved for other projects"
    return None


def _belongs(snapshot: Snapshot, mapping: CellMapping, project: str, pinned: frozenset[int] | None) -> bool:
    """Not reserved, or for this project: kept for it, or it is pinned there."""
    if not mapping.reserved or (pinned is not None and mapping.id in pinned):
        return True
    return project in snapshot.projects.kept.get(mapping.id, frozenset())


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest())
