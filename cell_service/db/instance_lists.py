"""Lists of instances by filters, sort keys and a marker's values: one cell's part of a page."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    Text,
    and_,
    cast,
    exists,
    false,
    not_,
    or_,
    select,
    true,
)
from sqlalchemy.exc import DBAPIError

from cell_service.db import instances as rows
from cell_service.db.schema import instances, tags
from cell_service.db.sql.prepared import Prepared, among, keys, one_of, padded_size
from cell_service.db.sql.sorting import Sort, order_by, past
from cell_service.errors import Invalid
from cell_service.model.instance import Instance
from cell_service.model.lifecycle import VmState


@dataclass(frozen=True, slots=True)
class StatusFilter:
    """Instances in a vm_state whose task is one of `tasks`, or with `other` is none of them."""

    vm_state: str
    tasks: tuple[str, ...] = ()
    other: bool = True


@dataclass(frozen=True, slots=True)
class Listing:
    """The conditions of a list of instances. `equal` and `patterns` (regular expressions) are by column; all conditions
    must hold.

    `sort` pairs columns with "asc" or "desc" and ends with a unique one; `after` are the marker's values in that
    order. `deleted`: True only deleted ones, False only living ones, None both; those that are deleted for now are
    among either with `soft_deleted`, and among both always.
    """

    equal: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    patterns: dict[str, str] = field(default_factory=dict)
    statuses: tuple[StatusFilter, ...] | None = None
    metadata: dict[str, str] = field(default_factory=dict)
    all_tags: tuple[str, ...] = ()
    any_tags: tuple[str, ...] = ()
    not_all_tags: tuple[str, ...] = ()
    not_any_tags: tuple[str, ...] = ()
    address_patterns: tuple[str, ...] = ()
    changes_since: datetime | None = None
    changes_before: datetime | None = None
    locked: bool | None = None
    deleted: bool | None = False
    soft_deleted: bool = False
    sort: Sort = (("created_at", "desc"), ("uuid", "desc"))
    after: tuple[Any, ...] | None = None
    limit: int = 1000


@dataclass(frozen=True, slots=True)
class Key:
    """An instance's place in a listing: its sort values. `hidden`: on its way to or from another cell."""

    uuid: str
    display_name: str
    values: tuple[Any, ...]
    hidden: bool


def page(tx: Connection, listing: Listing) -> list[Instance]:
    """The cell's next `limit` instances of the listing, sorted, rows in transit among them.

    Raises Invalid for a pattern no database takes.
    """
    return [
        rows.instance_of(row)
        for row in _rows(tx, listing, Prepared(_sorted(listing, select(*rows.columns())), ordinary=1))
    ]


FEW = 6
"""The number of cells from which compiling a listing's statement saves more than it costs."""


class Question:
    """A listing as statements, made once for many cells."""

    def __init__(self, listing: Listing) -> None:
        self._listing = listing
        shown = (instances.c.uuid, instances.c.display_name, instances.c.hidden)
        columns = [_column(name).label(f"key_{number}") for number, (name, _) in enumerate(listing.sort)]
        self._keys = Prepared(_sorted(listing, select(*shown, *columns)), ordinary=FEW)
        self._by_count: dict[int, Prepared] = {}

    def keys(self, tx: Connection) -> list[Key]:
        """As `page`, but only the instances' places. Raises Invalid."""
        found = _rows(tx, self._listing, self._keys)
        return [Key(row[0], row[1], tuple(row[3:]), bool(row[2])) for row in found]

    def some(self, tx: Connection, uuids: Collection[str]) -> dict[str, Instance]:
        """Those of these instances that match the listing's conditions, by uuid."""
        wanted = list(uuids)
        found: list[Instance] = []
        for start in range(0, len(wanted), rows.MOST_UUIDS):
            part = wanted[start : start + rows.MOST_UUIDS]
            statement = self._some(padded_size(len(part)))
            found += map(rows.instance_of, _rows(tx, self._listing, statement, keys("uuid", part)))
        return {each.uuid: each for each in found}

    def _some(self, count: int) -> Prepared:
        made = self._by_count.get(count)
        if made is None:
            here = one_of(instances.c.uuid, "uuid", count)
            made = Prepared(select(*rows.columns()).where(here, *_conditions(self._listing)), ordinary=FEW)
            self._by_count[count] = made
        return made


def sort_values(instance: Instance, sort: Sort) -> tuple[Any, ...]:
    """The values by which the listing sorts this instance; enums as text."""
    return tuple(_plain(getattr(instance, _FIELD.get(name, name))) for name, _ in sort)


_FIELD = {"locked": "locked_by", "instance_type_id": "flavor"}
_SORTED_BY = {"locked": "locked_by", "instance_type_id": "flavorid"}


def _plain(value: object) -> Any:
    if hasattr(value, "flavorid"):
        return value.flavorid
    return value.value if hasattr(value, "value") else value


def _column(name: str) -> ColumnElement[Any]:
    return instances.c[_SORTED_BY.get(name, name)]


def _sorted(listing: Listing, statement: Select[Any]) -> Select[Any]:
    statement = statement.where(*_conditions(listing)).limit(listing.limit)
    if listing.after is not None:
        statement = statement.where(past(listing.sort, listing.after, _column))
    return statement.order_by(*order_by(listing.sort, _column))


def _rows(
    tx: Connection, listing: Listing, statement: Prepared, given: dict[str, Any] | None = None
) -> Sequence[Sequence[Any]]:  # fmt: skip
    try:
        return statement.rows(tx, given)
    except DBAPIError as error:
        if (listing.patterns or listing.address_patterns) and not error.connection_invalidated:
            raise Invalid(reason="Invalid regular expression in a filter.") from error
        raise


def _conditions(listing: Listing) -> list[ColumnElement[bool]]:
    found: list[ColumnElement[bool]] = []
    for name, values in listing.equal.items():
        column = instances.c[name]
        present = [value for value in values if value is not None]
        found.append(or_(among(column, present), column.is_(None)) if None in values else among(column, present))
    found += [instances.c[name].regexp_match(pattern) for name, pattern in listing.patterns.items()]
    found += [_text("network_info").regexp_match(_in_json(pattern)) for pattern in listing.address_patterns]
    for key, value in listing.metadata.items():
        found.append(_text("metadata").contains(f"{json.dumps(key)}:{json.dumps(value)}", autoescape=True))
    if listing.statuses is not None:
        found.append(or_(false(), *(_status(status) for status in listing.statuses)))
    if listing.deleted is not None:
        gone = instances.c.deleted_at.is_not(None)
        softly = instances.c.vm_state == VmState.SOFT_DELETED.value
        if listing.deleted:
            found.append(or_(gone, softly) if listing.soft_deleted else gone)
        else:
            found.append(not_(gone) if listing.soft_deleted else and_(not_(gone), not_(softly)))
    changed = instances.c.updated_at
    if listing.changes_since is not None:
        recent = or_(changed >= listing.changes_since, and_(changed.is_(None), _made() >= listing.changes_since))
        found.append(recent)
    if listing.changes_before is not None:
        early = or_(changed <= listing.changes_before, and_(changed.is_(None), _made() <= listing.changes_before))
        found.append(early)
    if listing.locked is not None:
        found.append(instances.c.locked_by.is_not(None) if listing.locked else instances.c.locked_by.is_(None))
    return found + _tag_conditions(listing)


def _made() -> ColumnElement[Any]:
    return instances.c.created_at


def _text(name: str) -> ColumnElement[str]:
    return cast(instances.c[name], Text)


def _in_json(pattern: str) -> str:
    """A pattern for an address as a pattern for the JSON text that contains it."""
    start = pattern[1:] if pattern.startswith("^") else f'[^"]*{pattern}'
    return '"address":"' + (start[:-1] + '"' if start.endswith("$") else start)


def _status(status: StatusFilter) -> ColumnElement[bool]:
    in_state = instances.c.vm_state == status.vm_state
    task = instances.c.task_state
    if not status.other:
        return and_(in_state, among(task, status.tasks))
    return and_(in_state, or_(task.is_(None), not_(among(task, status.tasks)))) if status.tasks else in_state


def _tag_conditions(listing: Listing) -> list[ColumnElement[bool]]:
    def has(*wanted: str) -> ColumnElement[bool]:
        return exists().where(tags.c.resource_id == instances.c.uuid, among(tags.c.tag, wanted))

    found = [has(tag) for tag in listing.all_tags]
    if listing.any_tags:
        found.append(has(*listing.any_tags))
    if listing.not_all_tags:
        found.append(not_(and_(true(), *(has(tag) for tag in listing.not_all_tags))))
    if listing.not_any_tags:
        found.append(not_(has(*listing.not_any_tags)))
    return found
