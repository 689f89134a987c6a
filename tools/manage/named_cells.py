"""Cells by what people type: a name or a uuid, whole, or as far as no other cell begins so."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable

from cell_service.errors import CellMappingNotFound
from mapping_db import cell_mappings
from mapping_db.cell_mappings import CellMapping
from mapping_db.cloud import Cloud
from tools.manage.command import Args

LEAST = 8
"""How much of a uuid is typed at least. Of two or three letters any uuid may begin with a name that is not there."""
HELP = f"its name or uuid, or the beginning of one (of a uuid {LEAST} characters)"


class NoSuchCell(CellMappingNotFound):
    message = "No cell is called {cell}."


class SeveralCells(CellMappingNotFound):
    message = "Several cells are called {cell}: {cells}."


def the_one(cells: Iterable[CellMapping], text: str) -> CellMapping:
    """Raises NoSuchCell; SeveralCells, where it is not clear which one is meant."""
    known = list(cells)
    found = [cell for cell in known if cell.uuid == text] or [cell for cell in known if text and cell.name == text]
    if not found and text:
        of_uuids = len(text) >= LEAST
        found = [cell for cell in known if cell.name.startswith(text) or (of_uuids and cell.uuid.startswith(text))]
    if len(found) == 1:
        return found[0]
    if not found:
        raise NoSuchCell(cell=text)
    raise SeveralCells(cell=text, cells=", ".join(f"{cell.shown} ({cell.uuid})" for cell in found))


def spell_out(cloud: Cloud, args: Args) -> None:
    """`--cell_uuid` becomes the uuid of the cell that is meant. What names no cell stays, for the command to say so.
    Raises SeveralCells, DatabaseUnavailable."""
    text = getattr(args, "cell_uuid", None)
    if not text:
        return
    with cloud.db.connect() as tx:
        cells = cell_mappings.every(tx)
    with contextlib.suppress(NoSuchCell):
        args.cell_uuid = the_one(cells, text).uuid
