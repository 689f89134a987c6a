"""`/healthz`: the process lives. `/readyz`: the global database answers; cells are reported, but don't decide."""

from __future__ import annotations

import json
from typing import Any

from cell_service.errors import PolycellError
from cell_service.http.response import RenderedResponse
from mapping_db.cells.guard import ServerHealth
from mapping_db.cloud import Cloud

PATHS = frozenset({"/healthz", "/readyz"})


def answer(path: str, cloud: Cloud) -> RenderedResponse:
    """200 with `{"status": "ok", …}`, or 503 when the global database does not answer."""
    if path == "/healthz":
        return RenderedResponse(200, b'{"status": "ok"}')
    state: dict[str, Any] = {"status": "ok", "database": "ok", "cells": _cells(cloud)}
    try:
        cloud.db.ping()
    except PolycellError:
        state |= {"status": "unavailable", "database": "does not answer"}
    return RenderedResponse(200 if state["status"] == "ok" else 503, json.dumps(state).encode())


def _cells(cloud: Cloud) -> dict[str, Any]:
    """The state of each cell as this process knows it, by the cell's shown name. No cell is waited for: of those that
    it has used and not heard of lately, the next answer knows."""
    cloud.cells.watch_used()
    return {
        cell.mapping.shown: {
            "database": cell.unusable or _word(cell.database), "queue": cell.unusable or _word(cell.queue)
        }
        for cell in cloud.cells.health().values()
    }  # fmt: skip


def _word(server: ServerHealth) -> str:
    """The state in words, without what stands in brackets in a reason (URLs, drivers' texts): this page needs no
    token."""
    return server.reason.partition(" (")[0] or ("ok" if server.reached else "not used yet")
