"""The block storage companion (Block Storage API v3): volumes and snapshots as sparse files, types, attachments."""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from api_cell.edge.auth import Authenticator
from api_cell.edge.route import Schema
from cell_service.context import SYSTEM_CLOCK, Context, Deadline, new_request_id
from cell_service.db.sql.engine import Database
from cell_service.errors import ImageNotFound, Invalid, PolycellError
from cell_service.http.response import Response
from cell_service.logs import about
from cell_service.peers.image import Images
from tools.companions.app import Companion, CompanionApi
from tools.companions.route import CompanionRequest, CompanionRoute, Handler
from tools.companions.store import open_store
from tools.companions.volume import schemas, store
from tools.companions.volume.attachments import (
    Attachments,
    demand_free,
    follow,
    links_of,
    project_of,
    servers_of,
    visible,
)
from tools.companions.volume.encryption import Encryption, demand_plain
from tools.companions.volume.store import GIB, Files, Record
from tools.companions.volume.types import Types, find_type
from tools.companions.volume.versions import MAX_VERSION, MIN_VERSION, version_headers
from tools.companions.volume.versions import requested as requested_version
from tools.companions.volume.views import snapshot_view, volume_view

log = logging.getLogger(__name__)

TRANSFERS = ("/os-volume-transfer", "/os-volume-transfer/detail", "/volume-transfers", "/volume-transfers/detail")
IMAGE_SECONDS = 600.0
IMAGES_OF_VOLUMES = (3, 46)
"""The version from which an image without content that names snapshots makes a volume of them."""
TRUE_WORDS = (True, "True", "true", "1", 1)


FOLLOWS = {"creating": ("creating", "available", "error"), "deleting": ("deleting", "error_deleting")}
"""The statuses that compute hosts may set on a snapshot."""
EXTENDED, REIMAGED = "volume-extended", "volume-reimaged"
Compute = Callable[[str, str, str], None]
"""Called with the event's name and the ids of server and volume, when a server's volume has changed."""


def make_volume(
    state_dir: Path, authenticator: Authenticator, images: Images | None = None, compute: Compute | None = None
) -> Companion:
    """The service on the data of that directory. `images`: where images come from that volumes are made of;
    `compute`: notified of changes of servers' volumes."""
    db = open_store(state_dir, "volume", store.metadata)
    files = Files(state_dir / "volumes")
    attached = Attachments(db, files)
    volumes, snapshots, thin = _Volumes(db, files, images, compute), _Snapshots(db, files), _Thin(db)
    types, encryption = Types(db), Encryption(db)
    table: tuple[tuple[str, str, Handler] | tuple[str, str, Handler, Schema], ...] = (
        ("GET", "/volumes", volumes.index),
        ("POST", "/volumes", volumes.create, schemas.CREATE_VOLUME),
        ("GET", "/volumes/detail", volumes.detail),
        ("GET", "/volumes/{id}", volumes.show),
        ("PUT", "/volumes/{id}", volumes.update, schemas.UPDATE_VOLUME),
        ("DELETE", "/volumes/{id}", volumes.delete),
        ("POST", "/volumes/{id}/action", volumes.action, schemas.VOLUME_ACTION),
        ("GET", "/volumes/{id}/encryption", encryption.of_volume),
        ("GET", "/volumes/{id}/metadata", volumes.metadata),
        ("POST", "/volumes/{id}/metadata", volumes.set_metadata, schemas.PUT_METADATA),
        ("PUT", "/volumes/{id}/metadata", volumes.set_metadata, schemas.PUT_METADATA),
        ("DELETE", "/volumes/{id}/metadata/{key}", volumes.unset_metadata),
        ("GET", "/snapshots", snapshots.index),
        ("POST", "/snapshots", snapshots.create, schemas.CREATE_SNAPSHOT),
        ("GET", "/snapshots/detail", snapshots.index),
        ("GET", "/snapshots/{id}", snapshots.show),
        ("PUT", "/snapshots/{id}", snapshots.update, schemas.UPDATE_SNAPSHOT),
        ("DELETE", "/snapshots/{id}", snapshots.delete),
        ("POST", "/snapshots/{id}/action", snapshots.action, schemas.SNAPSHOT_ACTION),
        ("GET", "/attachments", attached.index),
        ("POST", "/attachments", attached.create, schemas.CREATE_ATTACHMENT),
        ("GET", "/attachments/detail", attached.detail),
        ("GET", "/attachments/{id}", attached.show),
        ("PUT", "/attachments/{id}", attached.update, schemas.UPDATE_ATTACHMENT),
        ("DELETE", "/attachments/{id}", attached.delete),
        ("POST", "/attachments/{id}/action", attached.action),
        ("GET", "/types", types.index),
        ("POST", "/types", types.create, schemas.CREATE_TYPE),
        ("GET", "/types/{id}", types.show),
        ("DELETE", "/types/{id}", types.delete),
        ("GET", "/types/{id}/extra_specs", types.specs),
        ("POST", "/types/{id}/extra_specs", types.set_specs, schemas.SET_SPECS),
        ("GET", "/types/{id}/encryption", encryption.show),
        ("POST", "/types/{id}/encryption", encryption.create, schemas.CREATE_ENCRYPTION),
        ("GET", "/types/{id}/encryption/{key}", encryption.show_one),
        ("PUT", "/types/{id}/encryption/{key}", encryption.update, schemas.UPDATE_ENCRYPTION),
        ("DELETE", "/types/{id}/encryption/{key}", encryption.delete),
        ("GET", "/os-availability-zone", thin.zones),
        ("GET", "/os-services", lambda req: Response(200, {"services": []})),
        ("GET", "/limits", thin.limits),
        *(("GET", path, _no_transfers) for path in TRANSFERS),
        ("GET", "/os-quota-sets/{target}", thin.quotas),
        ("DELETE", "/os-quota-sets/{target}", thin.reset_quotas),
        ("GET", "/os-quota-sets/{target}/defaults", thin.quotas),
    )
    routes = [CompanionRoute("GET", "/", _versions, open=True), CompanionRoute("GET", "/v3", _versions, open=True)]
    for prefix in ("/v3", "/v3/{project_id}"):
        routes += [
            CompanionRoute(method, prefix + path, _at_version(handler), body=next(iter(body), None))
            for method, path, handler, *body in table
        ]
    return Companion(
        CompanionApi("volume", tuple(routes), _error, authenticator, close=db.dispose, version_headers=version_headers)
    )


def _at_version(handler: Handler) -> Handler:
    """The handler, for versions that there are. Raises Invalid, NotAcceptable at others."""

    def at_version(req: CompanionRequest) -> Response:
        requested_version(req.headers)
        return handler(req)

    return at_version


def _versions(req: CompanionRequest) -> Response:
    link = {"rel": "self", "href": f"{req.origin}/v3/"}
    version = {
        "id": "v3.0", "status": "CURRENT", "version": MAX_VERSION, "min_version": MIN_VERSION,
        "updated": "2026-01-01T00:00:00Z", "links": [link],
        "media-types": [{"base": "application/json", "type": "application/vnd.openstack.volume+json;version=3"}],
    }  # fmt: skip
    return Response(300 if req.path == "/" else 200, {"versions": [version]})


def _error(status: int, kind: str, message: str) -> dict[str, Any]:
    names = {400: "badRequest", 403: "forbidden", 404: "itemNotFound", 409: "conflictingRequest"}
    return {names.get(status, "computeFault"): {"code": status, "message": message}}


class _Volumes:
    def __init__(self, db: Database, files: Files, images: Images | None, compute: Compute | None) -> None:
        self._db, self._files, self._images, self._compute = db, files, images, compute

    def index(self, req: CompanionRequest) -> Response:
        keys = ("id", "name", "links")
        return Response(200, {"volumes": [{key: one[key] for key in keys} for one in self._listed(req)]})

    def detail(self, req: CompanionRequest) -> Response:
        return Response(200, {"volumes": self._listed(req)})

    def show(self, req: CompanionRequest) -> Response:
        with self._db.connect() as tx:
            return Response(200, {"volume": volume_view(tx, req, visible(tx, req, "volume", req.params["id"]))})

    def create(self, req: CompanionRequest) -> Response:
        """Make a volume from a size, an image, a snapshot or another volume. The file is there before the volume is
        available."""
        requested, project_id = req.content("volume"), project_of(req)
        with self._db.connect() as tx:
            from_volume, from_snapshot = requested.get("source_volid"), requested.get("snapshot_id")
            volume = visible(tx, req, "volume", from_volume) if from_volume else None
            snapshot = visible(tx, req, "snapshot", from_snapshot) if from_snapshot else None
            kind = find_type(tx, requested.get("volume_type"))
            image_id = requested.get("imageRef") or requested.get("image_id")
            if image_id and requested_version(req.headers) >= IMAGES_OF_VOLUMES:
                snapshot = self._snapshot_of_image(tx, req, str(image_id)) or snapshot
        source = volume or snapshot or {}
        size = _size(requested.get("size"), source.get("size"))
        specs = kind.get("extra_specs", {})
        values: Record = {
            "name": requested.get("name") or requested.get("display_name") or "",
            "description": requested.get("description") or requested.get("display_description"),
            "size": size,
            "status": "creating",
            "bootable": bool(image_id) or bool(source.get("bootable")),
            "encrypted": False,
            "multiattach": bool(requested.get("multiattach")) or "True" in str(specs.get("multiattach", "")),
            "availability_zone": requested.get("availability_zone") or "nova",
            "volume_type": kind["name"],
            "metadata": requested.get("metadata") or {},
            "snapshot_id": snapshot["id"] if snapshot else None,
            "source_volid": from_volume,
            "image_metadata": source.get("image_metadata"),
            "user_id": req.caller.user_id,
        }

        def work(tx: Connection) -> Record:
            demand_plain(tx, kind)
            return store.add(tx, "volume", project_id, **values)

        made = self._db.run(work)
        try:
            image_metadata = self._fill(req, made, None if source else image_id, source.get("id"))
        except (PolycellError, OSError) as error:
            log.warning("volume not made", extra=about(None, volume=made["id"], reason=error))
            self._db.run(lambda tx: store.change(tx, made, {"status": "error"}))
        else:
            values = {"status": "available", "image_metadata": image_metadata or made["image_metadata"]}
            self._db.run(lambda tx: store.change(tx, made, values))
        with self._db.connect() as tx:
            made = store.get(tx, "volume", made["id"])
            return Response(202, {"volume": volume_view(tx, req, made, written=True)})

    def _snapshot_of_image(self, tx: Connection, req: CompanionRequest, image_id: str) -> Record | None:
        """The snapshot of the root disk that an image of a server with volumes names; None for other images."""
        if self._images is None:
            return None
        ctx = Context(
            new_request_id(), req.caller.user_id, req.caller.project_id, is_admin=req.is_admin,
            deadline=Deadline.after(IMAGE_SECONDS, SYSTEM_CLOCK),
        )  # fmt: skip
        try:
            image = self._images.get(ctx, image_id)
            devices = json.loads(image.properties.get("block_device_mapping", "[]")) if image.size_bytes == 0 else []
        except (ImageNotFound, ValueError):
            return None
        root = image.properties.get("root_device_name")
        for one in devices if isinstance(devices, list) else []:
            if one.get("snapshot_id") and (one.get("boot_index") == 0 or one.get("device_name") == root):
                return visible(tx, req, "snapshot", str(one["snapshot_id"]))
        return None

    def _fill(self, req: CompanionRequest, made: Record, image_id: str | None, source_id: str | None) -> Record | None:
        if not image_id:
            self._files.make(made["id"], made["size"], self._files.path(source_id) if source_id else None)
            return None
        if self._images is None:
            raise Invalid(reason="No image service is known here.")
        deadline = Deadline.after(IMAGE_SECONDS, SYSTEM_CLOCK)
        ctx = Context(
            new_request_id(), req.caller.user_id, made["project_id"], is_admin=req.is_admin, deadline=deadline
        )
        image = self._images.get(ctx, image_id)
        if max(image.size_bytes, image.min_disk_gib * GIB) > made["size"] * GIB:
            raise Invalid(reason=f"Size of image {image_id} is larger than the volume size {made['size']}GB.")
        with tempfile.TemporaryDirectory(dir=self._files.path(made["id"]).parent) as directory:
            path = Path(directory) / "image"
            self._images.download(ctx, image, path)
            self._files.make(made["id"], made["size"], path)
        basics = {
            "image_id": image.id, "image_name": image.name, "disk_format": image.disk_format,
            "container_format": image.container_format, "size": image.size_bytes, "min_disk": image.min_disk_gib,
            "min_ram": image.min_ram_mib,
        }  # fmt: skip
        return {name: str(value) for name, value in {**image.properties, **basics}.items()}

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
                store.remove(tx, snapshot_id)
            demand_free(tx, volume_id)
            if volume["status"] not in ("available", "error", "error_deleting", "in-use") and not force:
                raise Invalid(reason=f"Invalid volume: Volume status must be available, but is {volume['status']}.")
            store.remove(tx, volume_id)
            return [volume_id, *gone]

        for gone in self._db.run(work):
            self._files.remove(gone)
        return Response(202)

    def action(self, req: CompanionRequest) -> Response:
        body = req.body if isinstance(req.body, dict) else {}
        actions: dict[str, Callable[[Connection, CompanionRequest, Record, Any], None]] = {
            "os-extend": self._extend,
            "os-set_bootable": lambda tx, _req, one, requested: _set(
                tx, one, bootable=requested.get("bootable") in TRUE_WORDS
            ),
            "os-reset_status": self._reset,
            "os-set_image_metadata": lambda tx, _req, one, requested: _set(
                tx, one, image_metadata=requested.get("metadata")
            ),
            "os-update_readonly_flag": lambda tx, _req, one, requested: None,
            "os-reimage": self._begin_reimage,
        }
        name = next((name for name in body if name in actions), None)
        if name is None:
            raise Invalid(reason="There is no such action of volumes.")

        def work(tx: Connection) -> list[str]:
            volume = visible(tx, req, "volume", req.params["id"])
            actions[name](tx, req, volume, body[name] or {})
            if name == "os-extend":
                return [one["server_id"] for one in links_of(tx, volume["id"])]
            return servers_of(tx, volume["id"])

        servers = self._db.run(work)
        if name == "os-reimage":
            self._reimage(req, str(body[name]["image_id"]))
        events = {"os-extend": EXTENDED, "os-reimage": REIMAGED}
        for server_id in servers:
            if self._compute is not None and name in events:
                self._compute(events[name], server_id, req.params["id"])
        if name == "os-set_image_metadata":
            return Response(200, {"metadata": body[name].get("metadata") or {}})
        return Response(200 if name == "os-set_bootable" else 202)

    def _begin_reimage(self, tx: Connection, req: CompanionRequest, volume: Record, requested: Any) -> None:
        free = ("available", "error", *(("reserved",) if requested.get("reimage_reserved") in TRUE_WORDS else ()))
        if volume["status"] not in free:
            words = f"status must be available or error to reimage, but is {volume['status']}."
            raise Invalid(reason=f"Invalid volume: Volume {volume['id']} {words}")
        if not requested.get("image_id"):
            raise Invalid(reason="Invalid input for field/attribute os-reimage: 'image_id' is required.")
        store.change(tx, volume, {"status": "downloading"})

    def _reimage(self, req: CompanionRequest, image_id: str) -> None:
        """The volume begins with the image's content, and nothing is left on it of what it had; after a failure it is
        of no use."""
        with self._db.connect() as tx:
            volume = visible(tx, req, "volume", req.params["id"])
        try:
            self._files.remove(volume["id"])
            image_metadata = self._fill(req, volume, image_id, None)
        except (PolycellError, OSError) as error:
            log.warning("volume not reimaged", extra=about(None, volume=volume["id"], reason=error))
            self._db.run(lambda tx: store.change(tx, volume, {"status": "error"}))
            return

        def work(tx: Connection) -> None:
            store.change(tx, volume, {"image_metadata": image_metadata, "bootable": True})
            follow(tx, volume["id"])

        self._db.run(work)

    def _extend(self, tx: Connection, req: CompanionRequest, volume: Record, requested: Any) -> None:
        size = _size(requested.get("new_size"), None)
        if volume["status"] not in ("available", "in-use"):
            raise Invalid(reason=f"Invalid volume: Volume {volume['id']} status must be available to extend.")
        if size <= volume["size"]:
            raise Invalid(
                reason=f"Invalid input received: New size must be greater than current size {volume['size']}."
            )
        try:
            self._files.grow(volume["id"], size)
        except OSError as error:
            raise Invalid(reason=f"Invalid volume: Volume {volume['id']} cannot grow to {size}GB.") from error
        store.change(tx, volume, {"size": size})

    def _reset(self, tx: Connection, req: CompanionRequest, volume: Record, requested: Any) -> None:
        req.demand_admin()
        store.change(tx, volume, {"status": requested.get("status", volume["status"])})

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
        everybody = req.is_admin and req.one("all_tenants", "0") in ("1", "True", "true")
        with self._db.connect() as tx:
            found = store.search(tx, "volume", project_id=None if everybody else project_of(req))
            shown = [volume_view(tx, req, one) for one in found]
        for name in ("name", "status", "bootable"):
            if (wanted := req.one(name)) is not None:
                shown = [one for one in shown if str(one[name]) == wanted]
        marker, limit = req.one("marker"), req.one("limit")
        if marker is not None:
            ids = [one["id"] for one in shown]
            shown = shown[ids.index(marker) + 1 :] if marker in ids else []
        return shown[: int(limit)] if limit and limit.isdigit() and len(limit) < 19 else shown


class _Snapshots:
    def __init__(self, db: Database, files: Files) -> None:
        self._db, self._files = db, files

    def index(self, req: CompanionRequest) -> Response:
        everybody = req.is_admin and req.one("all_tenants", "0") in ("1", "True", "true")
        with self._db.connect() as tx:
            found = store.search(
                tx, "snapshot", project_id=None if everybody else project_of(req), parent_id=req.one("volume_id")
            )
        return Response(200, {"snapshots": [snapshot_view(one) for one in found]})

    def show(self, req: CompanionRequest) -> Response:
        with self._db.connect() as tx:
            return Response(200, {"snapshot": snapshot_view(visible(tx, req, "snapshot", req.params["id"]))})

    def create(self, req: CompanionRequest) -> Response:
        requested = req.content("snapshot")
        with self._db.connect() as tx:
            volume = visible(tx, req, "volume", str(requested.get("volume_id", "")))
        if volume["status"] != "available" and requested.get("force") not in TRUE_WORDS:
            raise Invalid(
                reason=f"Invalid volume: Volume {volume['id']} status must be available, but is {volume['status']}."
            )
        values = {
            "volume_id": volume["id"], "size": volume["size"], "status": "creating", "bootable": volume["bootable"],
            "image_metadata": volume["image_metadata"], "metadata": requested.get("metadata") or {},
            "name": requested.get("name") or requested.get("display_name") or "",
            "description": requested.get("description") or requested.get("display_description"),
        }  # fmt: skip
        made = self._db.run(lambda tx: store.add(tx, "snapshot", volume["project_id"], volume["id"], **values))
        self._files.make(made["id"], volume["size"], self._files.path(volume["id"]))
        ready = self._db.run(lambda tx: store.change(tx, made, {"status": "available"}))
        return Response(202, {"snapshot": snapshot_view(ready, written=True)})

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
        self._db.run(lambda tx: store.remove(tx, visible(tx, req, "snapshot", req.params["id"])["id"]))
        self._files.remove(req.params["id"])
        return Response(202)


class _Thin:
    """Zones, limits, quotas: as far as clients read them."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def zones(self, req: CompanionRequest) -> Response:
        return Response(200, {"availabilityZoneInfo": [{"zoneName": "nova", "zoneState": {"available": True}}]})

    def limits(self, req: CompanionRequest) -> Response:
        with self._db.connect() as tx:
            found = store.search(tx, "volume", project_id=project_of(req))
            snapshots = store.search(tx, "snapshot", project_id=project_of(req))
        used = {
            "totalVolumesUsed": len(found), "totalSnapshotsUsed": len(snapshots), "totalBackupsUsed": 0,
            "totalGigabytesUsed": sum(one["size"] for one in (*found, *snapshots)), "totalBackupGigabytesUsed": 0,
        }  # fmt: skip
        most = ("Volumes", "Snapshots", "VolumeGigabytes", "Backups", "BackupGigabytes")
        absolute = {**{f"maxTotal{name}": -1 for name in most}, **used}
        return Response(200, {"limits": {"rate": [], "absolute": absolute}})

    def reset_quotas(self, req: CompanionRequest) -> Response:
        """Give the project the default quotas, as all have."""
        req.demand_admin()
        return Response(200)

    def quotas(self, req: CompanionRequest) -> Response:
        return Response(
            200, {"quota_set": {"id": req.params["target"], "volumes": -1, "snapshots": -1, "gigabytes": -1}}
        )


def _no_transfers(req: CompanionRequest) -> Response:
    """Refuse transfers: volumes are not passed on to other projects here."""
    return Response(200, {"transfers": []})


def _size(requested: Any, least: int | None) -> int:
    try:
        size = int(requested if requested is not None else least or 0)
    except (TypeError, ValueError, OverflowError):
        size = 0
    if size < 1 or size < (least or 1):
        raise Invalid(
            reason=f"Invalid input received: Volume size '{requested}' must be an integer and at least {least or 1}."
        )
    return size


def _set(tx: Connection, volume: Record, **values: object) -> None:
    store.change(tx, volume, values)
