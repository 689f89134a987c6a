"""The block storage companion (Block Storage API v3): its routes, and what they are served by."""

from __future__ import annotations

import grp
import logging
import threading
from pathlib import Path
from typing import Any

from api_cell.edge.auth import Authenticator
from api_cell.edge.route import Schema
from cell_service.db.sql.engine import Database
from cell_service.errors import Invalid
from cell_service.http.response import Response
from cell_service.logs import about
from cell_service.peers.image import Images
from cell_service.peers.keys import Keys
from tools.companions.app import Companion, CompanionApi
from tools.companions.route import CompanionRequest, CompanionRoute, Handler
from tools.companions.store import open_store
from tools.companions.volume import qemu_nbd, schemas, store
from tools.companions.volume.actions import Actions
from tools.companions.volume.attachments import Attachments, is_connected
from tools.companions.volume.contents import Compute, Contents, Step
from tools.companions.volume.encryption import Encryption
from tools.companions.volume.exports import Exporter, Records
from tools.companions.volume.files import Files
from tools.companions.volume.images import VolumeImages
from tools.companions.volume.limits import Limits
from tools.companions.volume.messages import Messages, forget
from tools.companions.volume.nbd import NbdExports
from tools.companions.volume.settings import NBD, VolumeSettings
from tools.companions.volume.snapshots import Snapshots
from tools.companions.volume.types import Types
from tools.companions.volume.versions import MAX_VERSION, MIN_VERSION, version_headers
from tools.companions.volume.versions import requested as requested_version
from tools.companions.volume.volume_keys import VolumeKeys
from tools.companions.volume.volumes import Volumes

log = logging.getLogger(__name__)

TRANSFERS = ("/os-volume-transfer", "/os-volume-transfer/detail", "/volume-transfers", "/volume-transfers/detail")
PATIENCE_SECONDS = 0.5
"""A request waits so long for its work: what is quick is done when it is answered."""


def make_volume(
    state_dir: Path, authenticator: Authenticator, images: Images | None = None, compute: Compute | None = None,
    settings: VolumeSettings | None = None, *, patience: float | None = PATIENCE_SECONDS,
    step: Step = lambda name: None, keys: Keys | None = None,
) -> Companion:  # fmt: skip
    """The service on the data of that directory; what an earlier process left is removed or gone on with.

    `images`: where images come from that volumes are made of; `compute`: notified of changes of servers' volumes;
    `patience`: seconds in which work has to be done to be done in the answer (None: all work, and so it is where
    volumes are not exported); `step`: see `contents.Step`; `keys`: the key manager, without which no volume is
    encrypted.
    """
    settings = settings or VolumeSettings()
    db = open_store(state_dir, "volume", store.metadata)
    has_bytes = _has_bytes(settings)
    files = Files(state_dir / "volumes", durable=has_bytes)
    exporter = _exporter(settings, db, files, state_dir) if has_bytes else Records(files)
    of_images = VolumeImages(images, checks=has_bytes)
    of_volumes = VolumeKeys(db, keys)
    contents = Contents(db, files, of_images, exporter, of_volumes, compute, step)
    exporter.restore(_connected(db))
    contents.resume()
    db.run(forget)
    of_volumes.begin_deleting()

    def wait(work: threading.Thread) -> None:
        work.join(patience if has_bytes else None)

    def close() -> None:
        contents.close()
        exporter.close()
        db.dispose()

    capacity = settings.volume_capacity_gb
    volumes = Volumes(db, files, of_images, contents, of_volumes, capacity, wait)
    actions = Actions(db, files, of_images, contents, exporter, compute, capacity, wait)
    snapshots = Snapshots(db, files, contents, exporter, capacity, wait)
    return Companion(
        CompanionApi(
            "volume", _routes(db, volumes, actions, snapshots, Attachments(db, exporter)), _error, authenticator,
            close=close, version_headers=version_headers,
        )
    )  # fmt: skip


def _has_bytes(settings: VolumeSettings) -> bool:
    """Whether hosts reach what is in volumes: the option says so, and what that needs is there."""
    if settings.volume_export != NBD:
        return False
    if lacks := qemu_nbd.lacking():
        log.warning("volumes are only recorded, not exported", extra=about(None, missing=lacks))
    return not lacks


def _exporter(settings: VolumeSettings, db: Database, files: Files, state_dir: Path) -> Exporter:
    def wanted(volume_id: str) -> bool:
        with db.connect() as tx:
            return is_connected(tx, volume_id)

    log.info("connected volumes are exported over NBD")
    return NbdExports(files, state_dir, wanted, _group(settings.volume_export_group))


def _group(name: str) -> int | None:
    try:
        return grp.getgrnam(name).gr_gid if name else None
    except KeyError:
        raise Invalid(reason=f"[companions] volume_export_group: there is no group {name}") from None


def _connected(db: Database) -> list[str]:
    """The volumes that hosts were connected to when the last process ended."""
    with db.connect() as tx:
        found = store.search(tx, "attachment")
    return sorted({one["volume_id"] for one in found if one["connector"] is not None})


def _routes(
    db: Database, volumes: Volumes, actions: Actions, snapshots: Snapshots, attached: Attachments
) -> tuple[CompanionRoute, ...]:
    types, encryption, limits, messages = Types(db), Encryption(db), Limits(db), Messages(db)
    table: tuple[tuple[str, str, Handler] | tuple[str, str, Handler, Schema], ...] = (
        ("GET", "/volumes", volumes.index),
        ("POST", "/volumes", volumes.create, schemas.CREATE_VOLUME),
        ("GET", "/volumes/detail", volumes.detail),
        ("GET", "/volumes/{id}", volumes.show),
        ("PUT", "/volumes/{id}", volumes.update, schemas.UPDATE_VOLUME),
        ("DELETE", "/volumes/{id}", volumes.delete),
        ("POST", "/volumes/{id}/action", actions.action, schemas.VOLUME_ACTION),
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
        ("GET", "/messages", messages.index),
        ("GET", "/messages/{id}", messages.show),
        ("DELETE", "/messages/{id}", messages.delete),
        ("GET", "/os-availability-zone", limits.zones),
        ("GET", "/os-services", lambda req: Response(200, {"services": []})),
        ("GET", "/limits", limits.limits),
        *(("GET", path, limits.transfers) for path in TRANSFERS),
        ("GET", "/os-quota-sets/{target}", limits.quotas),
        ("DELETE", "/os-quota-sets/{target}", limits.reset_quotas),
        ("GET", "/os-quota-sets/{target}/defaults", limits.quotas),
    )
    routes = [CompanionRoute("GET", "/", _versions, open=True), CompanionRoute("GET", "/v3", _versions, open=True)]
    for prefix in ("/v3", "/v3/{project_id}"):
        routes += [
            CompanionRoute(method, prefix + path, _at_version(handler), body=next(iter(body), None))
            for method, path, handler, *body in table
        ]
    return tuple(routes)


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
