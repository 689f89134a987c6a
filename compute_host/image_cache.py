"""Images on a host: fetched once, verified, shared by all guests that start from them."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import re
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
from compute_host.disk_space import demand_space, from_os
from compute_host.image_settings import ImageCacheOptions
from compute_host.image_signatures import Signatures, Signer

log = logging.getLogger(__name__)


PART_SECONDS = 86400.0
"""Age at which an unfinished file that was left by a killed process is removed."""
_WHOLE = re.compile(r"[0-9a-f]{40}(\.raw)?")


class ImageCache:
    """A directory of whole, verified images. May be shared by the hosts of a process, and by processes."""

    def __init__(
        self,
        images: Images,
        directory: Path,
        options: ImageCacheOptions | None = None,
        signatures: Signatures | None = None,
    ) -> None:
        """`signatures` None: none are verified, and images for which that is requested are refused."""
        self._images, self._directory = images, directory
        self._options, self._signatures = options or ImageCacheOptions(), signatures
        self._lock = threading.Lock()
        self._fetching: dict[str, threading.Lock] = {}
        self._users: dict[str, int] = {}
        self._parts: set[str] = set()
        self._signed: set[tuple[str, Signer]] = set()

    @contextlib.contextmanager
    def image(
        self, ctx: Context, image_id: str, flavor: Flavor, trusted: tuple[str, ...] = ()
    ) -> Iterator[tuple[Image, Path]]:
        """The image's record and its file, which is kept while it is in use. `trusted`: certificates, one of which must
        vouch for the image's signer.

        Raises ImageNotFound, ImageUnacceptable (also when the flavor is too small for it), HostOutOfSpace,
        PeerUnavailable.
        """
        record = self._images.get(ctx, image_id)
        check_fits(record, flavor)
        with self._in_use(_key(record)) as key:
            yield record, self._verified(ctx, record, key, trusted)

    def fetch(self, ctx: Context, image_id: str) -> None:
        """Fetch the image's file, if it is not here. Raises as `image`."""
        record = self._images.get(ctx, image_id)
        with self._in_use(_key(record)) as key:
            self._verified(ctx, record, key, ())

    def is_active(self, ctx: Context, image_id: str) -> bool:
        """Whether the image is active, so that guests can start from it. Raises PeerUnavailable."""
        try:
            return self._images.get(ctx, image_id).status == "active"
        except ImageNotFound:
            return False

    def publish(self, ctx: Context, image: NewImage, make: Callable[[Path], str]) -> None:
        """Make the image active, with the content that `make` writes into a file (it returns the disk format). An image
        that is active already stays as it is. Raises ImageUnacceptable, ImageNotFound, HostOutOfSpace,
        PeerUnavailable."""
        if self.is_active(ctx, image.id):
            return
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            with self._part(image.id) as part:
                self._images.upload(ctx, replace(image, disk_format=make(part)), part)
        except OSError as error:
            raise from_os("the image cannot be made", error) from error
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

    def tidy(self) -> None:
        """Remove images that are unused for as long as the options say, and what killed processes have left."""
        options = self._options
        aged = options.remove_unused_base_images
        self.sweep(float(options.remove_unused_original_minimum_age_seconds) if aged else None)

    def sweep(self, unused_seconds: float | None) -> list[str]:
        """Remove images that were unused for that long (None: no image), and unfinished files. Returns their names."""
        removed = []
        now = time.time()
        for path in self._directory.glob("*"):
            longest = unused_seconds if _WHOLE.fullmatch(path.name) else PART_SECONDS
            with self._lock, contextlib.suppress(FileNotFoundError):
                if longest is not None and not self._is_in_use(path.name) and path.stat().st_mtime < now - longest:
                    path.unlink()
                    removed.append(path.name)
        if removed:
            log.info("image cache tidied", extra=about(None, removed=len(removed)))
        return removed

    def _is_in_use(self, name: str) -> bool:
        return name.removesuffix(".raw") in self._users or any(name.startswith(part) for part in self._parts)

    @contextlib.contextmanager
    def _in_use(self, key: str) -> Iterator[str]:
        with self._lock:
            self._users[key] = self._users.get(key, 0) + 1
        try:
            yield key
        finally:
            with self._lock:
                self._users[key] -= 1
                if not self._users[key]:
                    del self._users[key]

    def _verified(self, ctx: Context, record: Image, key: str, trusted: tuple[str, ...]) -> Path:
        """The image's file, after its signer and its signature are verified, if they are to be."""
        signer = None
        if self._signatures is not None:
            signer = self._signatures.signer(ctx, record, trusted)
        elif trusted:
            raise ImageUnacceptable(image_id=record.id, reason="this host does not verify signatures")
        path = self._fetched(ctx, record, key)
        if signer is not None and (key, signer) not in self._signed:
            if not signer.has_signed(path):
                self._discard(key, path)
                raise ImageUnacceptable(image_id=record.id, reason="its signature is wrong")
            self._signed.add((key, signer))
            log.info("image's signature verified", extra=about(ctx, image=record.id))
        return path

    def _fetched(self, ctx: Context, record: Image, key: str) -> Path:
        target = self._directory / key
        with self._lock:
            gate = self._fetching.setdefault(key, threading.Lock())
        with gate:
            try:
                if _is_whole(target, record):
                    os.utime(target)
                    return target
                self._download(ctx, record, target)
            except OSError as error:
                raise from_os("the image cannot be stored on this host", error) from error
            log.info("image fetched", extra=about(ctx, image=record.id, size=record.size_bytes))
            return target

    def _download(self, ctx: Context, record: Image, target: Path) -> None:
        self._directory.mkdir(parents=True, exist_ok=True)
        demand_space(self._directory, record.size_bytes)
        with self._part(target.name) as part:
            self._images.download(ctx, record, part)
            os.replace(part, target)

    @contextlib.contextmanager
    def _part(self, name: str) -> Iterator[Path]:
        """A file that is not there any more in the end, unless it was renamed."""
        part = self._directory / f"{name}.{uuid4().hex}.part"
        with self._lock:
            self._parts.add(part.name)
        try:
            yield part
        finally:
            part.unlink(missing_ok=True)
            with self._lock:
                self._parts.discard(part.name)

    def _discard(self, key: str, path: Path) -> None:
        """Remove the image's file, unless others use it."""
        with self._lock:
            if self._users.get(key, 0) <= 1:
                path.unlink(missing_ok=True)


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
