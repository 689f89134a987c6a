"""Rows of `flavors` and `flavor_projects`: flavors, and which projects may use private ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Select, delete, exists, insert, select, update
from sqlalchemy.exc import IntegrityError

from cell_service.errors import (
    FlavorAccessExists,
    FlavorAccessNotFound,
    FlavorExists,
    FlavorExtraSpecNotFound,
    FlavorIdExists,
    FlavorNotFound,
    Invalid,
)
from cell_service.model.instance import Flavor
from mapping_db.schema import flavor_projects, flavors

SORT_KEYS = {
    name: flavors.c[name]
    for name in ("created_at", "description", "disabled", "ephemeral_gb", "flavorid", "id", "is_public", "memory_mb",
                 "name", "root_gb", "rxtx_factor", "swap", "updated_at", "vcpus")
} | {"vcpu_weight": flavors.c.id}  # fmt: skip
_NAMES = {
    "memory_mib": "memory_mb", "root_gib": "root_gb", "ephemeral_gib": "ephemeral_gb", "swap_mib": "swap",
}  # fmt: skip
_FIELDS = tuple(Flavor.__dataclass_fields__)
_COLUMNS = [flavors.c[_NAMES.get(name, name)].label(name) for name in _FIELDS]


@dataclass(frozen=True, slots=True)
class FlavorQuery:
    """Which flavors, in which order. `seen_by` None: an administrator's view, else only what that project may use.

    `is_public` None: public and private. True shows also the private ones that `seen_by` or `own_project` may use.
    `marker` is the flavorid before the page.
    """

    seen_by: str | None = None
    own_project: str = ""
    is_public: bool | None = True
    min_ram_mib: int = 0
    min_disk_gib: int = 0
    name: str | None = None
    sort_key: str = "flavorid"
    descending: bool = False
    marker: str | None = None
    limit: int | None = None


def insert_flavor(tx: Connection, flavor: Flavor, now: datetime) -> None:
    """Raises FlavorExists, FlavorIdExists."""
    values = {_NAMES.get(name, name): getattr(flavor, name) for name in _FIELDS}
    try:
        with tx.begin_nested():
            tx.execute(insert(flavors).values(**values, created_at=now))
    except IntegrityError as error:
        if tx.execute(select(flavors.c.id).where(flavors.c.name == flavor.name)).first() is not None:
            raise FlavorExists(name=flavor.name) from error
        raise FlavorIdExists(flavor_id=flavor.flavorid) from error


def row_ids(tx: Connection, flavorids: Iterable[str]) -> dict[str, int]:
    """The row ids of those of the flavors that exist, as migration records have them, by flavorid."""
    rows = tx.execute(select(flavors.c.flavorid, flavors.c.id).where(flavors.c.flavorid.in_(list(flavorids))))
    return {row.flavorid: row.id for row in rows}


def get(tx: Connection, flavorid: str, seen_by: str | None = None) -> Flavor:
    """`seen_by`: a project; private flavors that it may not use are not found. Raises FlavorNotFound."""
    row = tx.execute(_visible(select(*_COLUMNS).where(flavors.c.flavorid == flavorid), seen_by)).one_or_none()
    if row is None:
        raise FlavorNotFound(flavor_id=flavorid)
    return _flavor(row)


def page(tx: Connection, wanted: FlavorQuery) -> list[Flavor]:
    """Raises Invalid when the marker is unknown."""
    query = _visible(select(*_COLUMNS), wanted.seen_by)
    if wanted.is_public is not None:
        query = query.where(_offered(wanted.is_public, wanted.own_project))
    if wanted.seen_by is not None:
        query = query.where(flavors.c.disabled.is_(False))
    if wanted.min_ram_mib > 0:
        query = query.where(flavors.c.memory_mb >= wanted.min_ram_mib)
    if wanted.min_disk_gib > 0:
        query = query.where(flavors.c.root_gb >= wanted.min_disk_gib)
    if wanted.name is not None:
        query = query.where(flavors.c.name == wanted.name)
    key = SORT_KEYS[wanted.sort_key]
    if wanted.descending:
        query = query.order_by(key.is_(None), key.desc(), flavors.c.flavorid.desc())
    else:
        query = query.order_by(key.is_not(None), key, flavors.c.flavorid)
    found = [_flavor(row) for row in tx.execute(query)]
    start = 0
    if wanted.marker is not None:
        ids = [flavor.flavorid for flavor in found]
        if wanted.marker not in ids:
            raise Invalid(reason=f"marker [{wanted.marker}] not found")
        start = ids.index(wanted.marker) + 1
    return found[start:] if wanted.limit is None else found[start : start + wanted.limit]


def set_description(tx: Connection, flavorid: str, description: str | None, now: datetime) -> None:
    """Raises FlavorNotFound."""
    _update(tx, flavorid, now, description=description)


def remove(tx: Connection, flavorid: str) -> None:
    """Remove the flavor and its access list; instances keep their copy. Raises FlavorNotFound."""
    flavor_id = _id(tx, flavorid)
    tx.execute(delete(flavor_projects).where(flavor_projects.c.flavor_id == flavor_id))
    tx.execute(delete(flavors).where(flavors.c.id == flavor_id))


def put_extra_specs(tx: Connection, flavorid: str, specs: Mapping[str, str], now: datetime) -> dict[str, str]:
    """Add or change these extra specs, under a lock on the flavor's row; return all of them. Raises FlavorNotFound."""
    merged = {**_locked_specs(tx, flavorid), **specs}
    _update(tx, flavorid, now, extra_specs=merged)
    return merged


def remove_extra_spec(tx: Connection, flavorid: str, key: str, now: datetime) -> None:
    """Raises FlavorNotFound, FlavorExtraSpecNotFound."""
    specs = _locked_specs(tx, flavorid)
    if key not in specs:
        raise FlavorExtraSpecNotFound(flavor_id=flavorid, key=key)
    _update(tx, flavorid, now, extra_specs={name: value for name, value in specs.items() if name != key})


def projects_of(tx: Connection, flavorid: str) -> list[str]:
    """The projects that may use a private flavor, by id. Raises FlavorNotFound."""
    query = select(flavor_projects.c.project_id).where(flavor_projects.c.flavor_id == _id(tx, flavorid))
    return sorted(tx.execute(query).scalars())


def add_project(tx: Connection, flavorid: str, project_id: str) -> None:
    """Raises FlavorNotFound, FlavorAccessExists."""
    row = {"flavor_id": _id(tx, flavorid), "project_id": project_id}
    try:
        with tx.begin_nested():
            tx.execute(insert(flavor_projects).values(row))
    except IntegrityError as error:
        raise FlavorAccessExists(flavor_id=flavorid, project_id=project_id) from error


def remove_project(tx: Connection, flavorid: str, project_id: str) -> None:
    """Raises FlavorNotFound, FlavorAccessNotFound."""
    where = (flavor_projects.c.flavor_id == _id(tx, flavorid)) & (flavor_projects.c.project_id == project_id)
    if not tx.execute(delete(flavor_projects).where(where)).rowcount:
        raise FlavorAccessNotFound(flavor_id=flavorid, project_id=project_id)


def _visible(query: Select[Any], seen_by: str | None) -> Select[Any]:
    return query if seen_by is None else query.where(flavors.c.is_public.is_(True) | _used_by(seen_by))


def _offered(is_public: bool, project_id: str) -> ColumnElement[bool]:
    wanted = flavors.c.is_public.is_(is_public)
    return wanted | _used_by(project_id) if is_public and project_id else wanted


def _used_by(project_id: str) -> ColumnElement[bool]:
    return exists().where(flavor_projects.c.flavor_id == flavors.c.id, flavor_projects.c.project_id == project_id)


def _id(tx: Connection, flavorid: str) -> int:
    found = tx.execute(select(flavors.c.id).where(flavors.c.flavorid == flavorid)).scalar()
    if found is None:
        raise FlavorNotFound(flavor_id=flavorid)
    return int(found)


def _locked_specs(tx: Connection, flavorid: str) -> dict[str, str]:
    query = select(flavors.c.extra_specs).where(flavors.c.flavorid == flavorid).with_for_update()
    row = tx.execute(query).one_or_none()
    if row is None:
        raise FlavorNotFound(flavor_id=flavorid)
    return dict(row.extra_specs)


def _update(tx: Connection, flavorid: str, now: datetime, **values: object) -> None:
    statement = update(flavors).where(flavors.c.flavorid == flavorid).values(updated_at=now, **values)
    if not tx.execute(statement).rowcount:
        raise FlavorNotFound(flavor_id=flavorid)


def _flavor(row: Row[Any]) -> Flavor:
    return Flavor(**row._mapping)
