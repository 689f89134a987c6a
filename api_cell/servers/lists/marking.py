"""The place of a marker: the last server of the page before, alive or deleted, in a cell that answers or not."""

from __future__ import annotations

from typing import Any

from api_cell.caller import Caller
from cell_service.context import Deadline
from cell_service.db import instance_lists, instances
from cell_service.db.sql.sorting import Sort
from cell_service.errors import InstanceNotFound, Invalid, Unavailable
from cell_service.model.instance import Instance
from mapping_db import build_requests, instance_mappings
from mapping_db.cloud import Cloud
from mapping_db.instance_mappings import InstanceMapping


def mapping_of(cloud: Cloud, caller: Caller, marker: str | None) -> InstanceMapping | None:
    """The marker's mapping. Raises Invalid for one that the caller may not know of."""
    if marker is None:
        return None
    with cloud.db.connect() as tx:
        mapping = instance_mappings.get_many(tx, [marker]).get(marker)
    if mapping is None or not (caller.ctx.is_admin or mapping.project_id == caller.ctx.project_id):
        raise Invalid(reason=f"marker [{marker}] not found")
    return mapping


def values_of(cloud: Cloud, caller: Caller, marker: str | None, sort: Sort) -> tuple[Any, ...] | None:
    """The marker's values by these keys; where its cell does not answer, the mapping's, if it knows them all.

    Raises Invalid, CellUnavailable.
    """
    mapping = mapping_of(cloud, caller, marker)
    if mapping is None:
        return None
    known = {name for name, _ in sort} <= instance_mappings.SORTABLE
    try:
        instance = _instance_of(cloud, caller.ctx.deadline, mapping)
    except Unavailable:
        if not known:
            raise
        instance = None
    if instance is not None:
        return instance_lists.sort_values(instance, sort)
    if not known:
        raise Invalid(reason=f"marker [{mapping.instance_uuid}] not found")
    return instance_mappings.sort_values(mapping, sort)


def _instance_of(cloud: Cloud, deadline: Deadline, mapping: InstanceMapping) -> Instance | None:
    """The marker's instance; None when no cell has it (any more)."""
    uuid = mapping.instance_uuid
    if mapping.cell_id is None:
        with cloud.db.connect() as tx:
            request = build_requests.get(tx, uuid)
            if request is not None:
                return request.instance
            mapping = instance_mappings.get_many(tx, [uuid]).get(uuid, mapping)
    if mapping.cell_id is None:
        return None
    with cloud.cells.open(mapping.cell_id).db.connect(deadline) as tx:
        try:
            return instances.get(tx, uuid, deleted=True)
        except InstanceNotFound:
            return None
