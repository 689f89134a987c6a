"""The making of a guest's disks."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import threading
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from cell_service.errors import DriverError, ImageUnacceptable
from compute_host.config import HostSettings
from compute_host.disk_space import demand_space
from compute_host.virt import inspection
from compute_host.virt.driver import GIB, Disk
from compute_host.virt.libvirt.domain import LaidDisk
from compute_host.virt.libvirt.drive import run
from compute_host.virt.libvirt.second_opinion import SecondOpinion

CONVERT_SECONDS = 6 * 3600.0
_DIRECT = ("raw", "qcow2")
_QEMU_NAMES = {"iso": "raw", "ami": "raw", "vhd": "vpc"}
_MKFS = {"ext4": "mkfs.ext4", "ext3": "mkfs.ext3", "xfs": "mkfs.xfs", "vfat": "mkfs.vfat"}


class Disks:
    """Makes disks as the host's settings say. Thread-safe."""

    def __init__(self, settings: HostSettings) -> None:
        guests, images_type = settings.guests, settings.libvirt.images_type
        self._guests, self._vmdk_kinds = guests, settings.vmdk_kinds
        backed = guests.use_cow_images if images_type == "default" else images_type == "qcow2"
        self.format = "qcow2" if backed else "raw"
        """Of root disks. qcow2: backed by the image; raw: a copy."""
        self._preallocates = guests.preallocate_images == "space"
        self._opinion = SecondOpinion()
        self._lock = threading.Lock()
        self._converting: dict[Path, threading.Lock] = {}

    def inspected(self, disk: Disk, image_id: str) -> Disk:
        """The disk, with a size if it is to be as large as its image. Raises ImageUnacceptable."""
        size = inspection.check(disk, image_id, self._vmdk_kinds)
        if (kind := _kind(disk)) != "raw":
            size = self._opinion.examine(disk, kind, image_id)
        return replace(disk, size_bytes=disk.size_bytes or -(-size // GIB) * GIB)

    def check_space(self, directory: Path, disks: Iterable[Disk], more_bytes: int = 0) -> None:
        """Check that the files to be written now fit; the scheduler counts what guests may fill later. Raises
        HostOutOfSpace."""
        wanted = more_bytes + sum(self._bytes_now(directory, disk) for disk in disks)
        demand_space(directory, wanted)

    def make(self, disk: Disk, path: Path, base: Path, image_id: str) -> LaidDisk:
        """Make the disk's file. `base`: the name of the file that backs it, where one does.
        Raises HostOutOfSpace, ImageUnacceptable, DriverError, OSError."""
        kind = self.format if disk.role in ("root", "rescue") or disk.image is not None else "raw"
        if disk.image is not None:
            self._from_image(path, disk, base, image_id)
        elif kind == "qcow2":
            run(["qemu-img", "create", "-q", "-f", "qcow2", path, str(disk.size_bytes)])
        else:
            self._blank(path, disk)
        self._preallocate(path, disk.size_bytes)
        return LaidDisk(disk.role, path, kind)

    def grow(self, disk: LaidDisk, size_bytes: int) -> int:
        """Let the disk have at least the size. Returns the size that it has then, in bytes. Raises HostOutOfSpace,
        DriverError."""
        has = int(json.loads(run(["qemu-img", "info", "--output=json", "-f", disk.format, disk.path]))["virtual-size"])
        if size_bytes > has:
            self._preallocate(disk.path, size_bytes)
            run(["qemu-img", "resize", "-q", "-f", disk.format, disk.path, str(size_bytes)])
        return max(has, size_bytes)

    # -- inside --------------------------------------------------------------------------------------

    def _bytes_now(self, directory: Path, disk: Disk) -> int:
        if self._preallocates:
            return disk.size_bytes
        if disk.image is None or (self.format == "qcow2" and same_device(disk.image, directory)):
            return 0
        return disk.image.stat().st_blocks * 512

    def _preallocate(self, path: Path, size_bytes: int) -> None:
        if self._preallocates and size_bytes:
            run(["fallocate", "-n", "-l", str(size_bytes), path])

    def _blank(self, path: Path, disk: Disk) -> None:
        with path.open("wb") as file:
            file.truncate(disk.size_bytes)
        if disk.role == "swap":
            run(["mkswap", "-L", "swap0", path])
        elif disk.role == "ephemeral":
            self._filesystem(path)

    def _from_image(self, path: Path, disk: Disk, base: Path, image_id: str) -> None:
        assert disk.image is not None
        kind = _kind(disk)
        if self.format == "raw":
            run(["qemu-img", "convert", "-f", kind, "-O", "raw", disk.image, path], seconds=CONVERT_SECONDS)
            _check_size(path, disk, image_id)
            os.truncate(path, disk.size_bytes)
            return
        if kind in _DIRECT and not (self._guests.force_raw_images and kind != "raw"):
            same(disk.image, base)
        else:
            with self._converted(disk.image, kind) as raw:
                _check_size(raw, disk, image_id)
                same(raw, base)
            kind = "raw"
        run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", base.name, "-F", kind, path, str(disk.size_bytes)])

    @contextlib.contextmanager
    def _converted(self, image: Path, kind: str) -> Iterator[Path]:
        """The image as a raw file next to it, made once for all guests."""
        raw = image.with_name(f"{image.name}.raw")
        with self._lock:
            gate = self._converting.setdefault(raw, threading.Lock())
        with gate:
            try:
                os.utime(raw)  # the cache removes what was not used for long
            except FileNotFoundError:
                part = image.with_name(f"{raw.name}.part")
                try:
                    run(["qemu-img", "convert", "-f", kind, "-O", "raw", image, part], seconds=CONVERT_SECONDS)
                    os.replace(part, raw)
                finally:
                    part.unlink(missing_ok=True)
            yield raw

    def _filesystem(self, path: Path) -> None:
        kind = self._guests.default_ephemeral_format or "ext4"
        if kind not in _MKFS:
            raise DriverError(reason=f"[DEFAULT] default_ephemeral_format: {kind} cannot be made.")
        label = "-n" if kind == "vfat" else "-L"
        quick = ["-q", "-F", "-E", "lazy_itable_init=1,nodiscard"] if kind.startswith("ext") else []
        run([_MKFS[kind], *quick, label, "ephemeral0", path])


def names(disks: list[Disk]) -> list[str]:
    """The file names of the disks of one guest."""
    numbers = itertools.count()
    return [{"root": "disk", "swap": "disk.swap"}.get(disk.role) or f"disk.eph{next(numbers)}" for disk in disks]


def same(source: Path, target: Path) -> None:
    """Make `target` a hard link or a copy of `source`, which may be removed afterwards."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def same_device(path: Path, other: Path) -> bool:
    return path.stat().st_dev == other.stat().st_dev


def _kind(disk: Disk) -> str:
    """QEMU's name of the format of the disk's image."""
    return _QEMU_NAMES.get(disk.image_format or "raw", disk.image_format or "raw")


def _check_size(path: Path, disk: Disk, image_id: str) -> None:
    size = path.stat().st_size
    if size > disk.size_bytes:
        reason = f"it has {size} bytes when it is converted, more than the disk of {disk.size_gib} GiB"
        raise ImageUnacceptable(image_id=image_id, reason=reason)
