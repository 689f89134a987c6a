"""Changes of a server's metadata."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from sqlalchemy import Connection

from api_cell import quota_check
from api_cell.caller import Caller
from api_cell.servers import act, find
from cell_service.db import instances
from cell_service.errors import MetadataItemNotFound
from cell_service.model.instance import Instance
from mapping_db.cells.registry import Cell
from mapping_db.cloud import Cloud


@dataclass(frozen=True, slots=True)
class MetadataChange:
    """The items are set; those that were there stay, but for `removed`, or go with `only`. `rule`: of the policy."""

    rule: str
    items: dict[str, str] = field(default_factory=dict)
    only: bool = False
    removed: str | None = None

    def applied(self, before: Mapping[str, str]) -> dict[str, str]:
        """Raises MetadataItemNotFound for a removed item that is not there."""
        if self.removed is not None and self.removed not in before:
            raise MetadataItemNotFound()
        kept = {} if self.only else {name: value for name, value in before.items() if name != self.removed}
        return {**kept, **self.items}


def change(cloud: Cloud, caller: Caller, server_id: str, wanted: MetadataChange, most: int) -> dict[str, str]:
    """The metadata as it is now; `most` items are allowed (-1: any number).

    Raises MetadataItemNotFound, LimitExceeded, InstanceNotFound, InstanceIsLocked, PolicyForbidden, CellUnavailable.
    """

    def changed(instance: Instance) -> dict[str, str]:
        caller.demand(wanted.rule, find.target(instance))
        act.demand_unlocked(caller.ctx, instance)
        after = wanted.applied(instance.metadata)
        quota_check.demand_within(most, len(after), "Maximum number of metadata items exceeds")
        return after

    def work(tx: Connection, cell: Cell) -> dict[str, str]:
        after = changed(find.to_change(cloud, caller.ctx, tx, cell, server_id))
        instances.change(tx, server_id, now=cloud.clock.now(), metadata=after)
        return after

    def early(instance: Instance) -> tuple[Instance, dict[str, str]]:
        after = changed(instance)
        return replace(instance, metadata=after), after

    return find.change(cloud, caller.ctx, server_id, work, early)
