"""Images on a host: fetched once, verified, shared by all guests that start from them."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

from cell_service.context import Context
from cell_service.errors import ImageNotFound, ImageUnacceptable
from cell_service.logs import about
from cell_service.model.instance import Flavor
from cell_service.peers.image import Image, Images, NewImage

log = logging.getLogger(__name__)


class ImageCache:
    """A directory of whole, verified images. May be shared by the hosts of a process, and by processes."""

    def __init__(self, images: Images, directory: Path) -> None:
        self._images = images
        self._directory = directory
        self._lock = threading.Lock()
        self._fetching: dict[str, threading.Lock] = {}
        self._users: dict[str, int] = {}

    @contextlib.contextmanager
    def image(self, ctx: Context, image_id: str, flavor: Flavor) -> Iterator[tuple[Image, Path]]:
        """The image's record and its file, which is kept while it is in use.

        Raises ImageNotFound, ImageUnacceptable (also when the flavor is too small for it), PeerUnavailable.
        """
        record = self._images.get(ctx, image_id)
        check_fits(record, flavor)
        key = _key(record)
        with self._lock:
            self._users[key] = self._users.get(key, 0) + 1
        try:
            yield record, self._fetched(ctx, record, key)
        finally:
            with self._lock:
                self._users[key] -= 1
                if not self._users[key]:
                    del self._users[key]

    def fetch(self, ctx: Context, image_id: str) -> None:
        """Fetch the image's file, if it is not here. Raises ImageNotFound, ImageUnacceptable, PeerUnavailable."""
        record = self._images.get(ctx, image_id)
        self._fetched(ctx, record, _key(record))

    def is_active(self, ctx: Context, image_id: str) -> bool:
        """Whether the image is active, so that guests can start from it. Raises PeerUnavailable."""
        try:
            return self._images.get(ctx, image_id).status == "active"
        except ImageNotFound:
            return False

    def publish(self, ctx: Context, image: NewImage, make: Callable[[Path], str]) -> None:
        """Make the image active, with the content that `make` writes into a file (it returns the disk format). An image
        that is active already stays as it is. Raises ImageUnacceptable, ImageNotFound, PeerUnavailable."""
        if self.is_active(ctx, image.id):
            return
        self._directory.mkdir(parents=True, exist_ok=True)
        part = self._directory / f"{image.id}.{uuid4().hex}.part"
        try:
            self._images.upload(ctx, replace(image, disk_format=make(part)), part)
        finally:
            part.unlink(missing_ok=True)
        log.info("image made", extra=about(ctx, image=image.id))

    def remove(self, ctx: Context, image_id: str) -> None:
        """Delete the image in the service; none there: no error. Raises ImageUnacceptable, PeerUnavailable."""
        self._images.delete(ctx, image_id)

    def rotate(self, ctx: Context, owner: str, marks: Mapping[str, str], keep: int) -> None:
        """Delete the owner's images with these properties, except the newest `keep`. Raises ImageUnacceptable,
        PeerUnavailable."""
        for image in self._images.find(ctx, owner, marks)[keep:]:
            self._images.delete(ctx, image.id)
            log.info("image rotated away", extra=about(ctx, image=image.id))

    def sweep(self, unused_seconds: float) -> list[str]:
        """Remove files that were unused for that long. Returns their names."""
        removed = []
        before = time.time() - unused_seconds
        for path in self._directory.glob("*"):
            with self._lock, contextlib.suppress(FileNotFoundError):
                if path.name not in self._users and path.stat().st_mtime < before:
                    path.unlink()
                    removed.append(path.name)
        return removed

    def _fetched(self, ctx: Context, record: Image, key: str) -> Path:
        target = self._directory / key
        with self._lock:
            gate = self._fetching.setdefault(key, threading.Lock())
        with gate:
            if _is_whole(target, record):
                os.utime(target)
                return target
            self._directory.mkdir(parents=True, exist_ok=True)
            part = target.with_name(f"{key}.{uuid4().hex}.part")
            try:
                self._images.download(ctx, record, part)
                os.replace(part, target)
            finally:
                part.unlink(missing_ok=True)
            log.info("image fetched", extra=about(ctx, image=record.id, size=record.size_bytes))
            return target


def check_fits(image: Image, flavor: Flavor) -> None:
    """Raises ImageUnacceptable unless the image may be started with this flavor."""
    if image.status != "active":
        raise ImageUnacceptable(image_id=image.id, reason=f"it is {image.status}, not active")
    if image.min_ram_mib > flavor.memory_mib:
        reason = f"it needs {image.min_ram_mib} MiB of memory, the flavor has {flavor.memory_mib}"
        raise ImageUnacceptable(image_id=image.id, reason=reason)
    if flavor.root_gib and image.min_disk_gib > flavor.root_gib:
        reason = f"it needs a disk of {image.min_disk_gib} GiB, the flavor has {flavor.root_gib}"
        raise ImageUnacceptable(image_id=image.id, reason=reason)


def _key(image: Image) -> str:
    """A file name that changes with the image's content."""
    content = image.os_hash_value or image.checksum or str(image.size_bytes)
    return hashlib.sha256(f"{image.id}:{content}".encode()).hexdigest()[:40]


def _is_whole(path: Path, image: Image) -> bool:
    try:
        return path.stat().st_size == image.size_bytes
    except FileNotFoundError:
        return False
