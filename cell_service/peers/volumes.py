"""The block storage service (Block Storage API v3) as compute uses it.

Attachments are found by volume, instance and host, so that each verb may be done again after a restart.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from cell_service.context import Context


@dataclass(frozen=True, slots=True)
class Volume:
    """A volume as its service shows it. `image` is what is known of the image on it: properties, image_id, size, …"""

    id: str
    project_id: str
    status: str
    size_gib: int
    name: str = ""
    description: str | None = None
    bootable: bool = False
    multiattach: bool = False
    encrypted: bool = False
    availability_zone: str | None = None
    volume_type: str | None = None
    snapshot_id: str | None = None
    created_at: str = ""
    metadata: dict[str, str] = field(default_factory=dict)
    image: dict[str, str] = field(default_factory=dict)
    attachments: tuple[VolumeLink, ...] = ()


@dataclass(frozen=True, slots=True)
class VolumeLink:
    """One attachment in a volume's document. `host` None: it is complete, but no host has connected it."""

    attachment_id: str
    server_id: str
    host: str | None
    device: str | None


@dataclass(frozen=True, slots=True)
class Snapshot:
    id: str
    project_id: str
    volume_id: str
    status: str
    size_gib: int
    name: str = ""
    description: str | None = None
    created_at: str = ""


@dataclass(frozen=True, slots=True)
class Connection:
    """An attachment that a host may use."""

    attachment_id: str
    info: dict[str, Any]


@dataclass(frozen=True, slots=True)
class NewVolume:
    """A volume to make for a project. `mark` is one word by which a repeated request finds it."""

    project_id: str
    size_gib: int
    mark: str = ""
    name: str = ""
    description: str | None = None
    image_id: str | None = None
    snapshot_id: str | None = None
    volume_type: str | None = None
    availability_zone: str | None = None
    metadata: dict[str, str] = field(default_factory=dict)


class Volumes(Protocol):
    """Raises PeerUnavailable everywhere."""

    def get(self, ctx: Context, volume_id: str) -> Volume:
        """Raises VolumeNotFound, also for one that the caller may not see."""

    def all(self, ctx: Context) -> tuple[Volume, ...]:
        """The volumes of the caller's project."""

    def create(self, ctx: Context, wanted: NewVolume) -> Volume:
        """Make a volume; with a mark, find the one that was made for it before. Raises Invalid, NotFound, OverQuota."""

    def made_for(self, ctx: Context, mark: str) -> str | None:
        """The id of the volume that `create` made with that mark."""

    def delete(self, ctx: Context, volume_id: str) -> None:
        """Delete the volume. No such volume: no error. Raises VolumeUnavailable when it can't be deleted as it is."""

    def encryption(self, ctx: Context, volume_id: str) -> dict[str, Any]:
        """How an encrypted volume is encrypted: provider, cipher, key_size, control_location, encryption_key_id. Raises
        VolumeNotFound."""

    def snapshot(self, ctx: Context, snapshot_id: str) -> Snapshot:
        """Raises SnapshotNotFound."""

    def snapshots(self, ctx: Context) -> tuple[Snapshot, ...]:
        """The snapshots of the caller's project."""

    def take_snapshot(
        self, ctx: Context, volume_id: str, name: str, description: str | None, *, force: bool
    ) -> Snapshot:
        """Raises VolumeNotFound, VolumeUnavailable."""

    def delete_snapshot(self, ctx: Context, snapshot_id: str) -> None:
        """Raises SnapshotNotFound, VolumeUnavailable."""

    def report_snapshot(self, ctx: Context, snapshot_id: str, status: str) -> None:
        """Report to the service how a host's part of a snapshot ended: `creating` and `deleting`, the host has done it;
        `error` and `error_deleting`, it could not. Raises SnapshotNotFound, Invalid when the snapshot is in another
        state by now."""

    def reimage(self, ctx: Context, volume_id: str, image_id: str) -> None:
        """Begin to give a reserved volume the image's content; it is `downloading` until then.

        Raises VolumeNotFound, VolumeUnavailable.
        """

    def reserve(self, ctx: Context, volume_id: str, instance_uuid: str) -> str:
        """Make an attachment of the volume to the instance that no host has connected, or find the one that is there
        already, complete or not. Answers its id. Raises VolumeNotFound, VolumeUnavailable."""

    def connect(
        self, ctx: Context, volume_id: str, instance_uuid: str, connector: Mapping[str, Any], device: str | None
    ) -> Connection:
        """Connect the volume from the connector's host: the instance's attachment, and how the host reaches the volume.
        One that no host has connected is used first. Raises VolumeNotFound, VolumeUnavailable."""

    def connection(self, ctx: Context, attachment_id: str) -> Connection:
        """The attachment as it is now, and how its host reaches the volume. Raises NotFound."""

    def complete(self, ctx: Context, attachment_id: str) -> None:
        """Mark the attachment complete, so that the volume is in use: the guest has it, or will have it where no host
        has connected the attachment."""

    def release(self, ctx: Context, attachment_id: str) -> None:
        """Remove the attachment. No such attachment: no error."""

    def leave(self, ctx: Context, volume_id: str, instance_uuid: str, host: str) -> None:
        """Remove the host's attachments of the volume to the instance. None, or no such volume: no error."""

    def release_volume(self, ctx: Context, volume_id: str, instance_uuid: str) -> None:
        """Remove all attachments of the volume to the instance, on whichever host. None: no error."""

    def release_all(self, ctx: Context, instance_uuid: str) -> None:
        """Remove all attachments of the instance."""
