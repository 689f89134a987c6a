"""Actions on servers whose cell does not answer are recorded, if the client asks for it by a header."""

from __future__ import annotations

from collections.abc import Callable

from api_cell.edge.route import Request, Response
from cell_service.errors import CellUnavailable, Invalid

HEADER = "X-Polycell-Cell-Down"
"""The header of a request: `record` records its action, `refuse` (the default) answers 503."""
RECORDED = "X-Polycell-Recorded"
"""The header of the answer to an action that was recorded: `true`."""


def or_recorded(req: Request, do: Callable[[], Response], record: Callable[[], None]) -> Response:
    """The answer of `do`; or 202, if the server's cell does not answer and the client wants the action recorded."""
    wanted = req.headers.get(HEADER, "refuse").strip().lower()
    if wanted not in ("record", "refuse"):
        raise Invalid(reason=f"{HEADER} is record or refuse.")
    try:
        return do()
    except CellUnavailable:
        if wanted == "refuse":
            raise
    record()
    return Response(202, None, {RECORDED: "true"})
