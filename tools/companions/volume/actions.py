"""The actions on volumes: POST /volumes/{id}/action."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from typing import Any
from uuid import uuid4

from sqlalchemy import Connection

from cell_service.db.sql.engine import Database
from cell_service.errors import DriverError, Invalid, PolycellError
from cell_service.http.response import Response
from cell_service.logs import about
from tools.companions.route import CompanionRequest
from tools.companions.volume import messages, store
from tools.companions.volume.attachments import links_of
from tools.companions.volume.capacity import fits
from tools.companions.volume.contents import Compute, Contents
from tools.companions.volume.exports import Exporter
from tools.companions.volume.files import Files
from tools.companions.volume.images import VolumeImages, image_of, user_of
from tools.companions.volume.messages import Action, Detail
from tools.companions.volume.store import Record
from tools.companions.volume.views import upload_view
from tools.companions.volume.visibility import visible
from tools.companions.volume.volumes import Await, size_of

log = logging.getLogger(__name__)

EXTENDED = "volume-extended"
TRUE_WORDS = (True, "True", "true", "1", 1)


class Actions:
    """`compute`: notified of volumes that have become larger while servers have them."""

    def __init__(
        self, db: Database, files: Files, images: VolumeImages, contents: Contents, exporter: Exporter,
        compute: Compute | None, capacity_gib: int, wait: Await,
    ) -> None:  # fmt: skip
        self._db, self._files, self._images, self._contents = db, files, images, contents
        self._exporter, self._compute, self._capacity_gib, self._await = exporter, compute, capacity_gib, wait
        self._actions: dict[str, Callable[[CompanionRequest, Any], Response]] = {
            "os-extend": self._extend,
            "os-set_bootable": self._set_bootable,
            "os-reset_status": self._reset,
            "os-set_image_metadata": self._set_image_metadata,
            "os-update_readonly_flag": self._set_readonly,
            "os-reimage": self._reimage,
            "os-volume_upload_image": self._upload,
        }

    def action(self, req: CompanionRequest) -> Response:
        body = req.body if isinstance(req.body, dict) else {}
        name = next((name for name in body if name in self._actions), None)
        if name is None:
            raise Invalid(reason="There is no such action of volumes.")
        return self._actions[name](req, body[name] or {})

    def _extend(self, req: CompanionRequest, requested: Any) -> Response:
        """A volume that does not fit any more keeps its size. Hosts that are connected to one that has grown are
        disconnected, and see the new size when they connect again."""
        size = size_of(requested.get("new_size"), None)

        def work(tx: Connection) -> list[str]:
            volume = visible(tx, req, "volume", req.params["id"])
            if volume["status"] not in ("available", "in-use"):
                raise Invalid(reason=f"Invalid volume: Volume {volume['id']} status must be available to extend.")
            if size <= volume["size"]:
                raise Invalid(
                    reason=f"Invalid input received: New size must be greater than current size {volume['size']}."
                )
            if not fits(tx, self._capacity_gib, size - volume["size"]):
                messages.add(tx, volume, "volume", Action.EXTEND, Detail.NO_BACKEND)
                return []
            try:
                self._files.grow(volume["id"], size)
            except OSError as error:
                raise Invalid(reason=f"Invalid volume: Volume {volume['id']} cannot grow to {size}GB.") from error
            store.change(tx, volume, {"size": size})
            return [one["server_id"] for one in links_of(tx, volume["id"])]

        servers = self._db.run(work)
        if servers:
            self._show_size(req.params["id"])
        for server_id in servers:
            if self._compute is not None:
                self._compute(EXTENDED, server_id, req.params["id"])
        return Response(202)

    def _show_size(self, volume_id: str) -> None:
        """Hosts see the volume's size. An export that does not come back is tried again and again, with that size."""
        try:
            self._exporter.resize(volume_id)
        except (DriverError, OSError) as error:
            log.error("volume not exported", extra=about(None, volume=volume_id, reason=error))

    def _set_bootable(self, req: CompanionRequest, requested: Any) -> Response:
        self._set(req, bootable=requested.get("bootable") in TRUE_WORDS)
        return Response(200)

    def _set_image_metadata(self, req: CompanionRequest, requested: Any) -> Response:
        self._set(req, image_metadata=requested.get("metadata"))
        return Response(200, {"metadata": requested.get("metadata") or {}})

    def _set_readonly(self, req: CompanionRequest, requested: Any) -> Response:
        """Accepted, and without effect: hosts get what their attachments say."""
        self._set(req)
        return Response(202)

    def _reset(self, req: CompanionRequest, requested: Any) -> Response:
        def work(tx: Connection) -> None:
            volume = visible(tx, req, "volume", req.params["id"])
            req.demand_admin()
            store.change(tx, volume, {"status": requested.get("status", volume["status"])})

        self._db.run(work)
        return Response(202)

    def _reimage(self, req: CompanionRequest, requested: Any) -> Response:
        """The volume begins with the image's content, and nothing is left on it of what it had; after a failure it is
        of no use."""
        free = ("available", "error", *(("reserved",) if requested.get("reimage_reserved") in TRUE_WORDS else ()))

        def work(tx: Connection) -> None:
            volume = visible(tx, req, "volume", req.params["id"])
            if volume["status"] not in free or volume.get("job"):
                words = f"status must be available or error to reimage, but is {volume['status']}."
                raise Invalid(reason=f"Invalid volume: Volume {volume['id']} {words}")
            if not requested.get("image_id"):
                raise Invalid(reason="Invalid input for field/attribute os-reimage: 'image_id' is required.")
            user = user_of(req, volume["project_id"])
            job = {"kind": "reimage", "image": str(requested["image_id"]), "user": user}
            store.change(tx, volume, {"status": "downloading", "job": job})

        self._db.run(work)
        self._await(self._contents.begin("volume", req.params["id"]))
        return Response(202)

    def _upload(self, req: CompanionRequest, requested: Any) -> Response:
        """Make an image of the volume, which is not used meanwhile."""
        image_id = str(uuid4())

        def work(tx: Connection) -> tuple[Record, Record]:
            volume = visible(tx, req, "volume", req.params["id"])
            if volume["status"] != "available":
                words = f"status must be available, but current status is: {volume['status']}."
                raise Invalid(reason=f"Invalid volume: Volume {volume['id']} {words}")
            if volume.get("encryption"):
                raise Invalid(reason="Invalid volume: No images are made of encrypted volumes here; snapshots are.")
            image = dataclasses.asdict(image_of(volume, image_id, requested))
            if image["disk_format"] != "raw" and not self._images.checks:
                raise Invalid(reason="Invalid input received: images of volumes are only made as raw here.")
            user = {**user_of(req, volume["project_id"]), "is_admin": True}
            job = {"kind": "upload", "image": image, "user": user}
            return volume, store.change(tx, volume, {"status": "uploading", "job": job})

        before, volume = self._db.run(work)
        job = volume["job"]
        try:
            self._images.reserve(job["user"], image_of(before, image_id, requested))
        except PolycellError:
            self._set(req, status="available", job=None)
            raise
        self._await(self._contents.begin("volume", volume["id"]))
        return Response(202, {"os-volume_upload_image": upload_view(volume, job["image"])})

    def _set(self, req: CompanionRequest, **values: object) -> None:
        self._db.run(lambda tx: store.change(tx, visible(tx, req, "volume", req.params["id"]), values))
