"""Consumers and their allocations. Claims are conditional updates, so races can't over-commit a provider.

One call writes any number of consumers at once, all or nothing. Rows are locked in one order everywhere: consumers by
uuid, then providers by id, then inventories by provider and class.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Any

from sqlalchemy import Connection, case, delete, insert, or_, select, tuple_, update
from sqlalchemy.dialects import mysql, postgresql, sqlite

from cell_service.errors import ConsumerChanged, InventoryExceeded, ResourceProviderNotFound
from mapping_db.placement import changes, inventories, providers
from mapping_db.placement.inventories import Inventory
from mapping_db.schema import allocations as table
from mapping_db.schema import consumers, resource_providers
from mapping_db.schema import inventories as inventory_table

Amounts = Mapping[str, int]
"""Resource class → amount."""


class Generation(Enum):
    ANY = "any"


ANY = Generation.ANY
"""The consumer's generation is not checked."""


@dataclass(frozen=True, slots=True)
class Claim:
    """All that a consumer is to have: provider uuid → resource class → amount; empty: nothing.

    `generation` None: the consumer must be new.
    """

    consumer_uuid: str
    allocations: Mapping[str, Amounts]
    project_id: str
    user_id: str
    consumer_type: str | None = None
    generation: int | Generation | None = ANY


@dataclass(frozen=True, slots=True)
class Consumer:
    """One row of `consumers`, with what it has: provider uuid → resource class → amount."""

    uuid: str
    project_id: str
    user_id: str
    consumer_type: str | None
    generation: int
    updated_at: datetime
    allocations: Mapping[str, Amounts] = field(default_factory=dict)


def of_consumers(tx: Connection, uuids: Collection[str]) -> dict[str, Consumer]:
    """Those of the consumers that have anything."""
    rows = tx.execute(select(consumers).where(consumers.c.uuid.in_(sorted(uuids)))).all()
    owned: dict[str, dict[str, dict[str, int]]] = defaultdict(lambda: defaultdict(dict))
    for part in tx.execute(
        select(table.c.consumer_uuid, table.c.resource_class, table.c.used, resource_providers.c.uuid)
        .join(resource_providers, resource_providers.c.id == table.c.resource_provider_id)
        .where(table.c.consumer_uuid.in_(sorted(uuids)))
    ):
        owned[part.consumer_uuid][part.uuid][part.resource_class] = part.used
    return {
        row.uuid: Consumer(
            uuid=row.uuid,
            project_id=row.project_id,
            user_id=row.user_id,
            consumer_type=row.consumer_type,
            generation=row.generation,
            updated_at=row.updated_at or row.created_at,
            allocations={provider: dict(amounts) for provider, amounts in owned[row.uuid].items()},
        )
        for row in rows
    }


def of_consumer(tx: Connection, uuid: str) -> Consumer | None:
    return of_consumers(tx, [uuid]).get(uuid)


def on_provider(tx: Connection, provider_id: int) -> dict[str, tuple[dict[str, int], int]]:
    """Consumer uuid → (what it has of this provider, its generation)."""
    found: dict[str, tuple[dict[str, int], int]] = {}
    for row in tx.execute(
        select(table.c.consumer_uuid, table.c.resource_class, table.c.used, consumers.c.generation)
        .join(consumers, consumers.c.uuid == table.c.consumer_uuid)
        .where(table.c.resource_provider_id == provider_id)
    ):
        found.setdefault(row.consumer_uuid, ({}, row.generation))[0][row.resource_class] = row.used
    return found


def providers_of(tx: Connection, consumer_uuids: Collection[str]) -> dict[str, set[str]]:
    """Consumer uuid → uuids of the providers it has something of, for those that have."""
    found: dict[str, set[str]] = {}
    for row in tx.execute(
        select(table.c.consumer_uuid, resource_providers.c.uuid)
        .distinct()
        .join(resource_providers, resource_providers.c.id == table.c.resource_provider_id)
        .where(table.c.consumer_uuid.in_(sorted(consumer_uuids)))
    ):
        found.setdefault(row.consumer_uuid, set()).add(row.uuid)
    return found


def write(tx: Connection, claims: Iterable[Claim], now: datetime, *, units_of_all: bool = False) -> None:
    """Give each consumer exactly what its claim says; an error changes nothing.

    Only differences count: what stays or shrinks is allowed on a provider over its capacity. With `units_of_all`
    amounts that stay or shrink must fit the units of their inventories, as those that grow must. Decided by the rows of
    `consumers` (generation) and `inventories` (used). The generations of all providers that claims name, or
    that a consumer leaves with nothing, are incremented. Raises ConsumerChanged, ResourceProviderNotFound, and
    InventoryExceeded, whose field `providers` has the uuids of all providers that refused.
    """
    ordered = sorted(claims, key=lambda claim: claim.consumer_uuid)
    known = _take_consumers(tx, ordered, now)
    before = _claimed(tx, known)
    ids = _provider_ids(tx, {uuid for claim in ordered for uuid in claim.allocations})
    after = {
        (claim.consumer_uuid, ids[provider], name): amount
        for claim in ordered
        for provider, amounts in claim.allocations.items()
        for name, amount in amounts.items()
    }
    deltas: dict[int, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    checked: dict[int, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for key in before.keys() | after.keys():
        _, provider_id, name = key
        difference = after.get(key, 0) - before.get(key, 0)
        if difference:
            deltas[provider_id][name] += difference
        if difference > 0 or (units_of_all and key in after):
            checked[provider_id][name].append(after[key])
    emptied = {claim.consumer_uuid for claim in ordered if not claim.allocations}
    left = {provider_id for consumer_uuid, provider_id, _ in before if consumer_uuid in emptied}
    providers.advance_all(tx, left.union(ids.values()), now)
    _add_use(tx, deltas, checked)
    _store(tx, before, after)
    if emptied:
        tx.execute(delete(consumers).where(consumers.c.uuid.in_(sorted(emptied))))
    changes.note(tx, deltas, now)


def release(tx: Connection, consumer_uuid: str, now: datetime) -> bool:
    """Remove all of the consumer's allocations. False when it had none."""
    mine = consumers.c.uuid == consumer_uuid
    if tx.execute(select(consumers.c.uuid).where(mine).with_for_update()).first() is None:
        return False
    deltas: dict[int, dict[str, int]] = defaultdict(dict)
    for (_, provider_id, name), used in _claimed(tx, [consumer_uuid]).items():
        deltas[provider_id][name] = -used
    _add_use(tx, deltas, {})
    tx.execute(delete(table).where(table.c.consumer_uuid == consumer_uuid))
    tx.execute(delete(consumers).where(mine))
    changes.note(tx, deltas, now)
    return True


def _take_consumers(tx: Connection, claims: Sequence[Claim], now: datetime) -> list[str]:
    """Lock the consumers' rows by incrementing their generations, and insert new ones. Returns those that existed."""
    rows = tx.execute(
        select(consumers.c.uuid, consumers.c.generation).where(
            consumers.c.uuid.in_([claim.consumer_uuid for claim in claims])
        )
    )
    found = {row.uuid: row.generation for row in rows}
    new = []
    for claim in claims:
        here = found.get(claim.consumer_uuid)
        if claim.generation is not ANY and claim.generation != here:
            raise ConsumerChanged(uuid=claim.consumer_uuid, expected=_text(here), got=_text(claim.generation))
        if here is not None and not _moved_on(tx, claim, here, now):
            if claim.generation is not ANY:
                raise ConsumerChanged(uuid=claim.consumer_uuid, expected="another", got=_text(here))
            here = None
        if here is None and claim.allocations:
            new.append(claim)
    if new:
        made = tx.execute(
            _insert_or_ignore(tx).values(
                [
                    {
                        "uuid": claim.consumer_uuid,
                        "project_id": claim.project_id,
                        "user_id": claim.user_id,
                        "consumer_type": claim.consumer_type,
                        "generation": 1,
                        "created_at": now,
                    }
                    for claim in new
                ]
            ),
            execution_options={"preserve_rowcount": True},
        ).rowcount
        if made < len(new):
            uuids = ", ".join(claim.consumer_uuid for claim in new)
            raise ConsumerChanged(uuid=uuids, expected="another", got="null")
    return sorted(found)


def _text(generation: object) -> str:
    return "null" if generation is None else str(generation)


def _moved_on(tx: Connection, claim: Claim, here: int, now: datetime) -> bool:
    """Lock the consumer's row by incrementing its generation. False when it changed meanwhile, or is gone."""
    values: dict[str, Any] = {"generation": consumers.c.generation + 1, "updated_at": now}
    if claim.allocations:
        values |= {"project_id": claim.project_id, "user_id": claim.user_id}
        if claim.consumer_type is not None:
            values["consumer_type"] = claim.consumer_type
    where = [consumers.c.uuid == claim.consumer_uuid]
    if claim.generation is not ANY:
        where.append(consumers.c.generation == here)
    return bool(tx.execute(update(consumers).where(*where).values(**values)).rowcount)


def _insert_or_ignore(tx: Connection) -> Any:
    """An INSERT that skips rows which another transaction has inserted meanwhile, and counts only its own."""
    if tx.dialect.name == "postgresql":
        return postgresql.insert(consumers).on_conflict_do_nothing()
    if tx.dialect.name == "sqlite":
        return sqlite.insert(consumers).on_conflict_do_nothing()
    return mysql.insert(consumers).prefix_with("IGNORE")


def _claimed(tx: Connection, consumer_uuids: Collection[str]) -> dict[tuple[str, int, str], int]:
    if not consumer_uuids:
        return {}
    rows = tx.execute(
        select(table.c.consumer_uuid, table.c.resource_provider_id, table.c.resource_class, table.c.used).where(
            table.c.consumer_uuid.in_(consumer_uuids)
        )
    )
    return {(row.consumer_uuid, row.resource_provider_id, row.resource_class): row.used for row in rows}


def _provider_ids(tx: Connection, uuids: set[str]) -> dict[str, int]:
    """Raises ResourceProviderNotFound."""
    if not uuids:
        return {}
    rows = tx.execute(
        select(resource_providers.c.uuid, resource_providers.c.id).where(resource_providers.c.uuid.in_(sorted(uuids)))
    )
    found = {row.uuid: row.id for row in rows}
    if missing := sorted(uuids - found.keys()):
        raise ResourceProviderNotFound(uuid=", ".join(missing))
    return found


def _add_use(
    tx: Connection, deltas: Mapping[int, Mapping[str, int]], checked: Mapping[int, Mapping[str, Collection[int]]]
) -> None:
    """Add the deltas, one statement for each provider, if the amounts in `checked` fit the units:

    UPDATE inventories SET used = used + (CASE resource_class WHEN … THEN delta … END) WHERE resource_provider_id = ?
    AND resource_class IN (…) AND (delta <= 0 OR used + delta <= capacity AND min_unit <= … AND max_unit >= …)
    """
    seen = inventories.of_providers(tx, checked) if checked else {}
    refused: list[tuple[int, str, str]] = []
    for provider_id in sorted(deltas.keys() | checked.keys()):
        wanted = {name: delta for name, delta in sorted(deltas.get(provider_id, {}).items()) if delta}
        have = seen.get(provider_id, {})
        reason = _refusal(have, wanted, checked.get(provider_id, {}))
        if reason is not None:
            refused.append((provider_id, *reason))
        elif wanted and not _updated(tx, provider_id, wanted):
            refused.append((provider_id, next(iter(wanted)), "It was claimed by others meanwhile."))
    if refused:
        rows = tx.execute(
            select(resource_providers.c.id, resource_providers.c.uuid).where(
                resource_providers.c.id.in_([provider_id for provider_id, _, _ in refused])
            )
        )
        uuids = {row.id: row.uuid for row in rows}
        first, name, why = refused[0]
        raise InventoryExceeded(
            resource_class=name,
            provider=uuids.get(first, str(first)),
            reason=why,
            providers=tuple(uuids.values()),
        )


def _refusal(
    have: Mapping[str, Inventory], wanted: Amounts, checked: Mapping[str, Collection[int]]
) -> tuple[str, str] | None:
    """The class and the reason, if the inventory already shows that the claim doesn't fit."""
    for name, amounts in checked.items():
        inventory = have.get(name)
        if inventory is None:
            return name, f"Inventory for '{name}' on the provider does not exist."
        for amount in amounts:
            if amount < inventory.min_unit or amount > inventory.max_unit or amount % inventory.step_size:
                return name, (
                    f"The requested amount {amount} violates min_unit {inventory.min_unit}, "
                    f"max_unit {inventory.max_unit} or step_size {inventory.step_size}."
                )
        if wanted.get(name, 0) > max(inventory.free, 0):
            return name, f"The requested amount would exceed the capacity: {max(inventory.free, 0)} are free."
    return None


def _updated(tx: Connection, provider_id: int, wanted: Mapping[str, int]) -> bool:
    column = inventory_table.c
    delta = case(wanted, value=column.resource_class, else_=0)
    changed = tx.execute(
        update(inventory_table)
        .where(
            column.resource_provider_id == provider_id,
            column.resource_class.in_(list(wanted)),
            or_(delta <= 0, column.used + delta <= column.capacity),
        )
        .values(used=column.used + delta)
    )
    return changed.rowcount == len(wanted)


def _store(
    tx: Connection, before: Mapping[tuple[str, int, str], int], after: Mapping[tuple[str, int, str], int]
) -> None:
    stale = sorted(key for key, used in before.items() if after.get(key) != used)
    fresh = sorted(key for key, used in after.items() if before.get(key) != used)
    if stale:
        key_columns = tuple_(table.c.consumer_uuid, table.c.resource_provider_id, table.c.resource_class)
        tx.execute(delete(table).where(key_columns.in_(stale)))
    if fresh:
        rows = [
            {"consumer_uuid": key[0], "resource_provider_id": key[1], "resource_class": key[2], "used": after[key]}
            for key in fresh
        ]
        tx.execute(insert(table), rows)
