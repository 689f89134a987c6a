"""Saving: every database is frozen first, the global one before all cells, and then read at leisure.

The order decides what a restored set lacks. A cell's rows are what the global ones can be made from again (a mapping
from a row, a delete from a deleted row), and not the other way round; so cells are never older than the global
database. See docs/decisions/snapshots.md.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from sqlalchemy import Connection

from cell_service import version
from cell_service.db.sql.engine import translated
from cell_service.errors import DatabaseUnavailable, PolycellError
from mapping_db import cell_mappings
from mapping_db.cell_mappings import CELL0_UUID, CellMapping
from mapping_db.cloud import Cloud
from tools.manage.named_cells import the_one
from tools.manage.out import Out
from tools.manage.probes import reason_of
from tools.manage.settings import Settings
from tools.manage.snapshots import rows
from tools.manage.snapshots.databases import Place, place_of, place_of_global, schema_version
from tools.manage.snapshots.files import Manifest, Missing, Part, Writer, member_of

AT_ONCE = 8
SKIPPED = "left out by --skip-cell"


@dataclass(frozen=True, slots=True)
class _Frozen:
    """A database as it was at one moment."""

    place: Place
    tx: Connection
    schema: str


def save(cloud: Cloud, settings: Settings, writer: Writer, skip: Collection[str], out: Out) -> Manifest:
    """Write a snapshot of all databases; of cells that answer, and that `skip` does not name. Raises
    DatabaseUnavailable when the global one does not answer, NoSuchCell, Invalid."""
    parts: list[Part] = []
    missing: list[Missing] = []
    top = place_of_global(settings)
    with contextlib.ExitStack() as stack:
        began = cloud.clock.now()
        with cloud.db.connect() as tx:
            rows.freeze(tx)
            cells = cell_mappings.every(tx)
            left_out = {the_one(cells, text).uuid for text in skip}
            frozen = _freeze_all([cell for cell in cells if cell.uuid not in left_out], settings, stack, missing)
            missing += [Missing(cell.shown, cell.uuid, SKIPPED) for cell in cells if cell.uuid in left_out]
            with out.progress("saving databases", 1 + len(frozen)) as step:
                parts.append(_write(_Frozen(top, tx, schema_version(tx, top)), writer))
                step(1)
                for each in sorted(frozen, key=lambda found: (found.place.uuid != CELL0_UUID, found.place.name)):
                    try:
                        with translated(each.place.shown_url):
                            parts.append(_write(each, writer))
                    except PolycellError as error:
                        missing.append(Missing(each.place.name, each.place.uuid, reason_of(error)))
                    step(1)
    manifest = Manifest(began, version.installed(), tuple(parts), tuple(missing))
    writer.finish(manifest)
    return manifest


def _freeze_all(
    cells: Collection[CellMapping], settings: Settings, stack: contextlib.ExitStack, missing: list[Missing]
) -> list[_Frozen]:
    """All cells' databases, frozen at about the same moment; one that does not answer becomes a `missing` one."""
    found: list[_Frozen] = []
    with ThreadPoolExecutor(AT_ONCE) as threads:
        begun = [(cell, threads.submit(_freeze, cell, settings)) for cell in cells]
        for cell, pending in begun:
            try:
                opened, frozen = pending.result()
            except PolycellError as error:
                missing.append(Missing(cell.shown, cell.uuid, reason_of(error)))
            else:
                stack.enter_context(opened)
                found.append(frozen)
    return found


def _freeze(cell: CellMapping, settings: Settings) -> tuple[contextlib.ExitStack, _Frozen]:
    """The database, and what closes it. Raises Unavailable, Invalid."""
    place = place_of(cell, settings)
    with contextlib.ExitStack() as stack:
        if place.is_missing_file:
            raise DatabaseUnavailable(reason=f"{place.shown_url} is not there")
        tx = stack.enter_context(stack.enter_context(place.opened()).connect())
        rows.freeze(tx)
        frozen = _Frozen(place, tx, schema_version(tx, place))
        return stack.pop_all(), frozen
    raise AssertionError("unreachable")


def _write(frozen: _Frozen, writer: Writer) -> Part:
    place, tx = frozen.place, frozen.tx
    counts: dict[str, int] = {}
    member = member_of(place.uuid)
    written = writer.add(member, rows.lines(tx, rows.stored_tables(tx, place.metadata), counts))
    return Part(place.name, place.uuid, frozen.schema, _dialect(tx), member, written.bytes, written.sha256, counts)


def _dialect(tx: Connection) -> str:
    return "mysql" if tx.dialect.name == "mariadb" else tx.dialect.name
