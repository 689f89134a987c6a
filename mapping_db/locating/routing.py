"""The one way to the cell that owns an instance."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from cell_service.context import Deadline
from cell_service.errors import CellMappingNotFound, InstanceNotFound, InstanceNotHere, InstanceNotReady
from mapping_db.cells.registry import Cell
from mapping_db.cloud import Cloud
from mapping_db.locations import Location

T = TypeVar("T")

MOST_MOVES = 5


def in_cell(
    cloud: Cloud,
    instance_uuid: str,
    work: Callable[[Cell], T],
    deadline: Deadline,
    unplaced: Callable[[Location], T] | None = None,
) -> T:
    """What `work` answers in the cell that owns the instance, `unplaced` for an instance that is in no cell yet.

    Either raises InstanceNotHere, having changed nothing, when it finds that the instance is not there; then the
    mapping is read afresh, and followed if it has changed. Otherwise the instance is gone: InstanceNotFound. Also
    raises InstanceNotReady without `unplaced`, CellUnavailable, DatabaseUnavailable, DeadlineExceeded.
    """
    asked: Location | None = None
    for attempt in range(MOST_MOVES):
        deadline.check("the cell of the instance")
        location = cloud.locator.find(instance_uuid, fresh=attempt > 0)
        if location == asked:
            break
        asked = location
        try:
            if location.cell_id is not None:
                return work(cloud.cells.open(location.cell_id))
            if unplaced is None:
                raise InstanceNotReady(instance_uuid=instance_uuid)
            return unplaced(location)
        except (InstanceNotHere, CellMappingNotFound):
            continue
    raise InstanceNotFound(instance_id=instance_uuid)
