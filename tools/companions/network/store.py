"""The storage of the network companion: one table of records by noun, and tables for what must be unique.

Columns are what is searched often; all else of a record is in `doc`. Addresses are numbered from their subnet's
first address, so that the first free one is found by the database.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Index,
    Integer,
    MetaData,
    RowMapping,
    Table,
    Text,
    delete,
    insert,
    select,
    text,
)

from tools.companions.store import doc, ident

Record = dict[str, Any]

metadata = MetaData()
records = Table(
    "records",
    metadata,
    Column("sequence", Integer, primary_key=True),
    ident("id", unique=True, nullable=False),
    ident("noun", nullable=False, index=True),
    ident("project_id", nullable=False, index=True),
    Column("name", Text, nullable=False),
    ident("network_id", index=True),
    ident("device_id", index=True),
    ident("parent_id", index=True),
    Column("revision_number", Integer, nullable=False),
    Column("created_at", Text, nullable=False),
    Column("updated_at", Text, nullable=False),
    doc(),
)  # fmt: skip
"""`parent_id`: of a rule its group, of a floating address its port."""
addresses = Table(
    "addresses",
    metadata,
    ident("network_id", primary_key=True),
    Column("address", Text, primary_key=True),
    ident("subnet_id", nullable=False),
    ident("port_id", nullable=False, index=True),
    Column("number", BigInteger),
    Column("place", Integer, nullable=False),
    Index("addresses_by_number", "subnet_id", "number"),
)
macs = Table(
    "macs",
    metadata,
    ident("network_id", primary_key=True),
    Column("mac", Text, primary_key=True),
    ident("port_id", nullable=False, index=True),
)
quotas = Table(
    "quotas",
    metadata,
    ident("project_id", primary_key=True),
    ident("resource", primary_key=True),
    Column("most", Integer, nullable=False),
)

LARGEST_NUMBER = 2**62
COLUMNS = ("id", "project_id", "name", "network_id", "device_id", "revision_number", "created_at", "updated_at")
_SEARCHED = ("id", "project_id", "network_id", "device_id", "name")


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def new_id() -> str:
    return str(uuid4())


def find(tx: Connection, noun: str, record_id: str) -> Record | None:
    row = tx.execute(select(records).where(records.c.noun == noun, records.c.id == record_id)).mappings().first()
    return _flat(row) if row else None


def search(tx: Connection, noun: str, **wanted: Sequence[str]) -> list[Record]:
    """All records of a noun, oldest first, whose columns have one of these values each."""
    query = select(records).where(records.c.noun == noun).order_by(records.c.sequence)
    for name, values in wanted.items():
        query = query.where(records.c[name].in_(list(values)))
    return [_flat(row) for row in tx.execute(query).mappings()]


def searchable(name: str) -> bool:
    """Whether `search` can filter by this attribute."""
    return name in _SEARCHED


def add(tx: Connection, noun: str, record: Record) -> None:
    moment = now()
    whole = {"created_at": moment, "updated_at": moment, "revision_number": 1, "name": "", **record}
    tx.execute(insert(records).values(noun=noun, **_split(whole)))


def change(tx: Connection, record: Record, values: Mapping[str, Any]) -> None:
    """Change the record, and raise its revision."""
    whole = {**record, **values, "updated_at": now(), "revision_number": record["revision_number"] + 1}
    tx.execute(records.update().where(records.c.id == record["id"]).values(**_split(whole)))


def remove(tx: Connection, record_id: str) -> None:
    tx.execute(delete(records).where(records.c.id == record_id))


def _split(record: Record) -> Record:
    columns = {name: record[name] for name in (*COLUMNS, "parent_id") if name in record}
    return columns | {"doc": {name: value for name, value in record.items() if name not in columns}}


def _flat(row: RowMapping) -> Record:
    values = dict(row)
    values.pop("sequence")
    values.pop("noun")
    rest: Record = values.pop("doc")
    return rest | values


def fixed_ips_of(tx: Connection, port_ids: Sequence[str]) -> dict[str, list[dict[str, str]]]:
    """Port id → its addresses, in order."""
    found: dict[str, list[dict[str, str]]] = {}
    for start in range(0, len(port_ids), 500):
        part = list(port_ids[start : start + 500])
        query = select(addresses).where(addresses.c.port_id.in_(part)).order_by(addresses.c.port_id, addresses.c.place)
        for row in tx.execute(query):
            found.setdefault(row.port_id, []).append({"subnet_id": row.subnet_id, "ip_address": row.address})
    return found


def ports_with_address(tx: Connection, address: str | None, subnet_id: str | None) -> set[str]:
    query = select(addresses.c.port_id)
    if address is not None:
        query = query.where(addresses.c.address == address)
    if subnet_id is not None:
        query = query.where(addresses.c.subnet_id == subnet_id)
    return set(tx.execute(query).scalars())


def take_address(tx: Connection, port: Record, subnet_id: str, address: str, number: int, place: int) -> None:
    """Raises IntegrityError when another port has it."""
    row = {"network_id": port["network_id"], "address": address, "subnet_id": subnet_id, "port_id": port["id"]}
    kept = number if 0 <= number < LARGEST_NUMBER else None
    tx.execute(insert(addresses).values(**row, number=kept, place=place))


_TAKEN = text("SELECT 1 FROM addresses WHERE subnet_id = :subnet AND number = :first")
_AFTER = text(
    "SELECT one.number + 1 FROM addresses one"
    " LEFT JOIN addresses other ON other.subnet_id = :subnet AND other.number = one.number + 1"
    " WHERE one.subnet_id = :subnet AND one.number >= :first AND one.number < :last AND other.number IS NULL"
    " ORDER BY one.number LIMIT 1"
)


def first_free(tx: Connection, subnet_id: str, first: int, last: int) -> int | None:
    """The lowest free number in that range: the first, or one that follows a number taken."""
    span = {"subnet": subnet_id, "first": first, "last": last}
    if tx.execute(_TAKEN, {"subnet": subnet_id, "first": first}).first() is None:
        return first if first <= last else None
    found = tx.execute(_AFTER, span).scalar()
    return None if found is None else int(found)


def release(tx: Connection, port_id: str) -> None:
    """Release all addresses of the port."""
    tx.execute(delete(addresses).where(addresses.c.port_id == port_id))


def take_mac(tx: Connection, network_id: str, mac: str, port_id: str) -> None:
    """Raises IntegrityError when another port of the network has it."""
    tx.execute(insert(macs).values(network_id=network_id, mac=mac, port_id=port_id))


def give_mac_back(tx: Connection, port_id: str) -> None:
    tx.execute(delete(macs).where(macs.c.port_id == port_id))
