"""Resource classes: the standard ones, and custom ones in a table."""

from __future__ import annotations

from collections.abc import Iterable

import os_resource_classes
from sqlalchemy import Connection, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from cell_service.errors import Invalid, PlacementNameTaken, ResourceClassInUse, ResourceClassNotFound
from mapping_db.schema import inventories, resource_classes

STANDARD: tuple[str, ...] = tuple(os_resource_classes.STANDARDS)
_STANDARD = frozenset(STANDARD)


def names(tx: Connection) -> list[str]:
    """All classes, the standard ones first."""
    custom = tx.execute(select(resource_classes.c.name).order_by(resource_classes.c.name)).scalars()
    return [*STANDARD, *custom]


def in_order(some: Iterable[str]) -> list[str]:
    """Standard classes in the order of the standard, then the others by name."""
    return sorted(some, key=lambda name: (STANDARD.index(name) if name in _STANDARD else len(STANDARD), name))


def unknown(tx: Connection, wanted: Iterable[str]) -> list[str]:
    """Those of the names that are no resource class."""
    custom = sorted(set(wanted) - _STANDARD)
    if not custom:
        return []
    known = set(tx.execute(select(resource_classes.c.name).where(resource_classes.c.name.in_(custom))).scalars())
    return [name for name in custom if name not in known]


def demand(tx: Connection, wanted: Iterable[str], words: str) -> None:
    """Raises Invalid, with what is wrong in `words`, unless all of them exist."""
    if strange := unknown(tx, wanted):
        raise Invalid(reason=f"{words}: No such resource class {', '.join(strange)}.")


def find(tx: Connection, name: str) -> None:
    """Raises ResourceClassNotFound."""
    if unknown(tx, [name]):
        raise ResourceClassNotFound(name=name)


def add(tx: Connection, name: str) -> None:
    """Raises PlacementNameTaken."""
    if not unknown(tx, [name]):
        raise PlacementNameTaken(what="Conflicting resource class", name=name)
    try:
        tx.execute(insert(resource_classes).values(name=name))
    except IntegrityError as error:
        raise PlacementNameTaken(what="Conflicting resource class", name=name) from error


def rename(tx: Connection, name: str, new_name: str) -> None:
    """Give a custom class a new name. Raises ResourceClassNotFound, PlacementNameTaken, ResourceClassInUse, Invalid."""
    if name in _STANDARD:
        raise Invalid(reason=f"Cannot update standard resource class {name}")
    _demand_unused(tx, name)
    if name != new_name and not unknown(tx, [new_name]):
        raise PlacementNameTaken(what="Resource class", name=new_name)
    if not tx.execute(update(resource_classes).where(resource_classes.c.name == name).values(name=new_name)).rowcount:
        raise ResourceClassNotFound(name=name)


def remove(tx: Connection, name: str) -> None:
    """Raises ResourceClassNotFound, ResourceClassInUse, Invalid for a standard class."""
    if name in _STANDARD:
        raise Invalid(reason=f"Cannot delete standard resource class {name}")
    _demand_unused(tx, name)
    if not tx.execute(delete(resource_classes).where(resource_classes.c.name == name)).rowcount:
        raise ResourceClassNotFound(name=name)


def _demand_unused(tx: Connection, name: str) -> None:
    if tx.execute(select(inventories.c.resource_class).where(inventories.c.resource_class == name).limit(1)).first():
        raise ResourceClassInUse(name=name)
