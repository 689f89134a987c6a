"""The table of the Compute API: one list for each noun, joined at the end."""

from __future__ import annotations

from api_cell.edge.route import Route

ROUTES: tuple[Route, ...] = ()
