"""Volumes of a guest, in its running and in its stored definition."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Mapping
from typing import Any
from xml.etree.ElementTree import Element

import libvirt

from cell_service.errors import DriverError, GuestNotFound, NotYet, PolycellError
from cell_service.logs import about
from cell_service.model.block_device import BlockDevice
from compute_host.virt.driver import GIB, GuestSpec
from compute_host.virt.libvirt import domain, growing
from compute_host.virt.libvirt.domain import VolumeSource, swapped
from compute_host.virt.libvirt.releases import Releases

log = logging.getLogger(__name__)

LIVE, CONFIG = libvirt.VIR_DOMAIN_AFFECT_LIVE, libvirt.VIR_DOMAIN_AFFECT_CONFIG


class VolumeVerbs(Releases):
    """See `virt.driver.Attachable`."""

    def volume_connector(self) -> dict[str, Any]:
        return self._brick.properties(self._settings.host, self._settings.my_ip)

    def attach_volume(self, spec: GuestSpec, device: BlockDevice) -> None:
        """The running guest first: where it refuses, its stored definition is as it was. Both have the same name and
        address for the volume."""
        uuid, volume_id = spec.instance.uuid, device.volume_id or ""
        with self._gate(uuid), self._guest(uuid) as found:
            source = self._volumes.connect(uuid, device)
            try:
                had = _definitions(found)
                if swapped.has_gone(had.get(LIVE, "<domain/>")):
                    write_swapped(found, swapped.present(had[LIVE]))
                disks = {flag: domain.volume_disks(text) for flag, text in had.items()}
                if any(volume_id not in known for known in disks.values()):
                    _demand_no_saved_memory(found)
                text = next((domain.like(known[volume_id]) for known in disks.values() if volume_id in known), None)
                text = text or domain.volume(spec, device, source, self._choices(), had.values())
                for flag in had:
                    if volume_id not in disks[flag]:
                        found.attachDeviceFlags(text, flag)
                    if flag == LIVE:
                        text = domain.like(domain.volume_disks(found.XMLDesc(0))[volume_id])
            except BaseException:
                self._disconnect_unused(found, uuid, volume_id)
                raise

    def detach_volume(self, uuid: str, device: BlockDevice) -> None:
        """The running guest first: while it has not released the volume, its stored definition has it too."""
        volume_id = device.volume_id or ""
        with contextlib.suppress(GuestNotFound):
            self._await_release(uuid, "volume", lambda text: domain.volume_disks(text).get(volume_id))
            with self._gate(uuid), self._guest(uuid) as found:
                disk = stored_disks(found).get(volume_id)
                if disk is not None:
                    _demand_no_saved_memory(found)
                    found.detachDeviceFlags(domain.like(disk), CONFIG)
        with self._gate(uuid):
            try:
                self._volumes.disconnect(uuid, volume_id)
            except PolycellError as error:  # the guest has released it: there is no way back
                raise NotYet(reason=str(error)) from error

    def disconnect_volume(self, uuid: str, volume_id: str) -> None:
        with self._gate(uuid):
            if self._is_active(uuid):
                raise DriverError(reason=f"The guest runs: the host stays connected to volume {volume_id}.")
            self._volumes.disconnect(uuid, volume_id)

    def extend_volume(self, uuid: str, device: BlockDevice) -> None:
        """A guest that is off finds the new size when it starts."""
        volume_id = device.volume_id or ""
        with self._gate(uuid), self._guest(uuid) as found:
            self._volumes.extend(uuid, volume_id)
            if not found.isActive():
                return
            disk = running_disks(found).get(volume_id)
            if disk is None:
                raise DriverError(reason=f"The guest does not have the volume {volume_id}.")
            size = (device.volume_size or 0) * GIB - self._volumes.header_bytes(uuid, device)
            growing.grow(found, disk, size, self._clock, self._stopped)

    def disconnect_leftovers(self) -> None:
        """Disconnect the host from volumes of guests that are no more here: of an agent that was killed while it
        removed them. One that can't be disconnected is logged. Raises DriverError when the guests can't be read."""
        there = {guest.uuid for guest in self.guests()}
        for uuid in self._volumes.guests():
            if uuid not in there:
                try:
                    self._volumes.disconnect_all(uuid)
                except DriverError as error:
                    log.warning("volumes stay connected", extra=about(None, instance=uuid, reason=error))

    # -- inside --------------------------------------------------------------------------------------

    def _disconnect_unused(self, found: Any, uuid: str, volume_id: str) -> None:
        """Disconnect the host from a volume that could not be attached."""
        try:
            with self._connection.use(uuid):
                if not any(volume_id in domain.volume_disks(text) for text in _definitions(found).values()):
                    self._volumes.disconnect(uuid, volume_id)
        except PolycellError as error:
            log.warning("volume stays connected", extra=about(None, instance=uuid, volume=volume_id, reason=error))


def has_volumes(found: Any, sources: Mapping[str, VolumeSource]) -> bool:
    """Whether the stored definition has these volumes, where they are now, and no others. A path may be another
    volume's once the host was down."""
    stored = {serial: disk for serial, disk in stored_disks(found).items() if serial != domain.ROOT_SERIAL}
    return stored.keys() == sources.keys() and all(is_at(disk, sources[key]) for key, disk in stored.items())


def is_at(disk: Element, source: VolumeSource) -> bool:
    """Whether the disk, or its mirror, is the volume which is there."""
    known = disk.find("source")
    return (
        known is not None
        and source.attributes.items() <= known.attrib.items()
        and [dict(host.attrib) for host in known.iterfind("host")] == [dict(host) for host in source.hosts]
    )


def write_swapped(found: Any, known: swapped.Known) -> None:
    """Record the swapped volumes of the running guest. Raises libvirtError."""
    kind = libvirt.VIR_DOMAIN_METADATA_ELEMENT
    found.setMetadata(kind, swapped.metadata(known), swapped.PREFIX, swapped.NAMESPACE, LIVE)


def _definitions(found: Any) -> dict[int, str]:
    """The guest's definitions by their flags: the running one first, if there is one."""
    stored = {CONFIG: str(found.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE))}
    return {LIVE: str(found.XMLDesc(0)), **stored} if found.isActive() else stored


def running_disks(found: Any) -> dict[str, Element]:
    """The disks with serial numbers of the running guest; none when it is off."""
    return domain.volume_disks(_definitions(found).get(LIVE, "<domain/>"))


def stored_disks(found: Any) -> dict[str, Element]:
    return domain.volume_disks(found.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE))


def _demand_no_saved_memory(found: Any) -> None:
    """A guest that goes on from its memory has the devices that it had. Raises DriverError."""
    if not found.isActive() and found.hasManagedSaveImage():
        raise DriverError(reason="The guest is suspended: its volumes cannot change before it is resumed.")
