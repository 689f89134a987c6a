"""A global database, cells with databases of their own, and the way into them."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import text

from cell_service.context import Deadline
from cell_service.db.sql.engine import Database
from cell_service.rpc.memory import Bus, MemoryTransport
from cell_service.rpc.transport import Transport
from mapping_db import cell_mappings
from mapping_db.cells.registry import Cell, Cells, CellSettings
from mapping_db.upgrades import GLOBAL
from tests.suites.schemas import prepare

NOW = datetime(2026, 3, 1, tzinfo=UTC)


@dataclass(slots=True)
class Federation:
    """`top` is the global database; buses are made as URLs name them."""

    top: Database
    directory: Path
    buses: dict[str, Bus] = field(default_factory=dict)
    closing: list[Callable[[], None]] = field(default_factory=list)

    def add(self, name: str, database_url: str = "", transport_url: str = "") -> int:
        """Map a cell. Answers its id."""
        with self.top.begin() as tx:
            return cell_mappings.insert_new(
                tx, uuid=str(uuid.uuid5(uuid.NAMESPACE_DNS, name)), name=name, now=NOW,
                transport_url=transport_url or f"memory://{name}", database_connection=database_url or self.url(name),
            ).id  # fmt: skip

    def change(self, name: str, **values: object) -> None:
        found = str(uuid.uuid5(uuid.NAMESPACE_DNS, name))
        with self.top.begin() as tx:
            cell_mappings.change(tx, found, now=NOW, **values)  # type: ignore[arg-type]

    def url(self, name: str) -> str:
        """A small database that knows its name."""
        path = self.directory / f"{name}.sqlite"
        if not path.exists():
            made = Database(f"sqlite:///{path}")
            with made.begin() as tx:
                tx.execute(text("CREATE TABLE who (name TEXT)"))
                tx.execute(text("INSERT INTO who VALUES (:name)"), {"name": name})
            made.dispose()
        return f"sqlite:///{path}"

    def open_transport(self, url: str) -> Transport:
        return MemoryTransport(self.buses.setdefault(url, Bus()))

    def cells(self, settings: CellSettings | None = None, *, watched: bool = True) -> Cells:
        """One process's way into the cells; closed with the test. Not `watched`: nothing probes them by itself."""
        made = Cells(self.top, self.open_transport, settings=settings)
        self.closing.append(made.close)
        if watched:
            made.start()
        return made


@pytest.fixture
def federation(tmp_path: Path) -> Iterator[Federation]:
    top = Database(f"sqlite:///{tmp_path / 'top.sqlite'}")
    prepare(top, GLOBAL)
    made = Federation(top, tmp_path)
    yield made
    for close in made.closing:
        close()
    top.dispose()


def soon() -> Deadline:
    """Later than any test should take."""
    return Deadline.after(60)


def who(cell: Cell) -> str:
    """What the cell's database says its name is."""
    with cell.db.connect(soon()) as tx:
        return str(tx.scalar(text("SELECT name FROM who")))
