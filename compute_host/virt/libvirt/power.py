"""Guests are started, stopped and restarted."""

from __future__ import annotations

import contextlib
import itertools
import logging
from collections.abc import Callable
from typing import Any

import libvirt

from cell_service.errors import DriverError
from cell_service.logs import about
from cell_service.model.lifecycle import PowerState
from compute_host.virt.driver import GuestSpec
from compute_host.virt.libvirt import guest_agent, states
from compute_host.virt.libvirt.guests import LibvirtGuests, pull_the_plug
from compute_host.virt.libvirt.volumes import has_volumes

log = logging.getLogger(__name__)

LOOK_SECONDS, ASK_AGAIN_SECONDS = 0.2, 10.0


class PowerVerbs(LibvirtGuests):
    """See `virt.driver.Driver`."""

    def power_on(self, spec: GuestSpec) -> None:
        uuid = spec.instance.uuid
        with self._gate(uuid), self._connection.use(uuid) as connection:
            found = self._find(connection, uuid)
            if found is None:
                self._define_and_start(spec, self._storage.keep(spec))
            elif not found.isActive():
                in_place = has_volumes(found, self._volumes.connect_all(uuid, spec.instance.block_devices))
                if found.hasManagedSaveImage():
                    self._go_on_from_memory(found, in_place=in_place)
                elif in_place:
                    found.create()
                else:  # they changed while the host was down
                    self._define_and_start(spec, self._storage.keep(spec))
            self._noted(uuid)

    def power_off(self, uuid: str, *, graceful_seconds: float) -> None:
        with self._watch.hushed(uuid), self._guest(uuid) as found:
            if states.of(found) is PowerState.RUNNING and graceful_seconds > 0:
                self._shut_down(found, graceful_seconds)
            with self._gate(uuid):
                if states.of(found) is PowerState.SUSPENDED:
                    found.managedSaveRemove()
                pull_the_plug(found)
                self._noted(uuid)

    def reboot(self, spec: GuestSpec, *, hard: bool) -> None:
        uuid = spec.instance.uuid
        with self._watch.hushed(uuid):
            if not hard:
                if self._rebooted_softly(spec):
                    return
                log.warning("guest does not shut down, rebooted hard", extra=about(None, instance=uuid))
            self._reboot_hard(spec)

    def pause(self, uuid: str) -> None:
        self._switch("pause", uuid, PowerState.RUNNING, PowerState.PAUSED, lambda found: found.suspend())

    def unpause(self, uuid: str) -> None:
        self._switch("unpause", uuid, PowerState.PAUSED, PowerState.RUNNING, lambda found: found.resume())

    def suspend(self, uuid: str) -> None:
        self._switch("suspend", uuid, PowerState.RUNNING, PowerState.SUSPENDED, lambda found: found.managedSave())

    def resume(self, spec: GuestSpec) -> None:
        uuid = spec.instance.uuid

        def start(found: Any) -> None:
            sources = self._volumes.connect_all(uuid, spec.instance.block_devices)
            self._go_on_from_memory(found, in_place=has_volumes(found, sources))

        self._switch("resume", uuid, PowerState.SUSPENDED, PowerState.RUNNING, start)

    def trigger_crash_dump(self, uuid: str) -> None:
        with self._guest(uuid) as found:
            if not found.isActive():
                raise DriverError(reason="The guest does not run: it cannot write a crash dump.")
            found.injectNMI(0)

    def _go_on_from_memory(self, found: Any, *, in_place: bool) -> None:
        """Start the guest from its saved memory, which has its volumes where they were by then. Raises DriverError
        where they are not `in_place`, libvirtError."""
        if not in_place:
            raise DriverError(reason="The guest's volumes have changed since it was suspended: it needs a hard reboot.")
        found.create()

    def _rebooted_softly(self, spec: GuestSpec) -> bool:
        uuid = spec.instance.uuid
        with self._guest(uuid) as found:
            if states.of(found) is not PowerState.RUNNING:
                raise DriverError(reason="The guest does not run, so it cannot reboot by itself.")
            if not self._shut_down(found, self._settings.libvirt.wait_soft_reboot_seconds):
                return False
            with self._gate(uuid):
                if not found.isActive():
                    self._volumes.connect_all(uuid, spec.instance.block_devices)
                    found.create()
                self._noted(uuid)
            return True

    def _reboot_hard(self, spec: GuestSpec) -> None:
        uuid = spec.instance.uuid
        with self._gate(uuid), self._connection.use(uuid) as connection:
            laid = self._storage.keep(spec)
            found = self._find(connection, uuid)
            if found is not None:
                pull_the_plug(found)
                if found.hasManagedSaveImage():
                    found.managedSaveRemove()
            self._define_and_start(spec, laid)
            self._noted(uuid)

    def _switch(
        self, verb: str, uuid: str, before: PowerState, after: PowerState, act: Callable[[Any], object]
    ) -> None:
        with self._gate(uuid), self._guest(uuid) as found:
            now = states.of(found)
            if now is after:
                return
            if now is not before:
                raise DriverError(reason=f"The guest is {now.name.lower()}: cannot {verb} it.")
            act(found)
            self._noted(uuid)

    def _shut_down(self, found: Any, seconds: float) -> bool:
        """Request the guest's shutdown, repeatedly: of its guest agent, where one answers, and by the power button in
        turns. Returns whether it shut down within that time."""
        begun, requested = self._clock.monotonic(), -ASK_AGAIN_SECONDS
        ways = itertools.cycle((guest_agent.shut_down_or_press_button, _press_button))
        while True:
            if not found.isActive():
                return True
            passed = self._clock.monotonic() - begun
            if passed >= seconds:
                return False
            if passed - requested >= ASK_AGAIN_SECONDS:
                requested = passed
                with contextlib.suppress(libvirt.libvirtError):  # it may have just shut down
                    next(ways)(found)
            self._clock.wait(self._stopped, min(LOOK_SECONDS, seconds - passed))
            if self._stopped.is_set():
                raise DriverError(reason="The driver was stopped.")


def _press_button(found: Any) -> None:
    found.shutdownFlags(libvirt.VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN)
