"""A guest's files, in a directory of its own named by its uuid.

`guest.json` is written last and removed first: a directory with it is complete, one without is incomplete and never
used. A guest's base image is a second name (a hard link) of the file in the image cache, so the cache may remove its
own name at any time.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from uuid import UUID

from cell_service.errors import DriverError, GuestNotFound
from compute_host.config import HostSettings
from compute_host.virt.driver import Disk, GuestSpec
from compute_host.virt.libvirt import drive, records
from compute_host.virt.libvirt.disks import Disks, names, same
from compute_host.virt.libvirt.domain import Laid
from compute_host.virt.libvirt.drive import from_os
from compute_host.virt.libvirt.records import CONSOLE, DRIVE, RECORD, Record

BASE = "base"
RESCUE, RESCUE_BASE, RESCUE_DRIVE = "disk.rescue", "base.rescue", "disk.config.rescue"
RESCUE_KERNEL, RESCUE_RAMDISK = "kernel.rescue", "ramdisk.rescue"


class Storage:
    """The directories of one host's guests."""

    def __init__(self, settings: HostSettings) -> None:
        self._directory, self._settings = settings.state, settings.guests
        self._disks = Disks(settings)

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
        return records.read(self.path(uuid))

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
        """Make all files of a new guest; after an error nothing of it is left.

        Raises ImageUnacceptable, HostOutOfSpace, DriverError.
        """
        uuid = spec.instance.uuid
        root = self.path(uuid)
        disks = [self._inspected(disk, spec) for disk in spec.disks]
        wanted = [disk for disk in disks if disk.size_bytes]
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            self._disks.check_space(self._directory, wanted, _drive_bytes(spec))
            root.mkdir()
        except OSError as error:
            raise from_os("the guest's files cannot be made", error) from error
        try:
            return self._filled(root, spec, wanted)
        except OSError as error:
            self.remove(uuid)
            raise from_os("the guest's files cannot be made", error) from error
        except DriverError:
            self.remove(uuid)
            raise

    def keep(self, spec: GuestSpec, *, own: bool = False) -> Laid:
        """The guest's existing files, those that it runs from now, or its `own` also while it is rescued; its config
        drive is made again if the spec has its content.

        Raises GuestNotFound, HostOutOfSpace, DriverError.
        """
        uuid = spec.instance.uuid
        record = self.record(uuid)
        for disk in record.laid.disks:
            if not disk.path.exists():
                raise DriverError(reason=f"The guest's {disk.role} disk is lost: {disk.path.name} is not there.")
        if spec.config_drive is None:
            return record.laid if own else record.in_use
        try:
            laid = self._drive(record.laid, self.path(uuid), spec)
            if laid != record.laid:
                records.write(self.path(uuid), replace(record, laid=laid))
        except OSError as error:
            raise from_os("the guest's files cannot be made", error) from error
        return laid if own else record.rescued or laid

    def fit(self, spec: GuestSpec) -> Record:
        """Give the guest's disks the sizes of the spec: they grow and never shrink, a swap disk is made again, new ones
        are made. A root disk without a size stays. Returns the record of the disks that the spec has: until `take` the
        guest keeps the one that it has.

        Raises GuestNotFound, HostOutOfSpace, DriverError; done again it goes on.
        """
        root, record = self.path(spec.instance.uuid), self.record(spec.instance.uuid)
        had = {disk.path.name: disk for disk in record.laid.disks}
        wanted = [disk for disk in spec.disks if disk.size_bytes or disk.role == "root"]
        disks, total = [], 0
        try:
            for disk, name in zip(wanted, names(wanted), strict=True):
                if name in had and disk.role != "swap":
                    total += self._disks.grow(had[name], disk.size_bytes)
                    disks.append(had[name])
                elif disk.size_bytes:
                    (root / name).unlink(missing_ok=True)
                    disks.append(self._disks.make(disk, root / name, root / BASE, spec.instance.image_ref))
                    total += disk.size_bytes
        except OSError as error:
            raise from_os("the guest's disks cannot be resized", error) from error
        return replace(record, laid=replace(record.laid, disks=tuple(disks)), disk_bytes=total)

    def take(self, uuid: str, record: Record) -> None:
        """Record it of the guest, and remove the disks that it has no more. Raises GuestNotFound, DriverError."""
        root = self.path(uuid)
        gone = {disk.path for disk in self.record(uuid).laid.disks} - {disk.path for disk in record.laid.disks}
        try:
            records.write(root, record)
            for path in gone:
                path.unlink(missing_ok=True)
        except OSError as error:
            raise from_os("the guest's disks cannot be resized", error) from error

    def rescue(self, spec: GuestSpec, *, stable: bool) -> Laid:
        """Make a new rescue disk of the image of the spec's root disk, with a config drive of its own. `stable`: the
        guest's own disks keep their places.

        Raises GuestNotFound, ImageUnacceptable, HostOutOfSpace, DriverError; then the guest is not rescued.
        """
        self.unrescue(spec.instance.uuid)
        root, record, disk = self.path(spec.instance.uuid), self.record(spec.instance.uuid), spec.disks[0]
        if disk.image is None:
            raise DriverError(reason="There is no image to rescue the guest from.")
        disk = replace(self._inspected(disk, spec), role="rescue")
        try:
            self._disks.check_space(self._directory, (disk,), _drive_bytes(spec))
            mine = self._disks.make(disk, root / RESCUE, root / RESCUE_BASE, spec.instance.image_ref)
            own = record.laid.disks
            laid = replace(record.laid, disks=(*own, mine) if stable else (mine, *own), kernel=None, ramdisk=None)
            if spec.kernel is not None:
                same(spec.kernel, root / RESCUE_KERNEL)
                laid = replace(laid, kernel=root / RESCUE_KERNEL)
            if spec.ramdisk is not None:
                same(spec.ramdisk, root / RESCUE_RAMDISK)
                laid = replace(laid, ramdisk=root / RESCUE_RAMDISK)
            if spec.config_drive is not None:
                laid = self._drive(laid, root, spec, RESCUE_DRIVE)
            records.write(root, replace(record, rescued=laid))
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
                records.write(root, replace(record, rescued=None))
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

    def _inspected(self, disk: Disk, spec: GuestSpec) -> Disk:
        return disk if disk.image is None else self._disks.inspected(disk, spec.instance.image_ref)

    def _filled(self, root: Path, spec: GuestSpec, wanted: list[Disk]) -> Laid:
        """All files of a new guest, in its directory."""
        disks = tuple(
            self._disks.make(disk, root / name, root / BASE, spec.instance.image_ref)
            for disk, name in zip(wanted, names(wanted), strict=True)
        )
        laid = Laid(
            disks,
            root / CONSOLE,
            kernel=None if spec.kernel is None else root / "kernel",
            ramdisk=None if spec.ramdisk is None else root / "ramdisk",
        )
        for name in ("kernel", "ramdisk"):
            source = getattr(spec, name)
            if source is not None:
                same(source, root / name)
        if spec.config_drive is not None:
            laid = self._drive(laid, root, spec)
        records.write(root, Record(laid, sum(disk.size_bytes for disk in wanted)))
        return laid

    def _drive(self, laid: Laid, root: Path, spec: GuestSpec, name: str = DRIVE) -> Laid:
        assert spec.config_drive is not None
        kind = self._settings.config_drive_format
        drive.make(spec.config_drive, root / name, kind, self._settings.mkisofs_cmd)
        return replace(laid, drive=root / name, drive_is_cdrom=kind == "iso9660")


def _drive_bytes(spec: GuestSpec) -> int:
    return sum(len(file.content) for file in spec.config_drive or ())


def _is_uuid(name: str) -> bool:
    try:
        return str(UUID(name)) == name
    except ValueError:
        return False
