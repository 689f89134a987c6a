"""The part of the Compute API that passes requests on to the block storage service, to 2.35: /os-volumes and
/os-snapshots."""

from __future__ import annotations

from typing import Any

from api_cell.edge.route import Request, Response, Route
from api_cell.edge.shapes import BOOLEAN, TEXT, WHOLE, is_true, number, query, strict, wrapped
from cell_service.errors import Invalid, NotFound, VolumeNotFound
from cell_service.peers.volumes import NewVolume, Snapshot, Volume, Volumes

LAST = (2, 35)
LIST = query({"limit": WHOLE, "offset": WHOLE}, closed=False)
CREATE_VOLUME = wrapped(
    "volume",
    strict(
        {
            "volume_type": TEXT,
            "metadata": {"type": "object", "properties": {}, "additionalProperties": True},
            "snapshot_id": TEXT,
            "size": number(1),
            "availability_zone": TEXT,
            "display_name": TEXT,
            "display_description": TEXT,
        },
        "size",
    ),
)
CREATE_SNAPSHOT = wrapped(
    "snapshot",
    strict(
        {"volume_id": TEXT, "force": BOOLEAN, "display_name": TEXT, "display_description": TEXT},
        "volume_id",
    ),
)


def volumes(req: Request) -> Response:
    """200 {"volumes": […]}; the same for the detailed list."""
    return Response(
        200, {"volumes": _page(req, [_volume(each) for each in req.services.require_volumes().all(req.ctx)])}
    )


def volume(req: Request) -> Response:
    """200 {"volume": {…}}"""
    return Response(200, {"volume": _volume(req.services.require_volumes().get(req.ctx, req.params["id"]))})


def create_volume(req: Request) -> Response:
    """200 {"volume": {…}}: it is being made."""
    body = req.body["volume"]
    if body.get("snapshot_id"):
        req.services.require_volumes().snapshot(req.ctx, body["snapshot_id"])
    wanted = NewVolume(
        project_id=req.ctx.project_id,
        size_gib=int(body["size"]),
        name=body.get("display_name") or "",
        description=body.get("display_description"),
        snapshot_id=body.get("snapshot_id"),
        volume_type=body.get("volume_type"),
        availability_zone=body.get("availability_zone"),
        metadata=body.get("metadata") or {},
    )
    try:
        made = req.services.require_volumes().create(req.ctx, wanted)
    except NotFound as error:
        raise Invalid(reason=str(error)) from None
    return Response(200, {"volume": _volume(made)})


def delete_volume(req: Request) -> Response:
    """202: it will be gone."""
    req.services.require_volumes().get(req.ctx, req.params["id"])
    req.services.require_volumes().delete(req.ctx, req.params["id"])
    return Response(202)


def snapshots(req: Request) -> Response:
    """200 {"snapshots": […]}; the same for the detailed list."""
    return Response(
        200, {"snapshots": _page(req, [_snapshot(each) for each in req.services.require_volumes().snapshots(req.ctx)])}
    )


def snapshot(req: Request) -> Response:
    """200 {"snapshot": {…}}"""
    return Response(200, {"snapshot": _snapshot(req.services.require_volumes().snapshot(req.ctx, req.params["id"]))})


def create_snapshot(req: Request) -> Response:
    """200 {"snapshot": {…}}; `force`: also of a volume that is attached."""
    body, storage = req.body["snapshot"], req.services.require_volumes()
    try:
        storage.get(req.ctx, body["volume_id"])
    except VolumeNotFound as error:
        raise Invalid(reason=str(error)) from None
    name, words = body.get("display_name") or "", body.get("display_description")
    made = storage.take_snapshot(req.ctx, body["volume_id"], name, words, force=is_true(body.get("force", False)))
    return Response(200, {"snapshot": _snapshot(made)})


def delete_snapshot(req: Request) -> Response:
    """202: it will be gone."""
    storage: Volumes = req.services.require_volumes()
    storage.snapshot(req.ctx, req.params["id"])
    storage.delete_snapshot(req.ctx, req.params["id"])
    return Response(202)


def _page(req: Request, found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    offset = int(req.one("offset") or 0)
    limit = int(req.one("limit") or 0) or req.services.settings.api.max_limit
    return found[offset : offset + limit]


def _volume(one: Volume) -> dict[str, Any]:
    attached = [
        {"id": one.id, "volumeId": one.id, "serverId": each.server_id, "device": each.device or ""}
        for each in one.attachments
    ]
    return {
        "id": one.id,
        "status": one.status,
        "size": one.size_gib,
        "availabilityZone": one.availability_zone,
        "createdAt": one.created_at,
        "attachments": attached or [{}],
        "displayName": one.name,
        "displayDescription": one.description,
        "volumeType": one.volume_type,
        "snapshotId": one.snapshot_id,
        "metadata": one.metadata,
    }


def _snapshot(one: Snapshot) -> dict[str, Any]:
    return {
        "id": one.id,
        "volumeId": one.volume_id,
        "status": one.status,
        "size": one.size_gib,
        "createdAt": one.created_at,
        "displayName": one.name,
        "displayDescription": one.description,
    }


_RULE = "os_compute_api:os-volumes:"
ROUTES = (
    Route("GET", "/os-volumes", volumes, rule=_RULE + "list", query=LIST, max_version=LAST),
    Route("POST", "/os-volumes", create_volume, rule=_RULE + "create", body=CREATE_VOLUME, max_version=LAST),
    Route("GET", "/os-volumes/detail", volumes, rule=_RULE + "detail", query=LIST, max_version=LAST),
    Route("GET", "/os-volumes/{id}", volume, rule=_RULE + "show", max_version=LAST),
    Route("DELETE", "/os-volumes/{id}", delete_volume, rule=_RULE + "delete", max_version=LAST),
    Route("GET", "/os-snapshots", snapshots, rule=_RULE + "snapshots:list", query=LIST, max_version=LAST),
    Route(
        "POST",
        "/os-snapshots",
        create_snapshot,
        rule=_RULE + "snapshots:create",
        body=CREATE_SNAPSHOT,
        max_version=LAST,
    ),
    Route("GET", "/os-snapshots/detail", snapshots, rule=_RULE + "snapshots:detail", query=LIST, max_version=LAST),
    Route("GET", "/os-snapshots/{id}", snapshot, rule=_RULE + "snapshots:show", max_version=LAST),
    Route("DELETE", "/os-snapshots/{id}", delete_snapshot, rule=_RULE + "snapshots:delete", max_version=LAST),
)
