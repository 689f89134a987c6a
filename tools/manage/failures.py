"""The line that an operator reads when something fails: what is wrong, at which URL, and what to do about it."""

from __future__ import annotations

from cell_service.db.schema import metadata as cell_metadata
from cell_service.errors import CellUnavailable, PolycellError, SchemaMissing
from mapping_db.schema import metadata as global_metadata


def explained(error: PolycellError) -> str:
    """The error in one line, with the reason that users of the API do not get, and the command that helps."""
    text, reason = str(error), str(error.fields.get("reason") or "")
    missing = next((each for each in (error, error.__cause__) if isinstance(each, SchemaMissing)), None)
    if isinstance(error, CellUnavailable) and reason:
        text = f"{text.removesuffix('.')}: {reason if missing is None else str(missing)}."
    if missing is not None:
        text = f"{text.removesuffix('.')}. Run `{sync_command(missing)}`."
    return one_line(text)


def one_line(text: str) -> str:
    """The text without line breaks and repeated blanks."""
    return " ".join(text.split())


def sync_command(missing: SchemaMissing) -> str:
    """The command that makes what the database lacks; both where a column is missing, which may be of either."""
    table = missing.fields.get("table")
    of_global, of_cell = table in global_metadata.tables, table in cell_metadata.tables
    if of_global and not of_cell:
        return "polycell-manage api_db sync"
    return (
        "polycell-manage db sync"
        if of_cell and not of_global
        else "polycell-manage api_db sync && polycell-manage db sync"
    )
