"""The protocol of drivers, and the drivers."""

from __future__ import annotations

from cell_service.errors import Invalid
from cell_service.peers.keys import Keys
from compute_host.config import HostSettings
from compute_host.timers import Executor, Timers
from compute_host.virt.driver import Driver
from compute_host.virt.simulated import SimulatedDriver


def make_driver(settings: HostSettings, timers: Timers, pool: Executor, keys: Keys | None = None) -> Driver:
    """The driver that `compute_driver` names. `keys`: of encrypted volumes. Raises Invalid for an unknown name."""
    if settings.compute_driver == "simulated.SimulatedDriver":
        return SimulatedDriver(settings, timers, pool)
    if settings.compute_driver == "libvirt.LibvirtDriver":
        try:
            from compute_host.virt.libvirt.driver import LibvirtDriver
        except ImportError as error:
            raise Invalid(reason=f"[DEFAULT] compute_driver: libvirt-python is not installed ({error})") from error
        return LibvirtDriver(settings, timers.clock, keys)
    raise Invalid(reason=f"[DEFAULT] compute_driver: there is no driver {settings.compute_driver}")
