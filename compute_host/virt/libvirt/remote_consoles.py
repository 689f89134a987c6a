"""Opening consoles of guests that run."""

from __future__ import annotations

from cell_service.errors import ConsoleTypeUnavailable, InstanceNotReady
from cell_service.model.console import ConsolePlace
from compute_host.virt.libvirt import console_places
from compute_host.virt.libvirt.guests import LibvirtGuests


class ConsoleVerbs(LibvirtGuests):
    """See `virt.driver.RemoteConsoles`."""

    def remote_console(self, uuid: str, kind: str) -> ConsolePlace:
        if kind not in console_places.DEVICES:
            raise ConsoleTypeUnavailable(console_type=kind)
        with self._guest(uuid) as found:
            if not found.isActive():
                raise InstanceNotReady(instance_uuid=uuid)
            return console_places.place(found.XMLDesc(0), kind, self._settings.consoles)
