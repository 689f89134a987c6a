"""The image service over HTTP (Image API v2)."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from uuid import UUID

from cell_service.context import Context
from cell_service.errors import Forbidden, ImageNotFound, ImageUnacceptable, Invalid, PeerUnavailable
from cell_service.peers.glance.lists import page_as
from cell_service.peers.glance.records import OWN_FIELDS, image_in, image_of
from cell_service.peers.image import Image, ImagePage, ImageQuery, Images, NewImage
from cell_service.peers.reading import read_all
from cell_service.peers.session import Peer
from cell_service.peers.settings import GlanceSettings

_PATCH = "application/openstack-images-v2.1-json-patch"


def open_images(settings: GlanceSettings) -> Images:
    """Images of the service that `[glance]` names; nothing is connected yet."""
    return Glance(Peer("image", settings, "/v2"))


class Glance:
    """Sends requests as an administrator, and so decides itself what a request's project may see."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer

    def get(self, ctx: Context, image_id: str) -> Image:
        with contextlib.suppress(ValueError):
            path = f"/images/{UUID(image_id)}"
            reply = self._peer.ask(ctx, "GET", path)
            if reply.ok and isinstance(reply.json, dict):
                image = image_in(reply.json)
                if self._visible(ctx, image, path):
                    return image
            elif reply.status not in (400, 403, 404):
                raise PeerUnavailable(service="image", reason=f"it answered {reply.status}")
        raise ImageNotFound(image_id=image_id)

    def download(self, ctx: Context, image: Image, target: Path) -> None:
        part = target.with_name(f"{target.name}.new")
        try:
            with self._peer.stream(ctx, f"/images/{image.id}/file") as (status, chunks):
                if status in (404, 410):
                    raise ImageNotFound(image_id=image.id)
                if status != 200:
                    raise ImageUnacceptable(image_id=image.id, reason=f"its content can't be had ({status})")
                _write(image, chunks, part)
            os.replace(part, target)
        finally:
            part.unlink(missing_ok=True)

    def reserve(self, ctx: Context, image: NewImage) -> None:
        known = {name: value for name, value in _record_of(image).items() if name != "disk_format" or value}
        reply = self._peer.ask(ctx, "POST", "/images", body=known)
        if reply.status in (403, 413):
            raise Forbidden(reason="The image service does not allow another image.")
        if reply.status not in (201, 409):
            raise Invalid(reason=f"The image service refuses the image ({reply.status}).")

    def find(self, ctx: Context, owner: str, properties: Mapping[str, str]) -> tuple[Image, ...]:
        query = {"owner": owner, "sort": "created_at:desc", "limit": "1000", **properties}
        reply = self._peer.ask(ctx, "GET", "/images", query=query)
        if not reply.ok or not isinstance(reply.json, dict):
            raise PeerUnavailable(service="image", reason=f"it answered {reply.status}")
        found = read_all("image", reply.json.get("images"), image_of)
        wanted = properties.items()
        return tuple(image for image in found if image.owner == owner and wanted <= image.properties.items())

    def page(self, ctx: Context, token: str, wanted: ImageQuery) -> ImagePage:
        return page_as(self._peer, ctx, token, wanted)

    def describe(self, ctx: Context, image_id: str, properties: Mapping[str, str]) -> Image:
        now = self._own(ctx, image_id)
        taken = sorted(name for name in properties if name in OWN_FIELDS)
        if taken:
            raise Forbidden(reason=f"{', '.join(taken)}: not a property of an image.")
        set_now = {name: value for name, value in properties.items() if now.properties.get(name) != value}
        change = [{"op": "add", "path": _pointer(name), "value": value} for name, value in set_now.items()]
        change += [{"op": "remove", "path": _pointer(name)} for name in now.properties if name not in properties]
        if not change:
            return now
        kind = {"Content-Type": _PATCH}
        reply = self._peer.ask(ctx, "PATCH", f"/images/{now.id}", body=change, headers=kind)
        if reply.status in (404, 410):
            raise ImageNotFound(image_id=image_id)
        if reply.status in (403, 413):
            raise Forbidden(reason="The image service does not allow this change.")
        if not reply.ok or not isinstance(reply.json, dict):
            raise Invalid(reason=f"The image service refuses this change ({reply.status}).")
        return image_in(reply.json)

    def remove(self, ctx: Context, image_id: str) -> None:
        found = self._own(ctx, image_id)
        reply = self._peer.ask(ctx, "DELETE", f"/images/{found.id}")
        if reply.status in (404, 410):
            raise ImageNotFound(image_id=image_id)
        if not reply.ok:
            raise Forbidden(reason="You are not allowed to delete the image.")

    def upload(self, ctx: Context, image: NewImage, content: Path) -> None:
        path = f"/images/{image.id}"
        reply = self._peer.ask(ctx, "POST", "/images", body=_record_of(image))
        if reply.status not in (201, 409):  # 409: it was begun before
            raise ImageUnacceptable(image_id=image.id, reason=f"the image service refuses it ({reply.status})")
        status = self._status(ctx, path)
        if status == "queued" and reply.status == 409:
            self._complete(ctx, image, path)
        if status == "queued":
            octets = {"Content-Type": "application/octet-stream"}
            with content.open("rb") as file:
                sent = self._peer.ask(ctx, "PUT", f"{path}/file", data=file, headers=octets)
            if sent.status in (404, 410):
                raise ImageNotFound(image_id=image.id)
            if not sent.ok and sent.status != 409:
                raise ImageUnacceptable(image_id=image.id, reason=f"its content is refused ({sent.status})")
            status = self._status(ctx, path)
        if status is None:
            raise ImageNotFound(image_id=image.id)
        if status != "active":
            raise PeerUnavailable(service="image", reason=f"image {image.id} is {status}, not active")

    def delete(self, ctx: Context, image_id: str) -> None:
        with contextlib.suppress(ValueError):
            reply = self._peer.ask(ctx, "DELETE", f"/images/{UUID(image_id)}")
            if not reply.ok and reply.status not in (404, 410):
                raise ImageUnacceptable(image_id=image_id, reason=f"it can't be deleted ({reply.status})")

    def _complete(self, ctx: Context, image: NewImage, path: str) -> None:
        """Set what was not known when the record was reserved: the content's format, and further properties."""
        change = [{"op": "replace", "path": "/disk_format", "value": image.disk_format}]
        change += [{"op": "add", "path": _pointer(name), "value": value} for name, value in image.properties.items()]
        reply = self._peer.ask(ctx, "PATCH", path, body=change, headers={"Content-Type": _PATCH})
        if not reply.ok and self._status(ctx, path) == "queued":
            raise ImageUnacceptable(image_id=image.id, reason=f"its properties are refused ({reply.status})")

    def _own(self, ctx: Context, image_id: str) -> Image:
        found = self.get(ctx, image_id)
        if not ctx.is_admin and found.owner != ctx.project_id:
            raise Forbidden(reason="You are not allowed to change the image.")
        return found

    def _status(self, ctx: Context, path: str) -> str | None:
        reply = self._peer.ask(ctx, "GET", path)
        return image_in(reply.json).status if reply.ok and isinstance(reply.json, dict) else None

    def _visible(self, ctx: Context, image: Image, path: str) -> bool:
        if ctx.is_admin or image.visibility in ("public", "community") or image.owner == ctx.project_id:
            return True
        if image.visibility != "shared" or not ctx.project_id:
            return False
        reply = self._peer.ask(ctx, "GET", f"{path}/members")
        members = reply.json.get("members", ()) if reply.ok and isinstance(reply.json, dict) else ()
        return any(member.get("member_id") == ctx.project_id for member in members)


def _write(image: Image, chunks: Iterator[bytes], path: Path) -> None:
    """Write all chunks, and check them against the record's size and hash. Raises ImageUnacceptable."""
    algorithm, expected = _hash_of(image)
    seen = hashlib.new(algorithm, usedforsecurity=False)
    size = 0
    with path.open("wb") as file:
        for chunk in chunks:
            size += len(chunk)
            if size > image.size_bytes:
                break
            seen.update(chunk)
            file.write(chunk)
        file.flush()
        os.fsync(file.fileno())
    if size != image.size_bytes:
        got = "more" if size > image.size_bytes else str(size)
        raise ImageUnacceptable(image_id=image.id, reason=f"it has {got} bytes instead of {image.size_bytes}")
    if seen.hexdigest() != expected.lower():
        raise ImageUnacceptable(image_id=image.id, reason=f"its {algorithm} is not what its record says")


def _hash_of(image: Image) -> tuple[str, str]:
    """The strongest hash that the record has. Raises ImageUnacceptable when it has none that we can compute."""
    if image.os_hash_value and image.os_hash_algo in hashlib.algorithms_available:
        return image.os_hash_algo, image.os_hash_value
    if image.checksum:
        return "md5", image.checksum
    raise ImageUnacceptable(image_id=image.id, reason="its record has no hash that can be checked")


def _record_of(image: NewImage) -> dict[str, Any]:
    return {
        **image.properties,
        "id": image.id,
        "name": image.name,
        "owner": image.owner,
        "disk_format": image.disk_format,
        "container_format": image.container_format,
        "visibility": image.visibility,
        "min_disk": image.min_disk_gib,
        "min_ram": image.min_ram_mib,
    }


def _pointer(name: str) -> str:
    return "/" + name.replace("~", "~0").replace("/", "~1")
