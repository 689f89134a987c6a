"""Faults as the Compute API writes them, and what of an error may be said to a client."""

from __future__ import annotations

from typing import Any

from api_cell.edge.api import ErrorReply
from cell_service.errors import PolycellError

NAMES = {
    400: "badRequest",
    401: "unauthorized",
    403: "forbidden",
    404: "itemNotFound",
    405: "badMethod",
    409: "conflictingRequest",
    413: "overLimit",
    415: "badMediaType",
    429: "overLimit",
    501: "notImplemented",
    503: "serviceUnavailable",
}
RETRY_SECONDS = 1


def compute_fault(fault: ErrorReply) -> dict[str, Any]:
    """Nova's form: the fault's name over its code and message."""
    content: dict[str, Any] = {"code": fault.status, "message": fault.message}
    if fault.retry_after is not None and fault.status in (413, 429):
        content["retryAfter"] = str(fault.retry_after)
    return {NAMES.get(fault.status, "computeFault"): content}


def hidden(request_id: str) -> str:
    """The message of a bug for clients: where the operator finds it, and no more."""
    return f"Something went wrong inside the service. Please give its operator the request id {request_id}."


def retry_after(error: PolycellError) -> int | None:
    """Seconds after which trying again makes sense; None where it doesn't."""
    seconds = error.fields.get("retry_after")
    if seconds is not None:
        return max(1, round(float(seconds)))
    return RETRY_SECONDS if error.status == 503 else None
