"""Volumes of running guests that are replaced by others with their content: QEMU copies, and goes on with the copy.

A larger volume is as large for its guest as the old one was, until that is started again: QEMU can't change over to
another size.

libvirt rewrites the source in the stored definition when QEMU has changed over. So the stored definition says which of
the volumes has all that was written, also when this process ends at that moment, and the guest after it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any
from xml.etree.ElementTree import Element

import libvirt

from cell_service.errors import DriverError, GuestNotFound, HypervisorAway, NotYet, OperationLost, PolycellError
from cell_service.logs import about
from cell_service.model.block_device import BlockDevice
from compute_host.virt.driver import GIB, GuestSpec
from compute_host.virt.libvirt import domain
from compute_host.virt.libvirt.domain import VolumeSource, swapped
from compute_host.virt.libvirt.volumes import CONFIG, VolumeVerbs, is_at, running_disks, stored_disks, write_swapped

log = logging.getLogger(__name__)

LOOK_SECONDS = 0.5
_COPIED = "disk"


class SwapVerbs(VolumeVerbs):
    """See `virt.driver.Swapping`."""

    def swap_volume(self, spec: GuestSpec, old: BlockDevice, new: BlockDevice, check: Callable[[], None]) -> None:
        uuid, old_id, new_id = spec.instance.uuid, old.volume_id or "", new.volume_id or ""
        try:
            source = self._begun(spec, old_id, new)
            if source is not None:
                self._await_copy(uuid, old_id, source, check)
                self._change_over(uuid, old_id, source)
        except (OperationLost, NotYet):
            raise
        except HypervisorAway as error:
            raise NotYet(reason=str(error)) from error
        except PolycellError:
            self._end_copy(uuid, old_id, new)
            raise
        try:
            self._name_swapped(spec, old, new)
            with self._gate(uuid):
                self._volumes.disconnect(uuid, old_id)
        except PolycellError as error:  # the guest writes to the new volume: there is no way back
            raise NotYet(reason=str(error)) from error
        log.info("volume swapped", extra=about(None, instance=uuid, volume=old_id, by=new_id))

    # -- inside --------------------------------------------------------------------------------------

    def _begun(self, spec: GuestSpec, old_id: str, new: BlockDevice) -> VolumeSource | None:
        """Begin the copy, unless it has begun. Returns its target; None when the guest has the new volume already.
        Raises DriverError, libvirtError."""
        uuid, new_id = spec.instance.uuid, new.volume_id or ""
        with self._gate(uuid), self._guest(uuid) as found:
            source = self._volumes.known(uuid, new)
            if new_id in stored_disks(found) or _has_changed(found, old_id, source):
                return None
            if not found.isActive():
                raise DriverError(reason="The guest does not run: its volumes cannot be swapped.")
            disk = _disk(found, old_id)
            kind = disk.get("device", "")
            if kind != _COPIED:
                raise DriverError(reason=f"Volume {old_id} is a device of type {kind}, which cannot be swapped.")
            source = self._volumes.connect(uuid, new)
            if not _is_copied_to(disk, source):
                _end_job(found, disk)
                size = found.blockInfo(_name(disk))[0]
                target = domain.copy_target(source, size if size < (new.volume_size or 0) * GIB else None)
                flags = libvirt.VIR_DOMAIN_BLOCK_COPY_TRANSIENT_JOB | libvirt.VIR_DOMAIN_BLOCK_COPY_REUSE_EXT
                found.blockCopy(_name(disk), target, {}, flags)
            return source

    def _await_copy(self, uuid: str, old_id: str, source: VolumeSource, check: Callable[[], None]) -> None:
        """Wait until the copy has all that the volume has, and follows it. Raises DriverError, NotYet, and what `check`
        raises."""
        while True:
            check()
            with self._guest(uuid) as found:
                if _has_changed(found, old_id, source):
                    return
                if not found.isActive():
                    raise DriverError(reason="The guest does not run any more: its volume is not copied.")
                disk = _disk(found, old_id)
                if not _is_copied_to(disk, source):
                    raise DriverError(reason=f"The copy of volume {old_id} has failed.")
                if _mirror_state(disk) == "yes":
                    return
            self._clock.wait(self._stopped, LOOK_SECONDS)
            if self._stopped.is_set():
                raise NotYet(reason="The driver was stopped.")

    def _change_over(self, uuid: str, old_id: str, source: VolumeSource) -> None:
        """Have the guest go on with the copy. Raises DriverError, libvirtError."""
        with self._gate(uuid), self._guest(uuid) as found:
            if not _has_changed(found, old_id, source):
                found.blockJobAbort(_name(_disk(found, old_id)), libvirt.VIR_DOMAIN_BLOCK_JOB_ABORT_PIVOT)
                if not _has_changed(found, old_id, source):
                    raise DriverError(reason=f"The guest does not go on with the copy of volume {old_id}.")

    def _end_copy(self, uuid: str, old_id: str, new: BlockDevice) -> None:
        """End a copy that has failed: the guest has the old volume. Raises NotYet when that is not certain."""
        try:
            target = self._volumes.known(uuid, new)
        except DriverError:
            target = None  # nothing was ever copied to what cannot be a disk
        try:
            with self._gate(uuid), self._guest(uuid) as found:
                if _has_changed(found, old_id, target):
                    raise NotYet(reason="The guest has the new volume.")
                disk = running_disks(found).get(old_id)
                if disk is not None:
                    _end_job(found, disk)
        except GuestNotFound:
            return
        except PolycellError as error:
            raise NotYet(reason=str(error)) from error

    def _name_swapped(self, spec: GuestSpec, old: BlockDevice, new: BlockDevice) -> None:
        """Have both definitions say that the disk is the new volume. Raises DriverError, libvirtError."""
        uuid, old_id, new_id = spec.instance.uuid, old.volume_id or "", new.volume_id or ""
        with self._gate(uuid), self._guest(uuid) as found:
            disk = running_disks(found).get(old_id)
            if disk is not None:
                write_swapped(found, swapped.with_volume(found.XMLDesc(0), disk, new_id))
            disk, source = stored_disks(found).get(old_id), self._volumes.known(uuid, new)
            if disk is not None and source is not None:
                found.updateDeviceFlags(domain.volume_instead(spec, new, source, self._choices(), disk), CONFIG)


def _has_changed(found: Any, old_id: str, source: VolumeSource | None) -> bool:
    """Whether the guest goes on with the copy of the volume, or did so until it ended."""
    disk = stored_disks(found).get(old_id)
    return disk is not None and source is not None and is_at(disk, source)


def _disk(found: Any, volume_id: str) -> Element:
    """The volume's disk in the running guest. Raises DriverError."""
    disk = running_disks(found).get(volume_id)
    if disk is None:
        raise DriverError(reason=f"The guest does not have the volume {volume_id}.")
    return disk


def _is_copied_to(disk: Element, source: VolumeSource) -> bool:
    mirror = disk.find("mirror")
    return mirror is not None and is_at(mirror, source)


def _mirror_state(disk: Element) -> str:
    """yes: the copy follows the disk; abort or pivot: its end has been requested."""
    mirror = disk.find("mirror")
    return "" if mirror is None else mirror.get("ready", "")


def _name(disk: Element) -> str:
    target = disk.find("target")
    return "" if target is None else target.get("dev", "")


def _end_job(found: Any, disk: Element) -> None:
    """End the disk's block job, if it has one. Raises libvirtError."""
    if found.blockJobInfo(_name(disk), 0):
        found.blockJobAbort(_name(disk), 0)
