"""Lists of images as the image service gives them to the requesting user, page by page."""

from __future__ import annotations

from datetime import UTC

from cell_service.context import Context
from cell_service.errors import Invalid, PeerUnavailable
from cell_service.peers.glance.records import OWN_FIELDS, image_of
from cell_service.peers.image import Image, ImagePage, ImageQuery
from cell_service.peers.reading import read_all
from cell_service.peers.session import Peer

MOST = 1000
"""The image service's own limit of a page, unless its operator has set another."""
_ASKING = frozenset({"limit", "marker", "sort", "sort_key", "sort_dir", "tag", "member_status", "size_min", "size_max"})
_OPERATORS = ("in", "eq", "neq", "gt", "gte", "lt", "lte")


def page_as(peer: Peer, ctx: Context, token: str, wanted: ImageQuery) -> ImagePage:
    """As `Images.page`. Sends as many requests as the service's own limit makes necessary, usually one."""
    if any(name in OWN_FIELDS or name in _ASKING for name in wanted.properties):
        return ImagePage((), False)  # the service would take them for something else than properties
    images: list[Image] = []
    marker, left = wanted.marker, wanted.offset
    while True:
        size = min(left + wanted.limit - len(images), MOST)
        found, more = _requested(peer, ctx, token, {**_filters(wanted), "limit": str(size)}, marker)
        images += found[left:]
        left = max(0, left - len(found))
        if not more or not found or len(images) >= wanted.limit:
            return ImagePage(tuple(images[: wanted.limit]), more and bool(found))
        marker = found[-1].id


def _requested(
    peer: Peer, ctx: Context, token: str, query: dict[str, str], marker: str | None
) -> tuple[list[Image], bool]:
    reply = peer.ask_as(ctx, token, "GET", "/images", query=query if marker is None else {**query, "marker": marker})
    if reply.status in (400, 404):
        refused = "the image service refuses this query" if marker is None else f"marker [{marker[:255]}] not found"
        raise Invalid(reason=refused)
    if not reply.ok or not isinstance(reply.json, dict):
        raise PeerUnavailable(service="image", reason=f"it answered {reply.status}")
    return list(read_all("image", reply.json.get("images"), image_of)), bool(reply.json.get("next"))


def _filters(wanted: ImageQuery) -> dict[str, str]:
    """The conditions as a query of the service; a value that could be read as one of its operators is quoted."""
    requested = {
        "name": None if wanted.name is None else _plain(wanted.name),
        "status": "in:" + ",".join(wanted.statuses) if wanted.statuses else None,
        "min_ram": wanted.min_ram_mib,
        "min_disk": wanted.min_disk_gib,
    }
    if wanted.changed_since is not None:
        requested["updated_at"] = f"gte:{wanted.changed_since.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
    return {**{name: str(value) for name, value in requested.items() if value is not None}, **wanted.properties}


def _plain(name: str) -> str:
    return f'in:"{name}"' if name.partition(":")[0] in _OPERATORS and ":" in name else name
