"""Which servers a list wants, and words of requests as clients write them: times, yes and no."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from api_cell.timestamps import parse_timestamp
from cell_service.db.instance_lists import Listing
from cell_service.errors import Invalid

_TRUE = {"1", "t", "true", "on", "y", "yes"}
_FALSE = {"0", "f", "false", "off", "n", "no", ""}


@dataclass(frozen=True, slots=True)
class ListQuery:
    """A listing with its scope. `project_id` None: all projects. `indexed`: the mappings alone give the order and
    the members of the page. `nothing`: no server can match. `brief`: their names are enough.
    `shows_down_cells`: servers of cells that are down are shown as far as their mappings know them (2.69)."""

    listing: Listing
    project_id: str | None
    marker: str | None
    limit: int
    indexed: bool
    nothing: bool = False
    brief: bool = False
    shows_down_cells: bool = False


def boolean(text: str, name: str) -> bool:
    """A yes or no as clients write it. Raises Invalid."""
    word = text.strip().lower()
    if word in _TRUE:
        return True
    if word in _FALSE:
        return False
    raise Invalid(reason=f"Unrecognized value '{text}' for {name}, acceptable values are booleans")


def parse_moment(name: str, value: str) -> datetime:
    """A time as clients write it; UTC where they don't say. Raises Invalid."""
    try:
        return parse_timestamp(value)
    except ValueError:
        raise Invalid(reason=f"Invalid {name} value '{value}'") from None
