"""The instances that ran in a period of time, deleted ones among them: one cell's part, by project."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, or_, select

from cell_service.db.schema import instances
from cell_service.db.sql.sorting import Sort, order_by, past
from cell_service.model.instance import Flavor

SORT: Sort = (("project_id", "asc"), ("uuid", "asc"))


@dataclass(frozen=True, slots=True)
class Ran:
    """The part of an instance that a report of usage needs. `hidden`: in transit between two cells."""

    uuid: str
    project_id: str
    display_name: str
    vm_state: str
    flavor: Flavor
    launched_at: datetime
    terminated_at: datetime | None
    hidden: bool


_COLUMNS = [instances.c[name] for name in Ran.__dataclass_fields__]


def page(
    tx: Connection, *, start: datetime, stop: datetime, project_id: str | None, after: tuple[str, str] | None,
    limit: int
) -> list[Ran]:  # fmt: skip
    """The cell's next `limit` instances of a project (None: of all) that ran at any moment from start to stop.

    `after`: the project and uuid of the last one of the page before.
    """
    conditions: list[ColumnElement[bool]] = [
        instances.c.launched_at < stop,
        or_(instances.c.terminated_at.is_(None), instances.c.terminated_at > start),
    ]
    if project_id is not None:
        conditions.append(instances.c.project_id == project_id)
    if after is not None:
        conditions.append(past(SORT, after, _column))
    rows = tx.execute(select(*_COLUMNS).where(*conditions).order_by(*order_by(SORT, _column)).limit(limit))
    return [Ran(*row) for row in rows]


def _column(name: str) -> ColumnElement[Any]:
    return instances.c[name]
