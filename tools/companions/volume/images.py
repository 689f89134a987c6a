"""Images and volumes: one made of the other, checked as compute hosts check images that guests start from."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cell_service.context import SYSTEM_CLOCK, Context, Deadline, new_request_id
from cell_service.errors import ImageNotFound, ImageUnacceptable, Invalid, PolycellError
from cell_service.logs import about
from cell_service.peers.image import Image, Images, NewImage
from compute_host.virt import inspection
from compute_host.virt.driver import Disk
from compute_host.virt.libvirt.drive import run
from compute_host.virt.libvirt.second_opinion import SecondOpinion
from tools.companions.route import CompanionRequest
from tools.companions.volume.store import GIB, Record

log = logging.getLogger(__name__)
SECONDS = 6 * 3600.0
"""The most that an image takes: to come, to be converted, to be uploaded."""
QUICK_SECONDS = 60.0
"""The most that a request about an image takes."""
QEMU_NAMES = {"iso": "raw", "ami": "raw", "vhd": "vpc"}
UPLOADED = ("raw", "qcow2", "vdi", "vhdx")
"""The formats of images that are made of volumes; any but raw needs qemu-img."""
ENCRYPTED = "cinder_encryption_key_id"
"""The property of an image whose content is that of an encrypted volume, as it was."""
_BASICS = ("image_id", "image_name", "disk_format", "container_format", "size", "min_disk", "min_ram")


class VolumeImages:
    """`images`: the image service, if one is known. `checks`: qemu-img is there to check and convert images; else
    volumes have images' files as they are."""

    def __init__(self, images: Images | None, *, checks: bool) -> None:
        self._images, self.checks = images, checks
        self._opinion = SecondOpinion()

    def snapshot_of(self, user: Record, image_id: str) -> str | None:
        """The snapshot of the root disk that an image of a server with volumes names; None for other images."""
        if self._images is None:
            return None
        try:
            image = self._images.get(context_of(user, QUICK_SECONDS), image_id)
            devices = json.loads(image.properties.get("block_device_mapping", "[]")) if image.size_bytes == 0 else []
        except (ImageNotFound, ValueError):
            return None
        root = image.properties.get("root_device_name")
        for one in devices if isinstance(devices, list) else []:
            if one.get("snapshot_id") and (one.get("boot_index") == 0 or one.get("device_name") == root):
                return str(one["snapshot_id"])
        return None

    def fetch(
        self, user: Record, image_id: str, size_gib: int, draft: Path, step: Callable[[str], None]
    ) -> tuple[Path, dict[str, str]]:
        """Write what a volume begins with to a file in the directory `draft`. Returns it, and what the volume says of
        its image. Raises ImageNotFound, ImageUnacceptable, HostOutOfSpace, DriverError, Invalid, PeerUnavailable."""
        images, ctx = self._known(), context_of(user)
        image = images.get(ctx, image_id)
        if ENCRYPTED in image.properties:
            raise ImageUnacceptable(image_id=image_id, reason="it is of an encrypted volume")
        if max(image.size_bytes, image.min_disk_gib * GIB) > size_gib * GIB:
            raise ImageUnacceptable(image_id=image_id, reason=f"it is larger than the volume of {size_gib} GiB")
        content = draft / "image"
        images.download(ctx, image, content)
        step("fetched")
        if self.checks:
            content = self._converted(image, content, size_gib)
        return content, _metadata_of(image)

    def reserve(self, user: Record, image: NewImage) -> None:
        self._known().reserve(context_of(user, QUICK_SECONDS), image)

    def upload(self, user: Record, image: NewImage, content: Path, draft: Path, step: Callable[[str], None]) -> None:
        """Upload the volume's content as an image that is reserved. Raises as `Images.upload`, DriverError."""
        if image.disk_format != "raw":
            made = draft / "image"
            run(["qemu-img", "convert", "-f", "raw", "-O", image.disk_format, content, made], seconds=SECONDS)
            content = made
        step("written")
        self._known().upload(context_of(user), image, content)

    def forget(self, user: Record, image: NewImage) -> None:
        """Delete an image that did not become whole."""
        try:
            self._known().delete(context_of(user, QUICK_SECONDS), image.id)
        except PolycellError as error:
            log.warning("image not deleted", extra=about(None, image=image.id, reason=error))

    def _converted(self, image: Image, content: Path, size_gib: int) -> Path:
        disk = Disk("root", size_gib * GIB, content, image.disk_format)
        inspection.check(disk, image.id)
        kind = QEMU_NAMES.get(image.disk_format, image.disk_format)
        if kind != "raw":
            self._opinion.examine(disk, kind, image.id)
        raw = content.with_name("content")
        run(["qemu-img", "convert", "-f", kind, "-O", "raw", content, raw], seconds=SECONDS)
        content.unlink()
        if raw.stat().st_size > disk.size_bytes:
            raise ImageUnacceptable(image_id=image.id, reason=f"it is larger than the volume of {size_gib} GiB")
        return raw

    def _known(self) -> Images:
        if self._images is None:
            raise Invalid(reason="No image service is known here.")
        return self._images


def user_of(req: CompanionRequest, project_id: str) -> Record:
    """In whose name images are used, now or by a later process."""
    return {"user_id": req.caller.user_id, "project_id": project_id, "is_admin": req.is_admin}


def context_of(user: Record, seconds: float = SECONDS) -> Context:
    return Context(
        new_request_id(), user_id=user["user_id"], project_id=user["project_id"], is_admin=bool(user["is_admin"]),
        deadline=Deadline.after(seconds, SYSTEM_CLOCK),
    )  # fmt: skip


def image_of(volume: Record, image_id: str, requested: Record) -> NewImage:
    """The image that is made of the volume: it has the properties of the one that the volume was made of. Raises
    Invalid."""
    disk_format = requested.get("disk_format") or "raw"
    if disk_format not in UPLOADED:
        raise Invalid(reason=f"Invalid input received: images are not made as {disk_format} here.")
    known: dict[str, Any] = volume.get("image_metadata") or {}
    return NewImage(
        id=image_id, name=requested["image_name"], owner=volume["project_id"], disk_format=disk_format,
        container_format=requested.get("container_format") or "bare",
        visibility=requested.get("visibility") or "shared", min_disk_gib=volume["size"],
        min_ram_mib=int(known["min_ram"]) if str(known.get("min_ram", "")).isdecimal() else 0,
        properties={name: str(value) for name, value in known.items() if name not in _BASICS},
    )  # fmt: skip


def _metadata_of(image: Image) -> dict[str, str]:
    values = (image.id, image.name, image.disk_format, image.container_format, image.size_bytes, image.min_disk_gib,
              image.min_ram_mib)  # fmt: skip
    return {name: str(value) for name, value in {**image.properties, **dict(zip(_BASICS, values, strict=True))}.items()}
