"""The image service (Image API v2) as compute uses it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Protocol

from cell_service.context import Context


@dataclass(frozen=True, slots=True)
class Image:
    """An image's record. Sizes: bytes, GiB and MiB; `properties` as text under their own names (hw_*, os_*, …)."""

    id: str
    name: str
    status: str
    disk_format: str
    container_format: str
    size_bytes: int
    min_disk_gib: int
    min_ram_mib: int
    visibility: str = "private"
    owner: str = ""
    os_hash_algo: str = ""
    os_hash_value: str = ""
    checksum: str = ""
    virtual_bytes: int | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None
    properties: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class NewImage:
    """An image to be made under an id that was chosen before. Sizes: GiB and MiB."""

    id: str
    name: str
    owner: str
    disk_format: str
    container_format: str = "bare"
    visibility: str = "private"
    min_disk_gib: int = 0
    min_ram_mib: int = 0
    properties: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ImageQuery:
    """Which images of a list: those that match all conditions given here, `limit` of them after `marker` (an id)
    and after `offset` more. Sizes: MiB and GiB."""

    limit: int
    marker: str | None = None
    offset: int = 0
    name: str | None = None
    statuses: tuple[str, ...] = ()
    """The image has any of these statuses; empty: whatever its status."""
    min_ram_mib: int | None = None
    min_disk_gib: int | None = None
    changed_since: datetime | None = None
    properties: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ImagePage:
    """`more`: there may be images after these."""

    images: tuple[Image, ...]
    more: bool


class Images(Protocol):
    def get(self, ctx: Context, image_id: str) -> Image:
        """Raises ImageNotFound (also for images that the project may not see), PeerUnavailable."""

    def download(self, ctx: Context, image: Image, target: Path) -> None:
        """Write the image's bytes to `target` (made whole or not at all).

        Raises ImageUnacceptable when size or hash is not what the record says, ImageNotFound, PeerUnavailable.
        """

    def reserve(self, ctx: Context, image: NewImage) -> None:
        """Make the image's record, without content, which `upload` gives it. It exists already: no error.

        Raises Invalid, Forbidden when the service refuses it, PeerUnavailable.
        """

    def find(self, ctx: Context, owner: str, properties: Mapping[str, str]) -> tuple[Image, ...]:
        """The owner's images that have these properties, newest first. Raises PeerUnavailable."""

    def page(self, ctx: Context, token: str, wanted: ImageQuery) -> ImagePage:
        """Images that the bearer of this token may list: the project's own, public ones, and those that others share
        with it and it has accepted; for an administrator every image but community ones. Newest first.

        Raises Invalid when there is no image to begin after or the service takes no such filter, PeerUnavailable.
        """

    def describe(self, ctx: Context, image_id: str, properties: Mapping[str, str]) -> Image:
        """Give the image these properties and no others.

        Raises ImageNotFound, Forbidden when it is another project's or a name is no property, Invalid,
        PeerUnavailable.
        """

    def remove(self, ctx: Context, image_id: str) -> None:
        """Remove the image, as its owner requested.

        Raises ImageNotFound, Forbidden when it is another project's, protected or in use, PeerUnavailable.
        """

    def upload(self, ctx: Context, image: NewImage, content: Path) -> None:
        """Upload the image's content, and make it active with these properties. An upload that was begun is continued;
        an active image stays as it is.

        Raises ImageUnacceptable when the service refuses it, ImageNotFound when it is deleted meanwhile,
        PeerUnavailable.
        """

    def delete(self, ctx: Context, image_id: str) -> None:
        """Delete the image. No such image: no error. Raises ImageUnacceptable when it must not be deleted,
        PeerUnavailable."""
