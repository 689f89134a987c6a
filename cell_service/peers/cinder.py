"""The block storage service over HTTP (Block Storage API v3, attachments as of microversion 3.44)."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from cell_service.context import Context
from cell_service.errors import (
    Invalid,
    NotFound,
    OverQuota,
    PeerUnavailable,
    SnapshotNotFound,
    VolumeNotFound,
    VolumeUnavailable,
)
from cell_service.peers.reading import objects, read, read_all, texts
from cell_service.peers.session import Peer, Reply
from cell_service.peers.settings import CinderSettings
from cell_service.peers.volumes import Connection, NewVolume, Snapshot, Volume, VolumeLink, Volumes

NAME = "volume"
MICROVERSION = {"OpenStack-API-Version": "volume 3.44"}
REIMAGES = {"OpenStack-API-Version": "volume 3.68"}
PART_DONE = "90%"
"""The progress of a snapshot once the host has done its part; the block storage service does the rest."""
MARK = "compute_device"
"""The key in a volume's metadata of the block device that it was made for."""


def open_volumes(settings: CinderSettings) -> Volumes:
    """Volumes of the service that `[cinder]` names; nothing is connected yet."""
    return Cinder(Peer(NAME, settings, "/v3", MICROVERSION))


class Cinder:
    """Sends requests as an administrator, and so decides itself what a request's project may see."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer

    def get(self, ctx: Context, volume_id: str) -> Volume:
        with contextlib.suppress(ValueError):
            reply = self._peer.ask(ctx, "GET", f"/volumes/{UUID(volume_id)}")
            if reply.ok:
                volume = _volume(reply.json["volume"])
                if ctx.is_admin or volume.project_id == ctx.project_id:
                    return volume
            elif reply.status not in (400, 403, 404):
                raise _refused(reply)
        raise VolumeNotFound(volume_id=volume_id)

    def all(self, ctx: Context) -> tuple[Volume, ...]:
        reply = self._peer.ask(ctx, "GET", "/volumes/detail", query={"all_tenants": 1, "project_id": ctx.project_id})
        found = read_all(NAME, _good(reply).get("volumes"), _volume_of)
        return tuple(volume for volume in found if volume.project_id == ctx.project_id)

    def create(self, ctx: Context, wanted: NewVolume) -> Volume:
        path = f"/{wanted.project_id}/volumes"
        if wanted.mark:
            made = self.made_for(ctx, wanted.mark)
            if made is not None:
                return self.get(ctx, made)
        fields = {
            "size": wanted.size_gib,
            "name": wanted.name,
            "description": wanted.description,
            "imageRef": wanted.image_id,
            "snapshot_id": wanted.snapshot_id,
            "volume_type": wanted.volume_type,
            "availability_zone": wanted.availability_zone,
            "metadata": {**wanted.metadata, **({MARK: wanted.mark} if wanted.mark else {})},
        }
        body = {"volume": {name: value for name, value in fields.items() if value is not None}}
        return _volume(_good(self._peer.ask(ctx, "POST", path, body=body))["volume"])

    def made_for(self, ctx: Context, mark: str) -> str | None:
        query = {"all_tenants": 1, "metadata": str({MARK: mark})}
        records = _good(self._peer.ask(ctx, "GET", "/volumes/detail", query=query))["volumes"]
        return next((str(one["id"]) for one in records if texts(one.get("metadata")).get(MARK) == mark), None)

    def delete(self, ctx: Context, volume_id: str) -> None:
        reply = self._peer.ask(ctx, "DELETE", f"/volumes/{volume_id}")
        if reply.status != 404:
            _good(reply, volume_id)

    def encryption(self, ctx: Context, volume_id: str) -> dict[str, Any]:
        return _good(self._peer.ask(ctx, "GET", f"/volumes/{volume_id}/encryption"), volume_id)

    def snapshot(self, ctx: Context, snapshot_id: str) -> Snapshot:
        with contextlib.suppress(ValueError):
            reply = self._peer.ask(ctx, "GET", f"/snapshots/{UUID(snapshot_id)}")
            if reply.ok:
                found = _snapshot(reply.json["snapshot"])
                if ctx.is_admin or not found.project_id or found.project_id == ctx.project_id:
                    return found
            elif reply.status not in (400, 403, 404):
                raise _refused(reply)
        raise SnapshotNotFound(snapshot_id=snapshot_id)

    def snapshots(self, ctx: Context) -> tuple[Snapshot, ...]:
        reply = self._peer.ask(ctx, "GET", "/snapshots/detail", query={"all_tenants": 1})
        found = read_all(NAME, _good(reply).get("snapshots"), _snapshot_of)
        return tuple(one for one in found if one.project_id == ctx.project_id)

    def take_snapshot(
        self, ctx: Context, volume_id: str, name: str, description: str | None, *, force: bool
    ) -> Snapshot:
        fields = {"volume_id": volume_id, "name": name, "description": description, "force": force}
        return _snapshot(
            _good(self._peer.ask(ctx, "POST", "/snapshots", body={"snapshot": fields}), volume_id)["snapshot"]
        )

    def delete_snapshot(self, ctx: Context, snapshot_id: str) -> None:
        reply = self._peer.ask(ctx, "DELETE", f"/snapshots/{snapshot_id}")
        if reply.status == 404:
            raise SnapshotNotFound(snapshot_id=snapshot_id)
        _good(reply)

    def report_snapshot(self, ctx: Context, snapshot_id: str, status: str) -> None:
        body = {"os-update_snapshot_status": {"status": status, "progress": PART_DONE}}
        reply = self._peer.ask(ctx, "POST", f"/snapshots/{snapshot_id}/action", body=body)
        if reply.status == 404:
            raise SnapshotNotFound(snapshot_id=snapshot_id)
        _good(reply)

    def reimage(self, ctx: Context, volume_id: str, image_id: str) -> None:
        body = {"os-reimage": {"image_id": image_id, "reimage_reserved": True}}
        reply = self._peer.ask(ctx, "POST", f"/volumes/{volume_id}/action", body=body, headers=REIMAGES)
        _good(reply, volume_id)

    def reserve(self, ctx: Context, volume_id: str, instance_uuid: str) -> str:
        if (unconnected := self._unconnected(ctx, volume_id, instance_uuid)) is not None:
            return unconnected
        body = {"attachment": {"volume_uuid": volume_id, "instance_uuid": instance_uuid}}
        return str(_good(self._peer.ask(ctx, "POST", "/attachments", body=body), volume_id)["attachment"]["id"])

    def connect(
        self, ctx: Context, volume_id: str, instance_uuid: str, connector: Mapping[str, Any], device: str | None
    ) -> Connection:
        attachment_id = self._of_host(ctx, volume_id, instance_uuid, str(connector.get("host")))
        attachment_id = attachment_id or self._unconnected(ctx, volume_id, instance_uuid)
        wanted: dict[str, Any] = {"connector": {**connector, "mountpoint": device}}
        if attachment_id is None:  # in one request: no unknown reservation is left behind
            body = {"attachment": {"volume_uuid": volume_id, "instance_uuid": instance_uuid, **wanted}}
            reply = self._peer.ask(ctx, "POST", "/attachments", body=body)
        else:
            reply = self._peer.ask(ctx, "PUT", f"/attachments/{attachment_id}", body={"attachment": wanted})
        return read(NAME, _good(reply, volume_id).get("attachment"), _connection_of)

    def connection(self, ctx: Context, attachment_id: str) -> Connection:
        reply = self._peer.ask(ctx, "GET", f"/attachments/{attachment_id}")
        return read(NAME, _good(reply).get("attachment"), _connection_of)

    def complete(self, ctx: Context, attachment_id: str) -> None:
        _good(self._peer.ask(ctx, "POST", f"/attachments/{attachment_id}/action", body={"os-complete": None}))

    def release(self, ctx: Context, attachment_id: str) -> None:
        reply = self._peer.ask_as_service(ctx, "DELETE", f"/attachments/{attachment_id}")
        if reply.status != 404:
            _good(reply)

    def leave(self, ctx: Context, volume_id: str, instance_uuid: str, host: str) -> None:
        attachment_id = self._of_host(ctx, volume_id, instance_uuid, host)
        if attachment_id is not None:
            self.release(ctx, attachment_id)

    def release_volume(self, ctx: Context, volume_id: str, instance_uuid: str) -> None:
        for one in self._attachments(ctx, instance_uuid, volume_id):
            self.release(ctx, str(one["id"]))

    def release_all(self, ctx: Context, instance_uuid: str) -> None:
        for one in self._attachments(ctx, instance_uuid):
            self.release(ctx, str(one["id"]))

    def _attachments(self, ctx: Context, instance_uuid: str, volume_id: str | None = None) -> list[dict[str, Any]]:
        query = {"all_tenants": 1, "instance_id": instance_uuid, **({"volume_id": volume_id} if volume_id else {})}
        found = _good(self._peer.ask(ctx, "GET", "/attachments", query=query))["attachments"]
        return [one for one in found if one["instance"] == instance_uuid and volume_id in (None, one["volume_id"])]

    def _unconnected(self, ctx: Context, volume_id: str, instance_uuid: str) -> str | None:
        """A reserved attachment, or one that was completed without a host."""
        found = self._attachments(ctx, instance_uuid, volume_id)
        reserved = next((str(one["id"]) for one in found if one["status"] == "reserved"), None)
        return reserved or (self._of_host(ctx, volume_id, instance_uuid, None) if found else None)

    def _of_host(self, ctx: Context, volume_id: str, instance_uuid: str, host: str | None) -> str | None:
        reply = self._peer.ask(ctx, "GET", f"/volumes/{volume_id}")
        if reply.status == 404:
            return None
        links = _volume(_good(reply)["volume"]).attachments
        return next((one.attachment_id for one in links if (one.server_id, one.host) == (instance_uuid, host)), None)


def _volume(record: Any) -> Volume:
    """Raises PeerUnavailable when it is no record of a volume."""
    return read(NAME, record, _volume_of)


def _snapshot(record: Any) -> Snapshot:
    """Raises PeerUnavailable when it is no record of a snapshot."""
    return read(NAME, record, _snapshot_of)


def _volume_of(record: dict[str, Any]) -> Volume:
    return Volume(
        id=record["id"],
        project_id=record.get("os-vol-tenant-attr:tenant_id") or "",
        status=record["status"],
        size_gib=int(record["size"]),
        name=record.get("name") or "",
        description=record.get("description"),
        bootable=str(record.get("bootable")).lower() == "true",
        multiattach=bool(record.get("multiattach")),
        encrypted=bool(record.get("encrypted")),
        availability_zone=record.get("availability_zone"),
        volume_type=record.get("volume_type"),
        snapshot_id=record.get("snapshot_id"),
        created_at=record.get("created_at") or "",
        metadata=texts(record.get("metadata")),
        image=texts(record.get("volume_image_metadata")),
        attachments=tuple(
            VolumeLink(one["attachment_id"], one["server_id"], one.get("host_name"), one.get("device"))
            for one in objects(record.get("attachments"))
        ),
    )


def _connection_of(record: dict[str, Any]) -> Connection:
    return Connection(str(record["id"]), dict(record.get("connection_info") or {}))


def _snapshot_of(record: dict[str, Any]) -> Snapshot:
    return Snapshot(
        id=record["id"],
        project_id=record.get("os-extended-snapshot-attributes:project_id") or record.get("project_id") or "",
        volume_id=record["volume_id"],
        status=record["status"],
        size_gib=int(record["size"]),
        name=record.get("name") or "",
        description=record.get("description"),
        created_at=record.get("created_at") or "",
    )


def _good(reply: Reply, volume_id: str = "") -> dict[str, Any]:
    if reply.ok:
        return reply.json if isinstance(reply.json, dict) else {}
    raise _refused(reply, volume_id)


def _refused(reply: Reply, volume_id: str = "") -> Exception:
    faults = reply.json.values() if isinstance(reply.json, dict) else ()
    words = next((str(one.get("message", "")) for one in faults if isinstance(one, dict)), "")
    if reply.status in (403, 413):
        return OverQuota(resources="volumes", requested=1, used="all", limit="its limit")
    if volume_id and reply.status == 404:
        return VolumeNotFound(volume_id=volume_id)
    if volume_id and reply.status in (400, 409):
        return VolumeUnavailable(volume_id=volume_id, reason=words or "it can't be used now")
    if reply.status == 404:
        return NotFound(reason=words or "The block storage service does not know it.")
    if reply.status in (400, 409):
        return Invalid(reason=words or "The block storage service refuses the request.")
    return PeerUnavailable(service=NAME, reason=f"it answered {reply.status}")
