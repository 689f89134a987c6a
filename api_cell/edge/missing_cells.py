"""Saying which cells an answer lacks."""

from __future__ import annotations

from collections.abc import Collection
from urllib.parse import quote, unquote

from api_cell.edge.route import Request

HEADER = "X-Polycell-Missing-Cells"
_PLAIN = " !#$&'()*+-./:;<=>?@[]^_`{|}~"


def header(req: Request, cell_ids: Collection[int]) -> dict[str, str]:
    """The header that names these cells; nothing when there are none. Commas and what is not ASCII are quoted."""
    if not cell_ids:
        return {}
    found = map(req.cloud.cells.name, sorted(cell_ids))
    return {HEADER: ", ".join(quote(name, safe=_PLAIN) for name in found)}


def names(value: str) -> list[str]:
    """The cells that such a header names."""
    return [unquote(name) for name in value.split(", ")]
