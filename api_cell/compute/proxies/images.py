"""Images as the Compute API showed them before clients called the image service themselves: /images, to 2.35."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from oslo_utils.strutils import bool_from_string

from api_cell import quota_check
from api_cell.edge.auth import credentials
from api_cell.edge.links import next_link, page_marker, page_size, page_start, resource_links
from api_cell.edge.route import Request, Response, Route
from api_cell.edge.shapes import SPEC_KEY, query, strict
from api_cell.timestamps import parse_timestamp
from cell_service.errors import Invalid, LimitExceeded, MetadataItemNotFound
from cell_service.peers.image import Image, ImageQuery

LAST = (2, 35)
LAST_METADATA = (2, 38)
STATUSES = {
    "active": ("ACTIVE", 100),
    "queued": ("SAVING", 25),
    "saving": ("SAVING", 50),
    "importing": ("SAVING", 50),
    "deleted": ("DELETED", 0),
    "pending_delete": ("DELETED", 0),
    "killed": ("ERROR", 0),
    "uploading": ("UNKNOWN", 0),
    "deactivated": ("UNKNOWN", 0),
}
"""The names here of the image service's statuses, and the progress of the image at each."""
_UNKNOWN = ("UNKNOWN", 0)
_PROPERTY = "property-"
_NONE = -1
"""A size that no image has."""


def index(req: Request) -> Response:
    """200 {"images": [{id, name, links}]}, by pages."""
    return _list(req, "/images", _short)


def detail(req: Request) -> Response:
    """200 {"images": [{…}]}, by pages."""
    return _list(req, "/images/detail", _view)


def show(req: Request) -> Response:
    """200 {"image": {…}}"""
    return Response(200, {"image": _view(req, req.services.require_images().get(req.ctx, req.params["id"]))})


def delete(req: Request) -> Response:
    """204; 403 when the image is not the project's, or protected."""
    req.services.require_images().remove(req.ctx, req.params["id"])
    return Response(204)


def metadata_index(req: Request) -> Response:
    """200 {"metadata": {…}}"""
    return Response(200, {"metadata": _properties(req)})


def metadata_show(req: Request) -> Response:
    """200 {"meta": {key: value}}"""
    key, found = req.params["id"], _properties(req)
    if key not in found:
        raise MetadataItemNotFound()
    return Response(200, {"meta": {key: found[key]}})


def metadata_add(req: Request) -> Response:
    """200 {"metadata": {…}}: these items are set, others stay."""
    return Response(200, {"metadata": _describe(req, {**_properties(req), **req.body["metadata"]})})


def metadata_replace(req: Request) -> Response:
    """200 {"metadata": {…}}: these items and no others."""
    return Response(200, {"metadata": _describe(req, req.body["metadata"])})


def metadata_set(req: Request) -> Response:
    """200 {"meta": {key: value}}"""
    key, given = req.params["id"], req.body["meta"]
    if key not in given:
        raise Invalid(reason="Request body and URI mismatch")
    after = _describe(req, {**_properties(req), **given})
    return Response(200, {"meta": {key: after[key]}})


def metadata_remove(req: Request) -> Response:
    """204; 404 when there is no such item."""
    key, found = req.params["id"], _properties(req)
    if key not in found:
        raise MetadataItemNotFound()
    _describe(req, {name: value for name, value in found.items() if name != key})
    return Response(204)


def _properties(req: Request) -> Mapping[str, str]:
    return req.services.require_images().get(req.ctx, req.params["image_id"]).properties


def _describe(req: Request, properties: Mapping[str, str]) -> Mapping[str, str]:
    most = quota_check.item_limits(req.cloud, req.services, req.ctx)["metadata_items"]
    if 0 <= most < len(properties):
        raise LimitExceeded(reason="Image property count exceeded")
    return req.services.require_images().describe(req.ctx, req.params["image_id"], properties).properties


def _list(req: Request, path: str, view: Callable[[Request, Image], dict[str, Any]]) -> Response:
    wanted = _wanted(req)
    if wanted is None:
        return Response(200, {"images": []})
    token, _ = credentials(req.headers)
    page = req.services.require_images().page(req.ctx, token, wanted)
    body: dict[str, Any] = {"images": [view(req, image) for image in page.images]}
    if page.more and page.images:
        body["images_links"] = next_link(req, path, page.images[-1].id)
    return Response(200, body)


def _wanted(req: Request) -> ImageQuery | None:
    """The query's filters, in the image service's words; None when no image can match them."""
    filters = {name: values[-1] for name, values in req.query.items()}
    properties = {name.removeprefix(_PROPERTY): text for name, text in filters.items() if name.startswith(_PROPERTY)}
    if "server" in filters:
        properties["instance_uuid"] = filters["server"].rstrip("/").rpartition("/")[2]
    if "type" in filters:
        properties["image_type"] = filters["type"]
    status, since = filters.get("status"), filters.get("changes-since")
    statuses = tuple(theirs for theirs, (ours, _) in STATUSES.items() if status and ours == status.upper())
    sizes = [_size(filters.get(name)) for name in ("minRam", "minDisk")]
    if (status is not None and not statuses) or _NONE in sizes:
        return None
    return ImageQuery(
        limit=page_size(req, req.services.settings.api.max_limit),
        marker=page_marker(req),
        offset=page_start(req),
        name=req.one("name"),
        statuses=statuses,
        min_ram_mib=sizes[0],
        min_disk_gib=sizes[1],
        changed_since=None if since is None else _moment(since),
        properties=properties,
    )


def _size(text: str | None) -> int | None:
    if text is None:
        return None
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else _NONE


def _moment(text: str) -> datetime:
    try:
        return parse_timestamp(text)
    except ValueError:
        raise Invalid(reason=f"changes-since: {text[:64]} is no time.") from None


def _short(req: Request, image: Image) -> dict[str, Any]:
    where = req.services.settings.api.glance_link_prefix or req.bookmark_url
    kept = {
        "rel": "alternate",
        "type": "application/vnd.openstack.image",
        "href": f"{where}/images/{image.id}",
    }
    return {"id": image.id, "name": image.name or None, "links": [*resource_links(req, f"/images/{image.id}"), kept]}


def _view(req: Request, image: Image) -> dict[str, Any]:
    status, progress = STATUSES.get(image.status, _UNKNOWN)
    shown = {
        **_short(req, image),
        "status": status,
        "progress": progress,
        "minRam": image.min_ram_mib,
        "minDisk": image.min_disk_gib,
        "created": _said(image.created_at),
        "updated": _said(image.updated_at),
        "metadata": dict(image.properties),
        "OS-EXT-IMG-SIZE:size": image.size_bytes,
    }
    server = image.properties.get("instance_uuid")
    if server:
        shown["server"] = {"id": server, "links": resource_links(req, f"/servers/{server}")}
    sized = image.properties.get("auto_disk_config")
    if sized is not None:
        shown["OS-DCF:diskConfig"] = "AUTO" if bool_from_string(sized) else "MANUAL"
    return shown


def _said(moment: datetime | None) -> str | None:
    return None if moment is None else f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


_ITEMS = {
    "type": "object",
    "patternProperties": {SPEC_KEY: {"type": "string", "maxLength": 255}},
    "additionalProperties": False,
}
_METADATA = strict({"metadata": _ITEMS}, "metadata")
_META = strict({"meta": {**_ITEMS, "minProperties": 1, "maxProperties": 1}}, "meta")
_WHOLE = {"type": ["integer", "string"], "pattern": "^[0-9]*$", "minimum": 1, "minLength": 1}
_QUERY = query({"limit": _WHOLE, "page_size": _WHOLE, "offset": _WHOLE}, closed=False)
_OF = "/images/{image_id}/metadata"

ROUTES = (
    Route("GET", "/images", index, query=_QUERY, max_version=LAST),
    Route("GET", "/images/detail", detail, query=_QUERY, max_version=LAST),
    Route("GET", "/images/{id}", show, max_version=LAST),
    Route("DELETE", "/images/{id}", delete, max_version=LAST),
    Route("GET", _OF, metadata_index, max_version=LAST_METADATA),
    Route("POST", _OF, metadata_add, body=_METADATA, max_version=LAST_METADATA),
    Route("PUT", _OF, metadata_replace, body=_METADATA, max_version=LAST_METADATA),
    Route("GET", _OF + "/{id}", metadata_show, max_version=LAST_METADATA),
    Route("PUT", _OF + "/{id}", metadata_set, body=_META, max_version=LAST_METADATA),
    Route("DELETE", _OF + "/{id}", metadata_remove, max_version=LAST_METADATA),
)
