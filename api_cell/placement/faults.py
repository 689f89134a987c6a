"""Faults of the Placement API."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from api_cell.edge.api import ErrorReply
from api_cell.edge.versions import shown
from api_cell.placement import behaviours
from api_cell.placement.history import NEWEST, OLDEST
from cell_service.errors import PolycellError


def placement_fault(fault: ErrorReply) -> dict[str, Any]:
    """The form that the API guidelines give; from placement 1.23 on with the error's `code`."""
    entry: dict[str, Any] = {
        "status": fault.status,
        "title": HTTPStatus(fault.status).phrase,
        "detail": fault.message,
        "request_id": fault.request_id,
    }
    if behaviours.ERRORS_HAVE_A_CODE.at(fault.version):
        entry["code"] = fault.error.code if fault.error is not None else PolycellError.code
    if fault.status == HTTPStatus.NOT_ACCEPTABLE:
        entry |= {"min_version": shown(OLDEST), "max_version": shown(NEWEST)}
    return {"errors": [entry]}
