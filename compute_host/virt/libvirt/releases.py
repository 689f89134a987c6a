"""Devices that running guests release: a device is detached when its guest says so, and not before."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any
from xml.etree.ElementTree import Element

import libvirt

from cell_service.errors import DriverError
from compute_host.virt.libvirt.guests import LibvirtGuests

LOOK_SECONDS = 1.0
_PENDING = "already in the process of unplug"


class Releases(LibvirtGuests):
    """The base of the verbs that detach."""

    def _await_release(self, uuid: str, what: str, find: Callable[[str], Element | None]) -> None:
        """Have the running guest release the device that `find` finds in its definition, if it has it: it is requested
        repeatedly, for a guest that is just starting does not hear it. `what`: as errors name it. Raises GuestNotFound,
        DriverError when the guest keeps it."""
        options = self._settings.libvirt
        for _ in range(options.device_detach_attempts):
            with contextlib.ExitStack() as awaited:
                with self._gate(uuid), self._guest(uuid) as found:
                    device = _running(found, find)
                    if device is None:
                        return
                    removal = awaited.enter_context(self._removals.awaited(uuid, _alias(device)))
                    _request(found, _alias(device))
                until = self._clock.monotonic() + options.device_detach_timeout
                while (left := until - self._clock.monotonic()) > 0:
                    self._clock.wait(removal.over, min(LOOK_SECONDS, left))
                    if removal.refused:
                        raise DriverError(reason=f"The guest refuses to release the {what}.")
                    if self._stopped.is_set():
                        raise DriverError(reason="The driver was stopped.")
                    with self._guest(uuid) as found:  # the report may be lost with libvirtd
                        if _running(found, find) is None:
                            return
                    if removal.over.is_set():
                        break  # it has the device again, of a hard reboot
        seconds = options.device_detach_attempts * options.device_detach_timeout
        raise DriverError(reason=f"The guest has not released the {what} within {seconds} s.")


def _running(found: Any, find: Callable[[str], Element | None]) -> Element | None:
    """The device of the running guest; None when it is off."""
    return find(found.XMLDesc(0)) if found.isActive() else None


def _request(found: Any, alias: str) -> None:
    """Raises libvirtError, but not when it is requested, or done, already."""
    try:
        found.detachDeviceAlias(alias, libvirt.VIR_DOMAIN_AFFECT_LIVE)
    except libvirt.libvirtError as error:
        if error.get_error_code() != libvirt.VIR_ERR_DEVICE_MISSING and _PENDING not in str(error):
            raise


def _alias(device: Element) -> str:
    found = device.find("alias")
    return "" if found is None else found.get("name", "")
