"""The driver of a host with libvirt: its verbs are in modules of their own, an ability each."""

from __future__ import annotations

from cell_service.model.ability import Ability
from cell_service.model.diagnostics import GuestDiagnostics
from cell_service.model.host import NodeReport
from cell_service.model.instance import Instance
from compute_host.virt.driver import GuestSpec, PowerListener, Returned, unheard
from compute_host.virt.libvirt import console, diagnostics, limits_probe, node
from compute_host.virt.libvirt.domain import demands
from compute_host.virt.libvirt.interfaces import InterfaceVerbs
from compute_host.virt.libvirt.power import PowerVerbs
from compute_host.virt.libvirt.remote_consoles import ConsoleVerbs
from compute_host.virt.libvirt.rescue import RescueVerbs
from compute_host.virt.libvirt.snapshots import SnapshotVerbs
from compute_host.virt.libvirt.spawning import SpawnVerbs
from compute_host.virt.libvirt.swaps import SwapVerbs


class LibvirtDriver(SpawnVerbs, PowerVerbs, InterfaceVerbs, SwapVerbs, SnapshotVerbs, RescueVerbs, ConsoleVerbs):
    """See `virt.driver.Driver`."""

    def start(self, listener: PowerListener, returned: Returned = unheard) -> None:
        self._stopped.clear()
        self._node_uuid = node.node_uuid(self._settings.state)
        self._connection.open()
        self._capabilities()
        self.disconnect_leftovers()
        self._watch.start(listener, returned, self.guests)
        self._freezing.start()

    def stop(self) -> None:
        self._stopped.set()
        self._freezing.stop()
        self._watch.stop()
        self._connection.close()

    def nodes(self) -> tuple[NodeReport, ...]:
        known, kvm = self._capabilities()
        with self._connection.use() as connection:
            host = connection.getInfo()
            if self._limits is None:
                plugs_nothing = self._settings.libvirt.user_networking
                self._limits = limits_probe.abilities(connection, user_networking=plugs_nothing)
        use, able = self._use(), self._limits
        if self._locks.are_possible():
            able = (*able, Ability.ENCRYPTED_VOLUMES.value)
        return (node.report(self._settings, self._node_uuid, known, host, use, kvm=kvm, abilities=able),)

    def machine_type(self, instance: Instance) -> str:
        return demands.machine_type(demands.of_guest(GuestSpec(instance, (), ())), self._choices())

    def console_output(self, uuid: str) -> str:
        return console.tail(self._storage.record(uuid).laid.console)

    def diagnostics(self, uuid: str) -> GuestDiagnostics:
        with self._guest(uuid) as found:
            return diagnostics.of(found, "kvm" if self._capabilities()[1] else "qemu")
