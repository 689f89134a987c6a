"""Guests are rescued: started from another disk than their own."""

from __future__ import annotations

from cell_service.errors import DriverError
from compute_host.virt.driver import GuestSpec
from compute_host.virt.libvirt import states
from compute_host.virt.libvirt.guests import ALIVE, LibvirtGuests, pull_the_plug


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
            laid = self._storage.rescue(spec, stable=stable)
            try:
                self._define_and_start(spec, laid)
            except BaseException:
                self._define(spec, self._storage.unrescue(uuid))
                raise
            self._noted(uuid)

    def unrescue(self, spec: GuestSpec) -> None:
        uuid = spec.instance.uuid
        with self._watch.hushed(uuid), self._gate(uuid), self._guest(uuid) as found:
            if self._storage.record(uuid).rescued is not None:
                pull_the_plug(found)
            if not found.isActive():
                self._define_and_start(spec, self._storage.keep(spec, own=True))
            self._storage.unrescue(uuid)  # not before: a guest that does not start is still rescued
            self._noted(uuid)
