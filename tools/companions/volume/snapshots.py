"""Snapshots: copies of volumes as they were at one moment."""

from __future__ import annotations

from sqlalchemy import Connection

from cell_service.db.sql.engine import Database
from cell_service.errors import Invalid
from cell_service.http.response import Response
from tools.companions.route import CompanionRequest
from tools.companions.volume import messages, store
from tools.companions.volume.actions import TRUE_WORDS
from tools.companions.volume.capacity import fits
from tools.companions.volume.contents import Contents
from tools.companions.volume.exports import Exporter
from tools.companions.volume.files import Files
from tools.companions.volume.messages import Action, Detail
from tools.companions.volume.store import Record
from tools.companions.volume.views import snapshot_view
from tools.companions.volume.visibility import listed, visible
from tools.companions.volume.volumes import Await

FOLLOWS = {"creating": ("creating", "available", "error"), "deleting": ("deleting", "error_deleting")}
"""The statuses that compute hosts may set on a snapshot."""


class Snapshots:
    """The handlers of /snapshots."""

    def __init__(
        self, db: Database, files: Files, contents: Contents, exporter: Exporter, capacity_gib: int, wait: Await
    ) -> None:
        self._db, self._files, self._contents, self._exporter = db, files, contents, exporter
        self._capacity_gib, self._await = capacity_gib, wait

    def index(self, req: CompanionRequest) -> Response:
        with self._db.connect() as tx:
            found = listed(tx, req, "snapshot", req.one("volume_id"))
        return Response(200, {"snapshots": [snapshot_view(one) for one in found]})

    def show(self, req: CompanionRequest) -> Response:
        with self._db.connect() as tx:
            return Response(200, {"snapshot": snapshot_view(visible(tx, req, "snapshot", req.params["id"]))})

    def create(self, req: CompanionRequest) -> Response:
        """Take a snapshot: what guests write after the answer is not in it. They wait until it is copied."""
        requested = req.content("snapshot")
        with self._db.connect() as tx:
            volume_id = visible(tx, req, "volume", str(requested.get("volume_id", "")))["id"]
        is_exported = self._exporter.hold(volume_id)
        try:
            made = self._db.run(lambda tx: self._recorded(tx, req, volume_id, is_exported))
        except BaseException:
            self._exporter.release(volume_id)
            raise
        if made["job"] is not None:
            self._await(self._contents.begin("snapshot", made["id"], source=volume_id, held=True))
        else:
            self._exporter.release(volume_id)
        with self._db.connect() as tx:
            made = store.find(tx, "snapshot", made["id"]) or made
        return Response(202, {"snapshot": snapshot_view(made, written=True)})

    def _recorded(self, tx: Connection, req: CompanionRequest, volume_id: str, is_exported: bool) -> Record:
        requested = req.content("snapshot")
        volume = visible(tx, req, "volume", volume_id)
        forced = requested.get("force") in TRUE_WORDS
        if (volume["status"] != "available" and not forced) or volume.get("job"):
            raise Invalid(
                reason=f"Invalid volume: Volume {volume_id} status must be available, but is {volume['status']}."
            )
        values: Record = {
            "volume_id": volume_id, "size": volume["size"], "bootable": volume["bootable"],
            "image_metadata": volume["image_metadata"], "metadata": requested.get("metadata") or {},
            "encryption": volume.get("encryption"), "encryption_key_id": volume.get("encryption_key_id"),
            "name": requested.get("name") or requested.get("display_name") or "",
            "description": requested.get("description") or requested.get("display_description"),
        }  # fmt: skip
        if not fits(tx, self._capacity_gib, volume["size"]):
            full = store.add(tx, "snapshot", volume["project_id"], volume_id, **values, status="error", job=None)
            messages.add(tx, full, "snapshot", Action.SNAPSHOT, Detail.NO_BACKEND)
            return full
        job = {"kind": "copy", "source": volume_id, "held": is_exported}
        return store.add(tx, "snapshot", volume["project_id"], volume_id, **values, status="creating", job=job)

    def update(self, req: CompanionRequest) -> Response:
        requested = req.content("snapshot")
        wanted: Record = {name: requested[name] for name in ("name", "description") if name in requested}
        made = self._db.run(lambda tx: store.change(tx, visible(tx, req, "snapshot", req.params["id"]), wanted))
        return Response(200, {"snapshot": snapshot_view(made, written=True)})

    def action(self, req: CompanionRequest) -> Response:
        """An administrator sets the status; a compute host that takes or removes a snapshot reports its progress."""
        req.demand_admin()
        reported = req.body.get("os-update_snapshot_status") if isinstance(req.body, dict) else None
        requested = reported if reported is not None else req.content("os-reset_status")
        status = requested.get("status") if isinstance(requested, dict) else None

        def work(tx: Connection) -> None:
            snapshot = visible(tx, req, "snapshot", req.params["id"])
            if reported is not None and status not in FOLLOWS.get(snapshot["status"], ()):
                raise Invalid(reason=f"Provided snapshot status {status} not allowed while it is {snapshot['status']}.")
            store.change(tx, snapshot, {"status": status, "progress": requested.get("progress", "0%")})

        self._db.run(work)
        return Response(202)

    def delete(self, req: CompanionRequest) -> Response:
        def work(tx: Connection) -> None:
            snapshot_id = visible(tx, req, "snapshot", req.params["id"])["id"]
            self._contents.demand_no_copies(snapshot_id)
            store.remove(tx, snapshot_id)

        self._db.run(work)
        self._files.remove(req.params["id"])
        return Response(202)
