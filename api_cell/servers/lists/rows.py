"""What a list of servers consists of, and what it may lack."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from api_cell.edge.route import Request
from cell_service.errors import CellUnavailable
from cell_service.model.instance import Instance
from mapping_db.instance_mappings import InstanceMapping


@dataclass(frozen=True, slots=True)
class Silent:
    """A server whose cell does not answer: what the mapping knows of it."""

    uuid: str
    project_id: str
    name: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Named:
    """A server of a list that shows no more than names."""

    uuid: str
    display_name: str


Listed = Instance | Named | Silent


@dataclass(frozen=True, slots=True)
class Page:
    """The servers, in order; `more`: there may be another page after the last one. `cells` own some of them;
    `missing` are cells that did not answer."""

    servers: list[Listed]
    more: bool
    cells: frozenset[int] = frozenset()
    missing: frozenset[int] = frozenset()


def silent(mapping: InstanceMapping) -> Silent:
    return Silent(mapping.instance_uuid, mapping.project_id, mapping.display_name, mapping.created_at)


def shows_silent(req: Request) -> bool:
    """Whether the request's version knows documents of servers of silent cells."""
    return req.at_least(2, 69)


def refuse_gaps(req: Request, silent_cells: Collection[int], *, partial: bool) -> None:
    """Raises CellUnavailable where servers of these cells are not shown and the operator wants no lists without."""
    if silent_cells and not partial and not req.services.settings.api.list_records_by_skipping_down_cells:
        shown = {mapping.id: mapping.shown for mapping in req.cloud.cells.all()}
        raise CellUnavailable(cell=", ".join(shown.get(each, str(each)) for each in sorted(silent_cells)))
