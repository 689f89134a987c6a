"""A guest's files, in a directory of its own named by its uuid.

`guest.json` is written last and removed first: a directory with it is complete, one without is incomplete and never
used. A guest's base image is a second name (a hard link) of the file in the image cache, so the cache may remove its
own name at any time.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import UUID

from cell_service.errors import DriverError, GuestNotFound, HostOutOfSpace
from compute_host.libvirt_settings import GuestSettings
from compute_host.virt import inspection
from compute_host.virt.driver import Disk, GuestSpec
from compute_host.virt.libvirt import drive
from compute_host.virt.libvirt.domain import Laid, LaidDisk
from compute_host.virt.libvirt.drive import from_os, run

RECORD, BASE, CONSOLE, DRIVE = "guest.json", "base", "console.log", "disk.config"
RESCUE, RESCUE_BASE, RESCUE_DRIVE = "disk.rescue", "base.rescue", "disk.config.rescue"
RESCUE_KERNEL, RESCUE_RAMDISK = "kernel.rescue", "ramdisk.rescue"
MARGIN_BYTES = 4 * 2**20
_DIRECT = ("raw", "qcow2")
_QEMU_NAMES = {"iso": "raw", "ami": "raw", "vhd": "vpc"}
_MKFS = {"ext4": "mkfs.ext4", "ext3": "mkfs.ext3", "xfs": "mkfs.xfs", "vfat": "mkfs.vfat"}


@dataclass(frozen=True, slots=True)
class Record:
    """The content of `guest.json`: the guest's own files, the disk space that it may fill, and the files that it
    runs from while it is rescued."""

    laid: Laid
    disk_bytes: int
    rescued: Laid | None = None

    @property
    def in_use(self) -> Laid:
        """The files that the guest runs from now."""
        return self.rescued or self.laid


class Storage:
    """The directories of one host's guests."""

    def __init__(self, directory: Path, settings: GuestSettings, images_type: str) -> None:
        self._directory, self._settings = directory, settings
        self._format = "qcow2" if images_type in ("default", "qcow2") else "raw"

    @property
    def directory(self) -> Path:
        return self._directory

    def path(self, uuid: str) -> Path:
        return self._directory / str(UUID(uuid))

    def uuids(self) -> tuple[str, ...]:
        """The uuids of all directories, complete or not."""
        try:
            return tuple(sorted(each.name for each in self._directory.iterdir() if _is_uuid(each.name)))
        except FileNotFoundError:
            return ()

    def record(self, uuid: str) -> Record:
        """The guest's record. Raises GuestNotFound unless its directory is complete."""
        try:
            return _decoded(self.path(uuid), json.loads((self.path(uuid) / RECORD).read_text(encoding="utf-8")))
        except (OSError, ValueError, KeyError):
            raise GuestNotFound(uuid=uuid) from None

    def is_whole(self, uuid: str) -> bool:
        return (self.path(uuid) / RECORD).exists()

    def disk_bytes(self) -> int:
        """The disk space that all guests may fill."""
        total = 0
        for uuid in self.uuids():
            try:
                total += self.record(uuid).disk_bytes
            except GuestNotFound:
                continue
        return total

    def make(self, spec: GuestSpec) -> Laid:
        """Make all files of a new guest. After an error some may be left; `remove` deletes them.

        Raises ImageUnacceptable, HostOutOfSpace, DriverError.
        """
        root = self.path(spec.instance.uuid)
        for disk in spec.disks:
            if disk.image is not None:
                inspection.check(disk, spec.instance.image_ref)
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            self._check_space(spec)
            root.mkdir()
            wanted = [disk for disk in spec.disks if disk.size_bytes or disk.image]
            disks = tuple(self._disk(root, disk, name) for disk, name in zip(wanted, _names(wanted), strict=True))
            laid = Laid(
                disks,
                root / CONSOLE,
                kernel=None if spec.kernel is None else root / "kernel",
                ramdisk=None if spec.ramdisk is None else root / "ramdisk",
            )
            for name in ("kernel", "ramdisk"):
                source = getattr(spec, name)
                if source is not None:
                    _same(source, root / name)
            if spec.config_drive is not None:
                laid = self._drive(laid, root, spec)
            self._write(root, Record(laid, sum(disk.size_bytes for disk in spec.disks)))
        except OSError as error:
            raise from_os("the guest's files cannot be made", error) from error
        return laid

    def keep(self, spec: GuestSpec) -> Laid:
        """The guest's existing files; its config drive is made again if the spec has its content.

        Raises GuestNotFound, HostOutOfSpace, DriverError.
        """
        uuid = spec.instance.uuid
        record = self.record(uuid)
        for disk in record.laid.disks:
            if not disk.path.exists():
                raise DriverError(reason=f"The guest's {disk.role} disk is lost: {disk.path.name} is not there.")
        if spec.config_drive is None:
            return record.in_use
        try:
            laid = self._drive(record.laid, self.path(uuid), spec)
            if laid != record.laid:
                self._write(self.path(uuid), replace(record, laid=laid))
        except OSError as error:
            raise from_os("the guest's files cannot be made", error) from error
        return record.rescued or laid

    def fit(self, spec: GuestSpec) -> Laid:
        """Give the guest's disks the sizes of the spec: they grow and never shrink, a swap disk is made again, those
        that are new are made, and those that the spec has no more are removed. A root disk without a size stays.

        Raises GuestNotFound, HostOutOfSpace, DriverError; done again it goes on.
        """
        root, record = self.path(spec.instance.uuid), self.record(spec.instance.uuid)
        had = {disk.path.name: disk for disk in record.laid.disks}
        wanted = [disk for disk in spec.disks if disk.size_bytes or disk.role == "root"]
        disks, total = [], 0
        try:
            for disk, name in zip(wanted, _names(wanted), strict=True):
                if name in had and disk.role != "swap":
                    total += _grow(had[name], disk.size_bytes)
                    disks.append(had[name])
                elif disk.size_bytes:
                    (root / name).unlink(missing_ok=True)
                    disks.append(self._disk(root, disk, name))
                    total += disk.size_bytes
            laid = replace(record.laid, disks=tuple(disks))
            self._write(root, replace(record, laid=laid, disk_bytes=total))
            for gone in had.keys() - {disk.path.name for disk in disks}:
                (root / gone).unlink(missing_ok=True)
        except OSError as error:
            raise from_os("the guest's disks cannot be resized", error) from error
        return laid

    def rescue(self, spec: GuestSpec, *, stable: bool) -> Laid:
        """Make a new rescue disk of the image of the spec's root disk, with a config drive of its own. `stable`: the
        guest's own disks keep their places.

        Raises GuestNotFound, ImageUnacceptable, HostOutOfSpace, DriverError; then the guest is not rescued.
        """
        self.unrescue(spec.instance.uuid)
        root, record, disk = self.path(spec.instance.uuid), self.record(spec.instance.uuid), spec.disks[0]
        if disk.image is None:
            raise DriverError(reason="There is no image to rescue the guest from.")
        inspection.check(disk, spec.instance.image_ref)
        try:
            self._check_space(replace(spec, disks=(disk,)))
            self._from_image(root, root / RESCUE, disk, root / RESCUE_BASE)
            mine = LaidDisk("rescue", root / RESCUE, self._format)
            own = record.laid.disks
            laid = replace(record.laid, disks=(*own, mine) if stable else (mine, *own), kernel=None, ramdisk=None)
            if spec.kernel is not None:
                _same(spec.kernel, root / RESCUE_KERNEL)
                laid = replace(laid, kernel=root / RESCUE_KERNEL)
            if spec.ramdisk is not None:
                _same(spec.ramdisk, root / RESCUE_RAMDISK)
                laid = replace(laid, ramdisk=root / RESCUE_RAMDISK)
            if spec.config_drive is not None:
                laid = self._drive(laid, root, spec, RESCUE_DRIVE)
            self._write(root, replace(record, rescued=laid))
        except OSError as error:
            self.unrescue(spec.instance.uuid)
            raise from_os("the rescue disk cannot be made", error) from error
        except DriverError:
            self.unrescue(spec.instance.uuid)
            raise
        return laid

    def unrescue(self, uuid: str) -> Laid:
        """Remove the rescue disk. Returns the guest's own files. Raises GuestNotFound, DriverError."""
        root, record = self.path(uuid), self.record(uuid)
        try:
            if record.rescued is not None:
                self._write(root, replace(record, rescued=None))
            for name in (RESCUE, RESCUE_BASE, RESCUE_DRIVE, RESCUE_KERNEL, RESCUE_RAMDISK):
                (root / name).unlink(missing_ok=True)
        except OSError as error:
            raise from_os("the rescue disk cannot be removed", error) from error
        return record.laid

    def remove(self, uuid: str) -> None:
        """Remove all files of the guest. No such guest: no error."""
        root = self.path(uuid)
        try:
            (root / RECORD).unlink(missing_ok=True)
            shutil.rmtree(root)
        except FileNotFoundError:
            return
        except OSError as error:
            raise from_os("the guest's files cannot be removed", error) from error

    # -- inside --------------------------------------------------------------------------------------

    def _check_space(self, spec: GuestSpec) -> None:
        """Check that the files to be written now fit; the scheduler counts what guests may fill later."""
        wanted = MARGIN_BYTES + sum(len(file.content) for file in spec.config_drive or ())
        for disk in spec.disks:
            if disk.image is not None and (self._format == "raw" or not _same_device(disk.image, self._directory)):
                wanted += disk.image.stat().st_blocks * 512
        free = shutil.disk_usage(self._directory).free
        if wanted > free:
            reason = f"The host's disk has {free >> 20} MiB free; {wanted >> 20} MiB are needed."
            raise HostOutOfSpace(reason=reason)

    def _disk(self, root: Path, disk: Disk, name: str) -> LaidDisk:
        path = root / name
        if disk.image is not None:
            self._from_image(root, path, disk, root / BASE)
        elif disk.role == "root" and self._format == "qcow2":
            run(["qemu-img", "create", "-q", "-f", "qcow2", path, str(disk.size_bytes)])
        else:
            with path.open("wb") as file:
                file.truncate(disk.size_bytes)
            if disk.role == "swap":
                run(["mkswap", "-L", "swap0", path])
            elif disk.role == "ephemeral":
                self._filesystem(path)
            return LaidDisk(disk.role, path, "raw")
        return LaidDisk(disk.role, path, self._format)

    def _from_image(self, root: Path, path: Path, disk: Disk, source: Path) -> None:
        assert disk.image is not None
        kind = _QEMU_NAMES.get(disk.image_format or "raw", disk.image_format or "raw")
        if self._format == "raw":
            run(["qemu-img", "convert", "-f", kind, "-O", "raw", disk.image, path])
            os.truncate(path, max(disk.size_bytes, path.stat().st_size))
            return
        if kind in _DIRECT and not (self._settings.force_raw_images and kind != "raw"):
            _same(disk.image, source)
        else:
            run(["qemu-img", "convert", "-f", kind, "-O", "raw", disk.image, source])
            kind = "raw"
        run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", source.name, "-F", kind, path, str(disk.size_bytes)])

    def _filesystem(self, path: Path) -> None:
        kind = self._settings.default_ephemeral_format or "ext4"
        if kind not in _MKFS:
            raise DriverError(reason=f"[DEFAULT] default_ephemeral_format: {kind} cannot be made.")
        label = "-n" if kind == "vfat" else "-L"
        quick = ["-q", "-F", "-E", "lazy_itable_init=1,nodiscard"] if kind.startswith("ext") else []
        run([_MKFS[kind], *quick, label, "ephemeral0", path])

    def _drive(self, laid: Laid, root: Path, spec: GuestSpec, name: str = DRIVE) -> Laid:
        assert spec.config_drive is not None
        kind = self._settings.config_drive_format
        drive.make(spec.config_drive, root / name, kind, self._settings.mkisofs_cmd)
        return replace(laid, drive=root / name, drive_is_cdrom=kind == "iso9660")

    def _write(self, root: Path, record: Record) -> None:
        part = root / f"{RECORD}.part"
        with part.open("w", encoding="utf-8") as file:
            json.dump(_encoded(record), file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, root / RECORD)


def _grow(disk: LaidDisk, size_bytes: int) -> int:
    """Let the disk have at least the size. Returns the size that it has then, in bytes. Raises DriverError."""
    has = int(json.loads(run(["qemu-img", "info", "--output=json", "-f", disk.format, disk.path]))["virtual-size"])
    if size_bytes > has:
        run(["qemu-img", "resize", "-q", "-f", disk.format, disk.path, str(size_bytes)])
    return max(has, size_bytes)


def _names(disks: list[Disk]) -> list[str]:
    """The file names of the disks of one guest."""
    numbers = itertools.count()
    return [{"root": "disk", "swap": "disk.swap"}.get(disk.role) or f"disk.eph{next(numbers)}" for disk in disks]


def _encoded(record: Record) -> dict[str, Any]:
    plain = {**_plain(record.laid), "disk_bytes": record.disk_bytes}
    return plain if record.rescued is None else {**plain, "rescued": _plain(record.rescued)}


def _plain(laid: Laid) -> dict[str, Any]:
    return {
        "disks": [[disk.role, disk.path.name, disk.format] for disk in laid.disks],
        "kernel": laid.kernel is not None and laid.kernel.name,
        "ramdisk": laid.ramdisk is not None and laid.ramdisk.name,
        "drive": None if laid.drive is None else "cdrom" if laid.drive_is_cdrom else "disk",
        "drive_file": laid.drive is not None and laid.drive.name,
    }


def _decoded(root: Path, known: dict[str, Any]) -> Record:
    rescued = known.get("rescued")
    return Record(_laid(root, known), int(known["disk_bytes"]), None if rescued is None else _laid(root, rescued))


def _laid(root: Path, known: dict[str, Any]) -> Laid:
    """Earlier versions recorded of a kernel, a ramdisk and a drive only whether there is one."""

    def file(key: str, usual: str) -> Path | None:
        name = known.get(key)
        return root / (name if isinstance(name, str) else usual) if name else None

    return Laid(
        tuple(LaidDisk(role, root / name, kind) for role, name, kind in known["disks"]),
        root / CONSOLE,
        kernel=file("kernel", "kernel"),
        ramdisk=file("ramdisk", "ramdisk"),
        drive=root / (known.get("drive_file") or DRIVE) if known["drive"] else None,
        drive_is_cdrom=known["drive"] != "disk",
    )


def _same(source: Path, target: Path) -> None:
    """Make `target` a hard link or a copy of `source`, which may be removed afterwards."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _same_device(path: Path, other: Path) -> bool:
    return path.stat().st_dev == other.stat().st_dev


def _is_uuid(name: str) -> bool:
    try:
        return str(UUID(name)) == name
    except ValueError:
        return False
