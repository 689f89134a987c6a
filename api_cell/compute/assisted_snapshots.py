"""/os-assisted-volume-snapshots: snapshots of attached volumes which the block storage service asks a host to take.

Only drivers that keep such volumes as files of their own can take them; a host without that says so.
"""

from __future__ import annotations

import json
from typing import Any

from api_cell.edge.route import Request, Response, Route, Schema
from api_cell.edge.shapes import query_until_closed, strict, wrapped
from api_cell.servers.volumes import service
from cell_service.errors import Invalid, VolumeNotFound

_WORD: Schema = {"type": "string", "minLength": 1}
CREATE = wrapped(
    "snapshot",
    strict(
        {
            "volume_id": _WORD,
            "create_info": strict(
                {
                    "snapshot_id": _WORD,
                    "type": {"type": "string", "enum": ["qcow2"]},
                    "new_file": _WORD,
                    "id": _WORD,
                },
                "snapshot_id",
                "type",
                "new_file",
            ),
        },
        "volume_id",
        "create_info",
    ),
)
DELETE = query_until_closed({"delete_info": {"type": "string"}})


def create(req: Request) -> Response:
    """400 where the volume's host cannot take the snapshot, which so far is every host."""
    _demand_attached(req, req.body["snapshot"]["volume_id"])
    raise Invalid(reason="The host of this volume cannot take assisted snapshots.")


def delete(req: Request) -> Response:
    """400 where the volume's host cannot remove the snapshot; 404 for a volume that is not there."""
    try:
        told: Any = json.loads(req.one("delete_info") or "")
        volume_id = told["volume_id"]
    except (ValueError, KeyError, TypeError):
        raise Invalid(reason="delete_info must be a JSON object with volume_id.") from None
    _demand_attached(req, str(volume_id))
    raise Invalid(reason="The host of this volume cannot remove assisted snapshots.")


def _demand_attached(req: Request, volume_id: str) -> None:
    try:
        volume = service(req).get(req.ctx, volume_id)
    except VolumeNotFound:
        if req.method == "DELETE":
            raise
        raise Invalid(reason=f"Volume {volume_id} could not be found.") from None
    if not volume.attachments:
        raise Invalid(reason=f"Invalid volume: volume {volume_id} is not attached.")


_RULE = "os_compute_api:os-assisted-volume-snapshots:"
ROUTES = (
    Route("POST", "/os-assisted-volume-snapshots", create, rule=_RULE + "create", body=CREATE),
    Route("DELETE", "/os-assisted-volume-snapshots/{id}", delete, rule=_RULE + "delete", query=DELETE),
)
