"""Volumes: made, shown, changed, deleted (Block Storage API v3)."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection

from cell_service.db.sql.engine import Database
from cell_service.errors import Invalid
from cell_service.http.response import Response
from tools.companions.route import CompanionRequest
from tools.companions.volume import messages, store
from tools.companions.volume.attachments import demand_free
from tools.companions.volume.capacity import fits
from tools.companions.volume.contents import Contents
from tools.companions.volume.encryption import demand_same, said_of
from tools.companions.volume.files import Files
from tools.companions.volume.images import VolumeImages, user_of
from tools.companions.volume.messages import Action, Detail
from tools.companions.volume.store import Record
from tools.companions.volume.types import find_type, is_multiattach
from tools.companions.volume.versions import requested as requested_version
from tools.companions.volume.views import volume_view
from tools.companions.volume.visibility import listed, project_of, visible
from tools.companions.volume.volume_keys import VolumeKeys

IMAGES_OF_VOLUMES = (3, 46)
"""The version from which an image without content that names snapshots makes a volume of them."""
_UNUSABLE = ("creating", "downloading", "deleting", "error", "error_deleting")
Await = Callable[[threading.Thread], None]
"""Waits until work is done that is quick enough for that."""


class Volumes:
    """The handlers of /volumes, but for actions."""

    def __init__(
        self, db: Database, files: Files, images: VolumeImages, contents: Contents, keys: VolumeKeys, capacity_gib: int,
        wait: Await,
    ) -> None:  # fmt: skip
        self._db, self._files, self._images, self._contents, self._keys = db, files, images, contents, keys
        self._capacity_gib, self._await = capacity_gib, wait

    def index(self, req: CompanionRequest) -> Response:
        keys = ("id", "name", "links")
        return Response(200, {"volumes": [{key: one[key] for key in keys} for one in self._listed(req)]})

    def detail(self, req: CompanionRequest) -> Response:
        return Response(200, {"volumes": self._listed(req)})

    def show(self, req: CompanionRequest) -> Response:
        with self._db.connect() as tx:
            return Response(200, {"volume": volume_view(tx, req, visible(tx, req, "volume", req.params["id"]))})

    def create(self, req: CompanionRequest) -> Response:
        """Make a volume from a size, an image, a snapshot or another volume. It is available when all its content is
        there."""
        requested, project_id = req.content("volume"), project_of(req)
        user, image_id = user_of(req, project_id), requested.get("imageRef") or requested.get("image_id")
        of_image = None
        if image_id and requested_version(req.headers) >= IMAGES_OF_VOLUMES:
            of_image = self._images.snapshot_of(user_of(req, req.caller.project_id), str(image_id))
        with self._db.connect() as tx:
            from_volume, from_snapshot = requested.get("source_volid"), of_image or requested.get("snapshot_id")
            volume = visible(tx, req, "volume", from_volume) if from_volume else None
            snapshot = visible(tx, req, "snapshot", from_snapshot) if from_snapshot else None
            source = volume or snapshot or {}
            kind = find_type(tx, requested.get("volume_type") or _type_of(tx, volume, snapshot))
            encryption = said_of(tx, kind)
        demand_same(encryption, source, kind)
        _demand_usable(source, "volume" if volume else "snapshot")
        size = size_of(requested.get("size"), source.get("size"))
        job: Record = {"kind": "blank"}
        if source:
            job = {"kind": "copy", "source": source["id"]}
        elif image_id:
            job = {"kind": "image", "image": str(image_id), "user": user}
        values: Record = {
            "name": requested.get("name") or requested.get("display_name") or "",
            "description": requested.get("description") or requested.get("display_description"),
            "size": size,
            "bootable": bool(image_id) or bool(source.get("bootable")),
            "encrypted": encryption is not None,
            "encryption": encryption,
            "multiattach": bool(requested.get("multiattach")) or is_multiattach(kind),
            "availability_zone": requested.get("availability_zone") or "nova",
            "volume_type": kind["name"],
            "metadata": requested.get("metadata") or {},
            "snapshot_id": snapshot["id"] if snapshot else None,
            "source_volid": from_volume,
            "image_metadata": source.get("image_metadata"),
            "user_id": req.caller.user_id,
        }

        if encryption is not None:
            of_source = source.get("encryption_key_id")
            values["encryption_key_id"] = self._keys.copy(of_source) if of_source else self._keys.make(encryption)

        def work(tx: Connection) -> Record:
            if said_of(tx, kind) != encryption:
                raise Invalid(reason=f"Volume type {kind['id']} has just changed.")
            if source:
                visible(tx, req, "volume" if volume else "snapshot", source["id"])  # not deleted meanwhile
            if not fits(tx, self._capacity_gib, size):
                full = store.add(tx, "volume", project_id, **values, status="error", job=None)
                messages.add(tx, full, "volume", Action.ALLOCATE, Detail.NO_BACKEND)
                return full
            return store.add(tx, "volume", project_id, **values, status="creating", job=job)

        try:
            made = self._db.run(work)
        except BaseException:
            self._db.run(lambda tx: self._keys.give_up(tx, values.get("encryption_key_id")))
            self._keys.delete_unused()
            raise
        if made["job"] is not None:
            self._await(self._contents.begin("volume", made["id"], source=source.get("id")))
        with self._db.connect() as tx:
            made = store.find(tx, "volume", made["id"]) or made
            return Response(202, {"volume": volume_view(tx, req, made, written=True)})

    def update(self, req: CompanionRequest) -> Response:
        requested = req.content("volume")
        wanted: Record = {name: requested[name] for name in ("name", "description", "metadata") if name in requested}

        def work(tx: Connection) -> Record:
            changed = store.change(tx, visible(tx, req, "volume", req.params["id"]), wanted)
            return volume_view(tx, req, changed, written=True)

        return Response(200, {"volume": self._db.run(work)})

    def delete(self, req: CompanionRequest) -> Response:
        volume_id, force = req.params["id"], req.one("force", "") in ("True", "true")
        cascade = req.one("cascade", "") in ("True", "true")

        def work(tx: Connection) -> list[str]:
            volume = visible(tx, req, "volume", volume_id)
            gone = [one["id"] for one in store.search(tx, "snapshot", parent_id=volume_id)] if cascade else []
            for snapshot_id in gone:
                self._contents.demand_no_copies(snapshot_id)
                store.remove(tx, snapshot_id)
            demand_free(tx, volume_id)
            self._contents.demand_no_copies(volume_id)
            if volume["status"] not in ("available", "error", "error_deleting", "in-use") and not force:
                raise Invalid(reason=f"Invalid volume: Volume status must be available, but is {volume['status']}.")
            store.remove(tx, volume_id)
            self._keys.give_up(tx, volume.get("encryption_key_id"))
            return [volume_id, *gone]

        for gone in self._db.run(work):
            self._files.remove(gone)
        self._keys.delete_unused()
        return Response(202)

    def metadata(self, req: CompanionRequest) -> Response:
        with self._db.connect() as tx:
            return Response(200, {"metadata": visible(tx, req, "volume", req.params["id"])["metadata"]})

    def set_metadata(self, req: CompanionRequest) -> Response:
        requested = req.content("metadata")

        def work(tx: Connection) -> Record:
            volume = visible(tx, req, "volume", req.params["id"])
            old = volume["metadata"] if req.method == "POST" else {}
            return store.change(tx, volume, {"metadata": {**old, **requested}})

        return Response(200, {"metadata": self._db.run(work)["metadata"]})

    def unset_metadata(self, req: CompanionRequest) -> Response:
        def work(tx: Connection) -> None:
            volume = visible(tx, req, "volume", req.params["id"])
            rest = {name: value for name, value in volume["metadata"].items() if name != req.params["key"]}
            store.change(tx, volume, {"metadata": rest})

        self._db.run(work)
        return Response(200)

    def _listed(self, req: CompanionRequest) -> list[Record]:
        with self._db.connect() as tx:
            shown = [volume_view(tx, req, one) for one in listed(tx, req, "volume")]
        for name in ("name", "status", "bootable"):
            if (wanted := req.one(name)) is not None:
                shown = [one for one in shown if str(one[name]) == wanted]
        marker, limit = req.one("marker"), req.one("limit")
        if marker is not None:
            ids = [one["id"] for one in shown]
            shown = shown[ids.index(marker) + 1 :] if marker in ids else []
        return shown[: int(limit)] if limit and limit.isdigit() and len(limit) < 19 else shown


def size_of(requested: Any, least: int | None) -> int:
    """The size in GiB. Raises Invalid for one that is none, or less than `least`."""
    try:
        size = int(requested if requested is not None else least or 0)
    except (TypeError, ValueError, OverflowError):
        size = 0
    if size < 1 or size < (least or 1):
        raise Invalid(
            reason=f"Invalid input received: Volume size '{requested}' must be an integer and at least {least or 1}."
        )
    return size


def _type_of(tx: Connection, volume: Record | None, snapshot: Record | None) -> str | None:
    """The type of what a volume is made of, which is its own where the request names none."""
    if snapshot is not None:
        volume = store.find(tx, "volume", snapshot["volume_id"])
    return None if volume is None else str(volume["volume_type"])


def _demand_usable(source: Record, noun: str) -> None:
    """Raises Invalid for a source whose content is not there."""
    if source and source["status"] in _UNUSABLE:
        allowed = "available, in-use" if noun == "volume" else "available"
        raise Invalid(
            reason=f"Invalid {noun}: Originating {noun} status must be one of '{allowed}' values, but is"
            f" {source['status']}."
        )
