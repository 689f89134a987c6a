"""Rows of `cell_mappings`: all cells. Every change also increments `topology.version`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, delete, insert, select, update

from cell_service.errors import CellMappingNotFound, Conflict, Invalid
from mapping_db.schema import cell_mappings, host_mappings, instance_mappings, topology

CELL0_UUID = "00000000-0000-0000-0000-000000000000"
FULL_WEIGHT = 100
NAME_CHARACTERS = 255


@dataclass(frozen=True, slots=True)
class CellMapping:
    """One row of `cell_mappings`. `id` is the database's, small and never reused.

    `weight`: the cell's share of new servers, 0 (drained: none) to 100. `reserved`: only the projects that it is
    kept for get servers there. In the rows of this module the URLs are as stored, perhaps templates; `cells` fills
    them in.
    """

    id: int
    uuid: str
    name: str
    transport_url: str
    database_connection: str
    disabled: bool = False
    weight: int = FULL_WEIGHT
    reserved: bool = False

    @property
    def is_cell0(self) -> bool:
        return self.uuid == CELL0_UUID

    @property
    def shown(self) -> str:
        """The cell in logs and errors: its name, or its uuid when it has none."""
        return self.name or self.uuid


_COLUMNS = [cell_mappings.c[name] for name in CellMapping.__dataclass_fields__]


def insert_new(
    tx: Connection, *, uuid: str, name: str, transport_url: str, database_connection: str, now: datetime,
    disabled: bool = False, weight: int = FULL_WEIGHT, reserved: bool = False
) -> CellMapping:  # fmt: skip
    """Add a cell. Names may repeat, as in nova; the uuid may not. Raises Conflict when the uuid is taken, Invalid for a
    weight that is out of range and for a name that is too long."""
    _check(weight)
    demand_name(name, "name of a cell")
    if tx.scalar(select(cell_mappings.c.id).where(cell_mappings.c.uuid == uuid)) is not None:
        raise Conflict(reason=f"Cell with uuid {uuid} already exists.")
    statement = insert(cell_mappings).values(
        uuid=uuid, name=name or None, transport_url=transport_url, database_connection=database_connection,
        disabled=disabled, created_at=now, weight=weight, reserved=reserved,
    )  # fmt: skip
    tx.execute(statement)
    bump(tx)
    return get(tx, uuid)


def change(
    tx: Connection, uuid: str, *, now: datetime, name: str | None = None, transport_url: str | None = None,
    database_connection: str | None = None, disabled: bool | None = None, weight: int | None = None,
    reserved: bool | None = None
) -> CellMapping:  # fmt: skip
    """Change what is not None. Raises CellMappingNotFound; Invalid for a weight that is out of range and for a
    name that is too long."""
    demand_name(name or "", "name of a cell")
    if weight is not None:
        _check(weight)
    given = {
        "name": name,
        "transport_url": transport_url,
        "database_connection": database_connection,
        "disabled": disabled,
        "weight": weight,
        "reserved": reserved,
    }
    values = {column: value for column, value in given.items() if value is not None}
    statement = update(cell_mappings).where(cell_mappings.c.uuid == uuid).values(**values, updated_at=now)
    if not tx.execute(statement).rowcount:
        raise CellMappingNotFound(cell=uuid)
    bump(tx)
    return get(tx, uuid)


def remove(tx: Connection, uuid: str) -> None:
    """Delete the cell, its host mappings and the mappings of its instances.

    The caller checks first that it has no hosts and no living instances. Raises CellMappingNotFound.
    """
    cell = get(tx, uuid)
    tx.execute(delete(host_mappings).where(host_mappings.c.cell_id == cell.id))
    tx.execute(delete(instance_mappings).where(instance_mappings.c.cell_id == cell.id))
    tx.execute(delete(cell_mappings).where(cell_mappings.c.id == cell.id))
    bump(tx)


def get(tx: Connection, uuid: str) -> CellMapping:
    """Raises CellMappingNotFound."""
    row = tx.execute(select(*_COLUMNS).where(cell_mappings.c.uuid == uuid)).one_or_none()
    if row is None:
        raise CellMappingNotFound(cell=uuid)
    return CellMapping(**{**row._mapping, "name": row.name or ""})


def every(tx: Connection) -> tuple[CellMapping, ...]:
    """All cells by id, cell0 among them."""
    rows = tx.execute(select(*_COLUMNS).order_by(cell_mappings.c.id))
    return tuple(CellMapping(**{**row._mapping, "name": row.name or ""}) for row in rows)


def topology_version(tx: Connection) -> int:
    """The number that grows with each change of a cell mapping; 0 before the first."""
    return tx.scalar(select(topology.c.version).where(topology.c.id == 1)) or 0


def bump(tx: Connection) -> None:
    """Make every process read the topology again."""
    if not tx.execute(update(topology).where(topology.c.id == 1).values(version=topology.c.version + 1)).rowcount:
        tx.execute(insert(topology).values(id=1, version=1))


def demand_name(text: str, what: str) -> None:
    """Raises Invalid for a text that no column of names takes; `what` it is."""
    if len(text) > NAME_CHARACTERS:
        raise Invalid(reason=f"The {what} has {len(text)} characters; at most {NAME_CHARACTERS} are possible.")
    if any(sign == "\0" or "\ud800" <= sign <= "\udfff" for sign in text):
        raise Invalid(reason=f"The {what} is not text.")


def _check(weight: int) -> None:
    if not 0 <= weight <= FULL_WEIGHT:
        raise Invalid(reason=f"The weight of a cell is 0 to {FULL_WEIGHT}, not {weight}.")
