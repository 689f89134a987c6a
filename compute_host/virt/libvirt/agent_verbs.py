"""Passwords are set, and file systems frozen, by the agents of guests."""

from __future__ import annotations

from contextlib import AbstractContextManager

from cell_service.context import Clock
from cell_service.model.guest_agent import Quiesce, lacks_agent
from cell_service.peers.keys import Keys
from compute_host.config import HostSettings
from compute_host.virt.driver import GuestSpec
from compute_host.virt.libvirt import guest_agent
from compute_host.virt.libvirt.freezing import Freezing
from compute_host.virt.libvirt.guests import ALIVE, LibvirtGuests


class GuestAgentVerbs(LibvirtGuests):
    """See `virt.driver.Passwords` and `virt.driver.Quiescing`."""

    def __init__(self, settings: HostSettings, clock: Clock, keys: Keys | None = None) -> None:
        super().__init__(settings, clock, keys)
        self._freezing = Freezing(self._storage, self._guest, clock)

    def set_admin_password(self, spec: GuestSpec, password: str) -> None:
        if (refusal := lacks_agent(spec.instance)) is not None:
            raise refusal
        with self._guest(spec.instance.uuid) as found:
            guest_agent.set_password(found, guest_agent.administrator(spec.image_properties), password)

    def quiesced(self, uuid: str, quiesce: Quiesce) -> AbstractContextManager[None]:
        runs = self.power_state(uuid) in ALIVE
        return self._freezing.frozen(uuid, quiesce if runs else Quiesce.NO)
