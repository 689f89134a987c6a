"""Rows of `project_cells` and `cell_projects`: projects confined to cells, and cells kept for projects.

Every change increments `topology.version`, so all processes follow it as they follow the cells themselves.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from sqlalchemy import Connection, Table, delete, insert, select

from mapping_db import cell_mappings
from mapping_db.schema import cell_projects, project_cells


@dataclass(frozen=True, slots=True)
class ProjectCells:
    """`pinned`: the ids of the cells that a project is confined to; other projects may use all cells.
    `kept`: the projects that a cell is kept for, by the cell's id; it matters where the cell is reserved."""

    pinned: Mapping[str, frozenset[int]] = field(default_factory=dict)
    kept: Mapping[int, frozenset[str]] = field(default_factory=dict)


def every(tx: Connection) -> ProjectCells:
    pinned: dict[str, set[int]] = {}
    for row in tx.execute(select(project_cells.c.project_id, project_cells.c.cell_id)):
        pinned.setdefault(row.project_id, set()).add(row.cell_id)
    kept: dict[int, set[str]] = {}
    for row in tx.execute(select(cell_projects.c.cell_id, cell_projects.c.project_id)):
        kept.setdefault(row.cell_id, set()).add(row.project_id)
    return ProjectCells(
        {project: frozenset(ids) for project, ids in pinned.items()},
        {cell_id: frozenset(projects) for cell_id, projects in kept.items()},
    )


def pin(tx: Connection, project_id: str, cell_ids: Iterable[int]) -> None:
    """Confine the project to exactly these cells; with none given, it may use all cells. Raises Invalid for an id that
    is too long.

    The one row of `topology` serialises changes of a project's cells.
    """
    cell_mappings.demand_name(project_id, "id of a project")
    cell_mappings.bump(tx)
    tx.execute(delete(project_cells).where(project_cells.c.project_id == project_id))
    _insert(tx, project_cells, [{"project_id": project_id, "cell_id": cell_id} for cell_id in sorted(set(cell_ids))])


def keep(tx: Connection, cell_id: int, project_ids: Iterable[str]) -> None:
    """Keep the cell for these projects also. Raises Invalid for an id that is too long."""
    wanted = sorted(set(project_ids))
    for project_id in wanted:
        cell_mappings.demand_name(project_id, "id of a project")
    cell_mappings.bump(tx)
    there = cell_projects.c.cell_id == cell_id
    tx.execute(delete(cell_projects).where(there, cell_projects.c.project_id.in_(wanted)))
    _insert(tx, cell_projects, [{"cell_id": cell_id, "project_id": project} for project in wanted])


def release(tx: Connection, cell_id: int, project_ids: Iterable[str] | None = None) -> int:
    """Stop keeping the cell for these projects (None: for any). Returns for how many of them it was kept."""
    cell_mappings.bump(tx)
    statement = delete(cell_projects).where(cell_projects.c.cell_id == cell_id)
    if project_ids is not None:
        statement = statement.where(cell_projects.c.project_id.in_(sorted(set(project_ids))))
    return tx.execute(statement).rowcount


def _insert(tx: Connection, table: Table, rows: list[dict[str, object]]) -> None:
    if rows:
        tx.execute(insert(table), rows)
