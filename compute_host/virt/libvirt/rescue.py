"""Guests are rescued: started from another disk than their own."""

from __future__ import annotations

from typing import Any

import libvirt

from cell_service.errors import DriverError
from compute_host.virt.driver import GuestSpec
from compute_host.virt.libvirt import states
from compute_host.virt.libvirt.drive import from_os
from compute_host.virt.libvirt.guests import ALIVE, LibvirtGuests, pull_the_plug

OWN = "own.xml"
"""The definition by which the guest runs from its own disks, while it is rescued."""


class RescueVerbs(LibvirtGuests):
    """See `virt.driver.Rescuable`."""

    def rescue(self, spec: GuestSpec, *, stable: bool) -> None:
        uuid = spec.instance.uuid
        with self._watch.hushed(uuid), self._gate(uuid), self._guest(uuid) as found:
            if self._storage.record(uuid).rescued is not None:
                pull_the_plug(found)
            elif (state := states.of(found)) in ALIVE:
                raise DriverError(reason=f"The guest is {state.name.lower()}: it cannot be rescued.")
            if found.hasManagedSaveImage():
                found.managedSaveRemove()
            own = self._kept_definition(uuid, found)
            laid = self._storage.rescue(spec, stable=stable)
            in_place = stable or spec.instance.volume_backed
            try:
                self._define_and_start(spec, laid, own if in_place else "")
            except BaseException:
                self._define(spec, self._storage.unrescue(uuid), own)
                raise
            self._noted(uuid)

    def unrescue(self, spec: GuestSpec) -> None:
        uuid = spec.instance.uuid
        with self._watch.hushed(uuid), self._gate(uuid), self._guest(uuid) as found:
            if self._storage.record(uuid).rescued is not None:
                pull_the_plug(found)
            if not found.isActive():
                own = self._own_definition(uuid)
                self._define_and_start(spec, self._storage.keep(spec, own=True), own)
            self._storage.unrescue(uuid)  # not before: a guest that does not start is still rescued
            self._noted(uuid)

    def _kept_definition(self, uuid: str, found: Any) -> str:
        """The guest's definition as it was before it was rescued, stored until the next time. Raises DriverError."""
        if self._storage.record(uuid).rescued is not None and (known := self._own_definition(uuid)) is not None:
            return known
        text, path = str(found.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)), self._storage.path(uuid) / OWN
        part = path.with_suffix(".part")
        try:
            part.write_text(text, encoding="utf-8")
            part.replace(path)
        except OSError as error:
            raise from_os("the guest's definition cannot be stored", error) from error
        return text

    def _own_definition(self, uuid: str) -> str | None:
        """None for a guest that an earlier version rescued."""
        try:
            return (self._storage.path(uuid) / OWN).read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
