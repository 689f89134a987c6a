"""/os-assisted-volume-snapshots: snapshots of attached volumes which a host takes for the block storage service.

Only drivers that keep such volumes as files of their own can take them; with others it is 400.
"""

from __future__ import annotations

import json
from typing import Any

from api_cell.edge.route import Request, Response, Route, Schema
from api_cell.edge.shapes import query_until_closed, strict, wrapped
from api_cell.servers import volume_snapshots
from cell_service.errors import InstanceInvalidState, InstanceNotFound, InstanceNotReady, Invalid, VolumeNotFound
from cell_service.operations.volumes import SnapshotArguments, UnsnapshotArguments

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
    """200 {"snapshot": {"id": …, "volumeId": …}}: the volume's host will take it, and report to block storage.
    400 where it can't."""
    body = req.body["snapshot"]
    info = body["create_info"]
    wanted = SnapshotArguments(body["volume_id"], info["snapshot_id"], info["new_file"])
    volume_snapshots.take(req.cloud, req.services, req.ctx, wanted)
    return Response(200, {"snapshot": {"id": info.get("id"), "volumeId": body["volume_id"]}})


def delete(req: Request) -> Response:
    """204: the volume's host will remove it. 400 where it can't; 404 for a volume that is not there."""
    try:
        info: Any = json.loads(req.one("delete_info") or "")
        volume_id = str(info["volume_id"])
    except (ValueError, KeyError, TypeError):
        raise Invalid(reason="delete_info must be a JSON object with volume_id.") from None
    files = info.get("file_to_merge"), info.get("merge_target_file")
    wanted = UnsnapshotArguments(volume_id, req.params["id"], *files)
    volume_snapshots.remove(req.cloud, req.services, req.ctx, wanted)
    return Response(204)


_STATES = (InstanceNotReady, InstanceInvalidState)
_RULE = "os_compute_api:os-assisted-volume-snapshots:"
ROUTES = (
    Route("POST", "/os-assisted-volume-snapshots", create, rule=_RULE + "create", body=CREATE,
          bad_reference=(*_STATES, VolumeNotFound, InstanceNotFound)),
    Route("DELETE", "/os-assisted-volume-snapshots/{id}", delete, rule=_RULE + "delete", query=DELETE,
          bad_reference=_STATES),
)  # fmt: skip
