"""The providers' inventories: how much of each resource class they have, and how much is in use."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from cell_service.errors import Conflict, Invalid, InventoryInUse, InventoryNotFound
from mapping_db.placement import changes, providers, resource_classes
from mapping_db.placement.providers import Provider
from mapping_db.schema import inventories as table

MAX = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Inventory:
    """One row of `inventories`. `used` is written by claims alone, never by this module."""

    total: int
    reserved: int = 0
    min_unit: int = 1
    max_unit: int = MAX
    step_size: int = 1
    allocation_ratio: float = 1.0
    used: int = 0

    @property
    def capacity(self) -> int:
        return math.floor((self.total - self.reserved) * self.allocation_ratio)

    @property
    def free(self) -> int:
        """How much may still be claimed; negative when an administrator has set the capacity below what is in use."""
        return self.capacity - self.used

    def refuses(self, amount: int) -> str | None:
        """Why this amount can't be claimed from what is free, if so."""
        if amount < self.min_unit or amount > self.max_unit or amount % self.step_size:
            return f"{amount} is not between {self.min_unit} and {self.max_unit} in steps of {self.step_size}"
        return f"{max(self.free, 0)} of {self.capacity} are free" if amount > self.free else None


def from_row(row: Row[Any]) -> Inventory:
    return Inventory(row.total, row.reserved, row.min_unit, row.max_unit, row.step_size, row.allocation_ratio, row.used)


def of_provider(tx: Connection, provider_id: int) -> dict[str, Inventory]:
    """The provider's inventories by resource class."""
    rows = tx.execute(select(table).where(table.c.resource_provider_id == provider_id).order_by(table.c.resource_class))
    return {row.resource_class: from_row(row) for row in rows}


def of_providers(tx: Connection, provider_ids: Collection[int]) -> dict[int, dict[str, Inventory]]:
    """Inventories by provider id and resource class; every given provider has an entry."""
    found: dict[int, dict[str, Inventory]] = {provider_id: {} for provider_id in provider_ids}
    for row in tx.execute(select(table).where(table.c.resource_provider_id.in_(sorted(found)))):
        found[row.resource_provider_id][row.resource_class] = from_row(row)
    return found


def put(
    tx: Connection, provider: Provider, wanted: Mapping[str, Inventory], generation: int | None, now: datetime
) -> int:
    """Give the provider exactly these inventories; what is in use stays in use, also above a lowered capacity.

    Returns its new generation. Raises Invalid (unknown class), InventoryInUse for a class that would be removed while
    in use, GenerationConflict.
    """
    words = f"Unknown resource class in inventory for resource provider {provider.uuid}"
    resource_classes.demand(tx, wanted, words)
    advanced = providers.advance(tx, provider, generation, now)
    have = of_provider(tx, provider.id)
    if gone := sorted(set(have) - set(wanted)):
        _drop(tx, provider, gone)
    for name, inventory in sorted(wanted.items()):
        if name not in have:
            _insert(tx, provider, name, inventory)
        elif _stored(inventory) != _stored(have[name]):
            tx.execute(_update(provider, name).values(**_stored(inventory)))
    changes.note(tx, [provider.id], now)
    return advanced


def add(
    tx: Connection, provider: Provider, name: str, inventory: Inventory, generation: int | None, now: datetime
) -> int:
    """Add one class. Raises Conflict when the provider has it, Invalid, GenerationConflict."""
    resource_classes.demand(tx, [name], f"Unable to create inventory for resource provider {provider.uuid}")
    advanced = providers.advance(tx, provider, generation, now)
    if name in of_provider(tx, provider.id):
        raise Conflict(reason=f"Update conflict: {name} is on resource provider {provider.uuid} already.")
    _insert(tx, provider, name, inventory)
    changes.note(tx, [provider.id], now)
    return advanced


def change(
    tx: Connection, provider: Provider, name: str, inventory: Inventory, generation: int | None, now: datetime
) -> int:
    """Change the numbers of one class. Raises Invalid when the provider does not have it, GenerationConflict."""
    missing = f"No inventory record with resource class for resource provider {provider.uuid}"
    resource_classes.demand(tx, [name], missing)
    advanced = providers.advance(tx, provider, generation, now)
    if not tx.execute(_update(provider, name).values(**_stored(inventory))).rowcount:
        raise Invalid(reason=f"{missing}: No inventory of class {name} found.")
    changes.note(tx, [provider.id], now)
    return advanced


def remove(tx: Connection, provider: Provider, name: str, now: datetime) -> None:
    """Raises InventoryNotFound, InventoryInUse."""
    if name not in of_provider(tx, provider.id):
        raise InventoryNotFound(resource_class=name, uuid=provider.uuid)
    providers.advance(tx, provider, None, now)
    _drop(tx, provider, [name])
    changes.note(tx, [provider.id], now)


def _stored(inventory: Inventory) -> dict[str, Any]:
    return {
        "total": inventory.total,
        "reserved": inventory.reserved,
        "min_unit": inventory.min_unit,
        "max_unit": inventory.max_unit,
        "step_size": inventory.step_size,
        "allocation_ratio": inventory.allocation_ratio,
        "capacity": min(max(inventory.capacity, 0), 2**62),
    }


def _insert(tx: Connection, provider: Provider, name: str, inventory: Inventory) -> None:
    try:
        tx.execute(
            insert(table).values(resource_provider_id=provider.id, resource_class=name, used=0, **_stored(inventory))
        )
    except IntegrityError as error:
        raise Conflict(reason=f"Update conflict: {name} of {provider.uuid} changed meanwhile.") from error


def _update(provider: Provider, name: str) -> Any:
    return update(table).where(table.c.resource_provider_id == provider.id, table.c.resource_class == name)


def _drop(tx: Connection, provider: Provider, names: Collection[str]) -> None:
    """DELETE … WHERE used = 0: the inventory stays if a claim was faster. Raises InventoryInUse, naming what stays."""
    dropped = table.c.resource_provider_id == provider.id, table.c.resource_class.in_(sorted(names))
    if tx.execute(delete(table).where(*dropped, table.c.used == 0)).rowcount < len(names):
        left = tx.execute(select(table.c.resource_class).where(*dropped)).scalars()
        raise InventoryInUse(resource_classes=", ".join(resource_classes.in_order(left)), uuid=provider.uuid)
