"""POST /os-server-external-events: what other services report of servers."""

from __future__ import annotations

from typing import Any

from api_cell.edge.route import Request, Response, Route, Schema, Version
from api_cell.edge.shapes import UUID, by_version, strict
from api_cell.edge.versioned import Field, starts, values_at
from api_cell.servers import events as external
from cell_service.model import events

NAMES = (
    Field(events.NETWORK_CHANGED, None),
    Field(events.VIF_PLUGGED, None),
    Field(events.VIF_UNPLUGGED, None),
    Field(events.VIF_DELETED, None),
    Field(events.VOLUME_EXTENDED, None, since=(2, 51)),
    Field(events.POWER_UPDATE, None, since=(2, 76)),
    Field(events.ACCELERATOR_BOUND, None, since=(2, 82)),
    Field(events.VOLUME_REIMAGED, None, since=(2, 93)),
)


def create(req: Request) -> Response:
    """200 {"events": [{…, code, status}]} when all were taken, 207 when some were not."""
    given = req.body["events"]
    receipts = external.deliver(
        req.cloud,
        req.ctx,
        [
            events.ServerEvent(one["name"], one["server_uuid"].lower(), one.get("status", "completed"), one.get("tag"))
            for one in given
        ],
    )
    shown = []
    for one, receipt in zip(given, receipts, strict=True):
        status = receipt.event.status if receipt.code == external.TAKEN else "failed"
        shown.append({**one, "code": receipt.code, "status": status})
    whole = all(receipt.code == external.TAKEN for receipt in receipts)
    return Response(200 if whole else 207, {"events": shown})


def _body(version: Version) -> Schema:
    fields: dict[str, Any] = {
        "name": {"type": "string", "enum": list(values_at(NAMES, version))},
        "server_uuid": UUID,
        "status": {"type": "string", "enum": ["failed", "completed", "in-progress"]},
        "tag": {"type": "string", "maxLength": 255},
    }
    listed = {"type": "array", "minItems": 1, "items": strict(fields, "server_uuid", "name")}
    return strict({"events": listed}, "events")


ROUTES = (
    Route("POST", "/os-server-external-events", create, rule="os_compute_api:os-server-external-events:create",
          body=by_version(_body, *starts(NAMES))),
)  # fmt: skip
