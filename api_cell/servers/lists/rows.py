"""The rows of a list of servers, and the parts of them that may be missing."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from api_cell.config import ApiSettings
from cell_service.errors import CellUnavailable
from cell_service.model.instance import Instance
from mapping_db.cloud import Cloud
from mapping_db.instance_mappings import InstanceMapping


@dataclass(frozen=True, slots=True)
class Unreachable:
    """A server whose cell is down: what the mapping knows of it."""

    uuid: str
    project_id: str
    name: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Named:
    """A server of a list that shows no more than names."""

    uuid: str
    display_name: str


Listed = Instance | Named | Unreachable


@dataclass(frozen=True, slots=True)
class ServerPage:
    """The servers, in order; `more`: there may be another page after the last one. `cells` own some of them;
    `missing` are cells that did not answer."""

    servers: list[Listed]
    more: bool
    cells: frozenset[int] = frozenset()
    missing: frozenset[int] = frozenset()


def unreachable(mapping: InstanceMapping) -> Unreachable:
    return Unreachable(mapping.instance_uuid, mapping.project_id, mapping.display_name, mapping.created_at)


def refuse_gaps(cloud: Cloud, settings: ApiSettings, down_cells: Collection[int]) -> None:
    """Raises CellUnavailable where rows of these cells are not shown and the operator has configured that lists must
    not lack any."""
    if down_cells and not settings.api.list_records_by_skipping_down_cells:
        raise CellUnavailable(cell=cloud.cells.names(down_cells))
